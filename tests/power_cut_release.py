"""A release's way, and that of a bundle that is refused, as programs to be recorded; and what each word given promises.

    python -m tests.power_cut_release WAY FOLDER TOLD

FOLDER holds both sides as tests.loopback makes them; WAY is `accepted` or `refused`. A line in TOLD is a word given to
a person or to the other side, as JSON; `check_kept` says what must be there once it was given.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stamina
import structlog

from coordinator.datasets.build import build
from coordinator.store.checkpoints import check_rollbacks as check_coordinator
from coordinator.store.revocations import revocation
from shared.pairs import sha256_hex
from shared.release import State
from site_node.airlock.workflow import check_objects
from site_node.link import outbox
from site_node.rollback import check_rollbacks as check_site
from tests.enrolled_site import POLICY
from tests.helpers import make_sealed, manifest_of, noise_pair, png_objects, raw_entry
from tests.killed_at_each_step import RELEASE, check_end, check_not_ahead, go, take_back, turn
from tests.loopback import Aborted, Line, LocalCoordinator, LocalSite, open_both

Tell = Callable[..., None]
TAKEN_BACK = (State.REVOKING, State.REVOKED)


def teller(told: Path) -> Tell:
    """A function that writes down a word that was given, outside of the disk whose power fails."""
    descriptor = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def tell(fact: str, **details: Any) -> None:
        os.write(descriptor, (json.dumps({"fact": fact, **details}) + "\n").encode())

    return tell


class TellingLine(Line):
    """A line that writes down what each side learns of the other."""

    tell: Tell

    def call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """One call."""
        if method == "Begin":
            self.tell("bytes left")
        try:
            reply = super().call(method, request, timeout)
        except Aborted:
            self.tell("refused", codes=sorted(self.codes))
            raise
        if method == "Upload":
            self.tell("uploaded", names=sorted({chunk.object_sha256 for chunk in self.sent[-1][1]}))
        elif method in ("Finish", "Revoke"):
            self.tell(f"receipt of {method}", payload=reply.receipt.payload.hex())
        return reply


def line(coordinator: LocalCoordinator, site: LocalSite, tell: Tell) -> Line:
    """Between the two."""
    made = TellingLine(coordinator, site.home)
    made.tell = tell
    return made


def draft(coordinator: LocalCoordinator, site: LocalSite) -> None:
    """The release that goes the way. Safe to repeat."""
    entries, objects = png_objects([noise_pair(1)])
    study = coordinator.store.studies()[0].study
    site.draft(manifest_of(study, "north", entries, release_id=RELEASE), objects)


def accepted(coordinator: LocalCoordinator, site: LocalSite, tell: Tell) -> None:
    """From the draft to the receipt, into a dataset, and taken back."""
    draft(coordinator, site)
    tell("drafted")
    sha256 = site.airlock.review(POLICY, RELEASE, "ada").bundle_sha256
    tell("opened")
    site.airlock.approve(POLICY, RELEASE, "ada", reviewed_sha256=sha256)
    tell("voted")
    site.trainer()
    assert site.link(line(coordinator, site, tell))
    tell("settled")
    site.trainer()
    tell("accepted")
    build(coordinator.store, coordinator.store.studies()[0].sha256, actor="operator")
    tell("built")
    site.airlock.revoke(POLICY, RELEASE, "ada", "consent withdrawn")
    tell("taken back")
    site.trainer()
    assert site.link(line(coordinator, site, tell))
    site.trainer()
    tell("confirmed")


def check_kept(coordinator: LocalCoordinator, site: LocalSite, fact: dict[str, Any], later: set[str]) -> None:
    """A word that was given holds. later: all words that were."""
    release = site.airlock.release(RELEASE)
    sha256 = release.bundle_sha256
    row = coordinator.store.bundle(sha256)
    match fact["fact"]:
        case "drafted":
            check_objects(release)
        case "opened":
            assert release.state is not State.SCREENED
        case "voted":
            assert site.airlock.has_voted(RELEASE, "ada")
        case "bytes left":
            assert not site.queue.withdraw(sha256), "what has left cannot be withdrawn"
        case "uploaded" if row.state == "incoming":
            asked = coordinator.admission.begin("north", bytes(row.manifest), bytes(row.signature))
            assert not {missing.sha256 for missing in asked} & set(fact["names"]), "an object has to be sent again"
        case "receipt of Finish":
            assert bytes(row.receipt).hex() == fact["payload"]
            for name in release.manifest.objects():
                coordinator.objects.get(name)
            assert row.state == "revoked" or "receipt of Revoke" not in later
        case "receipt of Revoke":
            assert bytes(revocation(coordinator.store, "north", sha256).receipt).hex() == fact["payload"]
        case "settled":
            assert site.queue.offered("accepted", "revoked")
        case "accepted":
            assert release.state in (State.ACCEPTED, *TAKEN_BACK)
        case "built":
            assert coordinator.store.datasets(release.study_sha256)
        case "taken back":
            assert release.state in TAKEN_BACK
        case "confirmed":
            assert release.state is State.REVOKED


def check_accepted(folder: Path, told: list[dict[str, Any]]) -> None:
    """Every word holds after the cut, and both sides come to the same end, once."""
    coordinator, site = open_both(folder)
    for fact in told:
        check_kept(coordinator, site, fact, {each["fact"] for each in told})
    if "drafted" not in {each["fact"] for each in told}:
        draft(coordinator, site)  # as the job does that makes it, when it is taken up again
    check_not_ahead(coordinator, site)
    release = site.airlock.release(RELEASE)
    if release.state is State.SCREENED:
        site.airlock.review(POLICY, RELEASE, "ada")
    taken_back = release.state in TAKEN_BACK
    (take_back if taken_back else go)(coordinator, site)
    check_end(coordinator, site, taken_back=taken_back)
    check_coordinator(coordinator.store)
    check_site(site.queue, site.store)
    site.drop()
    coordinator.drop()


def seal_a_bad_one(folder: Path) -> None:
    """Puts a bundle with a file that is no picture into the site's outbox."""
    coordinator, site = open_both(folder)
    entry, objects = raw_entry(b"no PNG, but as long as one has to be, at the very least")
    make_sealed(site.home, manifest_of(coordinator.store.studies()[0].study, "north", [entry]), objects)
    site.drop()
    coordinator.drop()


