"""What a signed-in steward may see of the releases: the airlock's view, with votes kept blind and views on record."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ValidationError

from shared.bundle import PairEntry, object_path
from shared.errors import SynthwardError
from shared.journal import append
from shared.pairs import Pair
from shared.png import decode_png
from shared.release import STEPS, Action, State
from shared.study import ImageSpec
from site_node.airlock.review_app.sessions import Session, Sessions
from site_node.airlock.workflow import Airlock, Release
from site_node.cases import Case, PrivateStore, journal
from site_node.jobs import Queue
from site_node.policy import Policy, read_policy
from site_node.screening.report import AuditReport, CheckName, Near
from site_node.settings import Home

UNDECIDED = (State.DRAFTED, State.SCREENED, State.IN_REVIEW)


@dataclass(frozen=True)
class Line:
    """A release in the queue."""

    release: Release
    study: str
    verdict: str


class Desk:
    """The steward's desk at one site. Reads the policy at each request: who is no steward any more is out at once."""

    def __init__(self, home: Home, store: PrivateStore, sessions: Sessions) -> None:
        self._home = home
        self._store = store
        self._sessions = sessions
        self.airlock = Airlock(store)
        self.queue = Queue(home.exchange)
        self.site = home.membership().site

    @property
    def policy(self) -> Policy:
        """The hospital's policy as it now stands."""
        return read_policy(self._home.policy_file)

    def lines(self) -> list[Line]:
        """All releases, newest first."""
        found = reversed(self.airlock.releases())
        return [Line(release, self.study_title(release), verdict_of(release)) for release in found]

    def study_title(self, release: Release) -> str:
        """The title of a release's study; the beginning of its digest where the study is not known here any more."""
        titles = {sha256: study.title for sha256, study in self.queue.studies()}
        return titles.get(release.study_sha256, release.study_sha256[:12])

    def open(self, session: Session, release_id: str) -> Release:
        """The steward opens a release; the journal says so, and this session may see its pictures."""
        release = self.airlock.release(release_id)
        if (release.state, Action.REVIEW) in STEPS:
            release = self.airlock.review(self.policy, release_id, session.name)
        else:  # decided already: looking is no step, and still on record
            with self._store.engine.begin() as connection:
                append(
                    connection, journal, actor=session.name, action="view", subject=release_id,
                    detail=release.bundle_sha256,
                )  # fmt: skip
        self._sessions.note_opened(session, release)
        return release

    def opened(self, session: Session, release_id: str) -> Release | None:
        """The release, if this session has opened it as it now is, since the last question. Raises airlock.unknown."""
        release = self.airlock.release(release_id)
        questions = self.airlock.questions(release_id)
        since = questions[-1].at if questions else ""
        return release if self._sessions.has_opened(session, release, since=since) else None

    def sample(self, release: Release, image_sha256: str) -> Pair:
        """A pair of the release, by its image's digest. Raises review.page for one that is not in it."""
        line = self._entry(release, image_sha256)
        image, mask = (object_path(release.folder, name).read_bytes() for name in (line.image, line.mask))
        return Pair(decode_png(image), decode_png(mask))

    def _entry(self, release: Release, image_sha256: str) -> PairEntry:
        for line in release.manifest.pairs:
            if line.image == image_sha256:
                return line
        raise SynthwardError("review.page", "this release has no such sample", do="go back to the release")

    def real(self, release: Release, case_id: str) -> Pair:
        """A real pair at the release's size and channels. Raises review.page when the case is not there any more."""
        manifest = release.manifest
        if case_id not in (known := self.cases()):
            raise SynthwardError(
                "review.page",
                "the real image is not here any more",
                why="the site's data was imported anew after this release was screened",
            )
        return known[case_id].load_for(ImageSpec(size_px=manifest.size_px, channels=manifest.channels))

    def cases(self) -> dict[str, Case]:
        """The site's cases by id; none where nothing is imported."""
        try:
            return {case.case_id: case for case in self._store.cases()}
        except SynthwardError as error:
            if error.code != "cohort.not-imported":
                raise
            return {}


def audit_of(release: Release) -> AuditReport | None:
    """The audit report, or None where an older version made the release and wrote another kind."""
    try:
        return AuditReport.model_validate(release.report)
    except ValidationError:
        return None


def verdict_of(release: Release) -> str:
    """passed, inconclusive or blocked; unknown for a report of another version."""
    report = audit_of(release)
    return report.verdict if report else "unknown"


def near_of(release: Release, check: CheckName, place: int) -> Near:
    """A check's place-th nearest sample, from 0. Raises review.page."""
    report = audit_of(release)
    for result in report.checks if report else ():
        if result.name == check and 0 <= place < len(result.nearest):
            return result.nearest[place]
    raise SynthwardError("review.page", "the screening has no such picture", do="go back to the release")
