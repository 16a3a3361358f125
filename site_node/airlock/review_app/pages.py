"""The pages that a steward reads: the queue, a release, all of its samples, one sample at a time."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from shared.release import STEPS, Action
from site_node.airlock.review_app.context import Parts, SignedIn, render, to
from site_node.airlock.review_app.desk import UNDECIDED, Desk, audit_of
from site_node.airlock.review_app.pictures import picture_px
from site_node.airlock.review_app.plots import nearness_plot, share_plot
from site_node.airlock.review_app.words import DONE_WORDS
from site_node.airlock.workflow import Release
from site_node.screening.report import CHECK_WORDS, AuditReport

router = APIRouter()
PER_PAGE = 48
_FORMS = {
    "approve": Action.APPROVE, "reject": Action.REJECT, "ask": Action.ASK, "withdraw": Action.WITHDRAW,
    "revoke": Action.REVOKE,
}  # fmt: skip


@router.get("/")
def queue(request: Request, context: Parts, session: SignedIn, done: str = "") -> Response:
    """All releases: what waits first. done: what a form that led here has done, by its name in DONE_WORDS."""
    lines = context.desk.lines()
    waiting = [line for line in lines if line.release.state in UNDECIDED]
    decided = [line for line in lines if line.release.state not in UNDECIDED]
    return render(
        request, "queue.html", session=session, waiting=waiting, decided=decided,
        policy=context.desk.policy, done=DONE_WORDS.get(done, ""),
    )  # fmt: skip


@router.get("/releases/{release_id}")
def release(request: Request, context: Parts, session: SignedIn, release_id: str) -> Response:
    """A release with its audit; before this session has opened it, the question whether to."""
    found = context.desk.opened(session, release_id)
    if found is None:
        return render(request, "unopened.html", session=session, release=context.desk.airlock.release(release_id))
    desk, policy = context.desk, context.desk.policy
    return render(
        request,
        "release.html",
        session=session,
        release=found,
        study=desk.study_title(found),
        history=desk.airlock.history(policy, release_id, session.name),
        questions=desk.airlock.questions(release_id),
        forms={name for name, action in _FORMS.items() if (found.state, action) in STEPS},
        voted=found.state in UNDECIDED and desk.airlock.has_voted(release_id, session.name),
        policy=policy,
        pages=_pages(found),
        picture_px=picture_px(found.manifest.size_px),
        **_audit(desk, audit_of(found)),
    )


@router.get("/releases/{release_id}/samples/{page}")
def samples(request: Request, context: Parts, session: SignedIn, release_id: str, page: int) -> Response:
    """A page of samples, 1 to _pages. Nothing is left out of a review."""
    found = context.desk.opened(session, release_id)
    if found is None:
        return to(f"/releases/{release_id}")
    pages = _pages(found)
    page = min(max(page, 1), pages)
    first = (page - 1) * PER_PAGE
    return render(
        request, "samples.html", session=session, release=found, page=page, pages=pages, first=first,
        lines=found.manifest.pairs[first : first + PER_PAGE],
    )  # fmt: skip


@router.get("/releases/{release_id}/sample/{number}")
def sample(request: Request, context: Parts, session: SignedIn, release_id: str, number: int) -> Response:
    """One sample, large: 1 to the number of pairs."""
    found = context.desk.opened(session, release_id)
    if found is None:
        return to(f"/releases/{release_id}")
    number = min(max(number, 1), len(found.manifest.pairs))
    return render(
        request, "sample.html", session=session, release=found, number=number, line=found.manifest.pairs[number - 1],
        page=(number - 1) // PER_PAGE + 1,
    )  # fmt: skip


def _pages(release: Release) -> int:
    return -(-len(release.manifest.pairs) // PER_PAGE)


def _audit(desk: Desk, report: AuditReport | None) -> dict[str, Any]:
    """What the release page draws of the report."""
    if report is None:
        return {"report": None}
    return {
        "report": report,
        "checks": [
            (result, CHECK_WORDS[result.name], nearness_plot(result.histogram, result.limit, name=result.name))
            for result in report.checks
        ],
        "controls": [
            (
                control,
                share_plot(control.found, control.floor, control.by_nearest_pixel),
                control.found.n > 0 and control.found.k >= control.floor * control.found.n,
            )
            for control in report.controls
        ],
        "known_cases": desk.cases().keys(),
    }