def refused(coordinator: LocalCoordinator, site: LocalSite, tell: Tell) -> None:
    """The bundle that was sealed is sent."""
    assert site.link(line(coordinator, site, tell))
    tell("kept", files=quarantined(coordinator))


def quarantined(coordinator: LocalCoordinator) -> dict[str, str]:
    """Path -> SHA-256 of what the coordinator keeps of bundles that it refused."""
    top = coordinator.folder / "quarantine"
    return {
        str(path.relative_to(top)): sha256_hex(path.read_bytes()) for path in sorted(top.rglob("*")) if path.is_file()
    }


def check_refused(folder: Path, told: list[dict[str, Any]]) -> None:
    """It was refused for good and is kept as it came, wherever the cut was after which it was sent again."""
    coordinator, site = open_both(folder)
    words = {fact["fact"]: fact for fact in told}
    sha256 = site.queue.offered("waiting", "sending", "refused")[0].bundle_sha256
    if "refused" in words:
        assert coordinator.store.bundle(sha256).state == "quarantined"
    if "kept" in words:
        assert quarantined(coordinator) == words["kept"]["files"]
    turn(coordinator, site)
    assert coordinator.store.bundle(sha256).state == "quarantined"
    assert coordinator.accepted() == []
    assert [row.bundle_sha256 for row in site.queue.offered("refused")] == [sha256]
    objects = {path: digest for path, digest in quarantined(coordinator).items() if path.endswith(".png")}
    assert len(objects) == 2
    assert all(path.endswith(f"/{digest}.png") for path, digest in objects.items()), "what is kept is not what came"
    assert not list((coordinator.folder / "incoming").iterdir())
    site.drop()
    coordinator.drop()


WAYS = {"accepted": (accepted, check_accepted), "refused": (refused, check_refused)}


def main(way: str, folder: Path, told: Path) -> None:
    """Goes one way."""
    stamina.set_testing(True, attempts=3, cap=True)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    outbox.CHUNK_BYTES = 2000  # of an object of some kilobytes, too, a part may have arrived
    both = open_both(folder)
    WAYS[way][0](*both, teller(told))
    for side in both:
        side.drop()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
