"""What a steward does: opens a release, approves or rejects it, asks for more, withdraws or revokes it. Forms only.

After each the browser is sent to a page, so that loading it again does nothing twice.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from shared.errors import SynthwardError
from shared.release import State
from site_node.airlock.review_app.context import Fields, Parts, SignedIn, text_of, to

router = APIRouter()


@router.post("/releases/{release_id}/open")
def open_release(context: Parts, session: SignedIn, _fields: Fields, release_id: str) -> Response:
    """Opens a release; the journal says so."""
    context.desk.open(session, release_id)
    return to(f"/releases/{release_id}")


@router.post("/releases/{release_id}/approve")
def approve(context: Parts, session: SignedIn, fields: Fields, release_id: str) -> Response:
    """A vote for the digest that stood on the page."""
    if fields.get("looked") != "yes":
        raise SynthwardError(
            "review.form", "you have not confirmed that you looked at all samples", do="go back and tick the box"
        )
    desk = context.desk
    release = desk.airlock.approve(desk.policy, release_id, session.name, reviewed_sha256=fields.get("digest", ""))
    return to("/?done=voted" if release.state is State.IN_REVIEW else "/?done=approved")


@router.post("/releases/{release_id}/reject")
def reject(context: Parts, session: SignedIn, fields: Fields, release_id: str) -> Response:
    """Keeps a release in, for good."""
    context.desk.airlock.reject(
        context.desk.policy, release_id, session.name, text_of(fields, "reason", "the reason")
    )  # fmt: skip
    return to("/?done=rejected")


@router.post("/releases/{release_id}/ask")
def ask(context: Parts, session: SignedIn, fields: Fields, release_id: str) -> Response:
    """Asks for more: votes given so far are void, and whoever may review opens it again."""
    context.desk.airlock.ask(
        context.desk.policy, release_id, session.name, text_of(fields, "text", "the question")
    )  # fmt: skip
    return to("/?done=asked")


@router.post("/releases/{release_id}/withdraw")
def withdraw(context: Parts, session: SignedIn, fields: Fields, release_id: str) -> Response:
    """Takes a release back before its first byte has left."""
    desk, reason = context.desk, text_of(fields, "reason", "the reason")
    desk.airlock.withdraw(desk.policy, release_id, session.name, reason, take_back=desk.queue.withdraw)
    return to("/?done=withdrawn")


@router.post("/releases/{release_id}/revoke")
def revoke(context: Parts, session: SignedIn, fields: Fields, release_id: str) -> Response:
    """Takes back a release that has left: the coordinator is told, the reason stays here."""
    context.desk.airlock.revoke(
        context.desk.policy, release_id, session.name, text_of(fields, "reason", "the reason")
    )  # fmt: skip
    return to("/?done=revoked")
