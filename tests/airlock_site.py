"""A site's private half with one release in its airlock, for tests of what may happen to it."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import journal as chain
from shared.identity import new_signing_key
from shared.journal import Entry
from shared.release import State
from site_node.airlock.workflow import Airlock, Release, release_folder
from site_node.cases import PrivateStore, journal
from site_node.cohort import Split
from site_node.policy import Policy
from tests.helpers import manifest_of, noise_pair, png_objects, small_study

ONE = Policy(stewards=("ada", "grace"))
TWO = Policy(stewards=("ada", "grace", "mary"), required_approvals=2)
MADE_BY = "trainer"


class Site:
    """A private store with one screened release, and what was written into its journal."""

    def __init__(
        self, folder: Path, *, made_by: str = MADE_BY, asked_by: str = "", size_px: int = 32,
        patients: Split | None = None,
    ) -> None:  # fmt: skip
        self.private, self.outbox = folder / "private", folder / "outbox"
        for each in (self.private, self.outbox):
            each.mkdir()
        self.store = PrivateStore(self.private)
        self.airlock = Airlock(self.store)
        entries, objects = png_objects([noise_pair(seed, size_px) for seed in (1, 2)])
        manifest = manifest_of(small_study(image={"size_px": size_px}), "north", entries)
        target = release_folder(self.store, manifest.release_id) / "objects"
        target.mkdir(parents=True)
        for name, data in objects.items():
            (target / f"{name}.png").write_bytes(data)
        self.id = self.airlock.draft(
            manifest, {"accepted": 2}, made_by=made_by, asked_by=asked_by, patients=patients
        ).release_id
        self.key: Ed25519PrivateKey = new_signing_key()

    @property
    def release(self) -> Release:
        return self.airlock.release(self.id)

    @property
    def sha256(self) -> str:
        return self.release.bundle_sha256

    def open(self, person: str = "ada", policy: Policy = ONE) -> State:
        return self.airlock.review(policy, self.id, person).state

    def approve(self, person: str = "ada", policy: Policy = ONE, *, sha256: str | None = None) -> State:
        return self.airlock.approve(policy, self.id, person, reviewed_sha256=sha256 or self.sha256).state

    def approved(self) -> Site:
        self.open()
        self.approve()
        return self

    def sealed(self) -> Site:
        self.approved().airlock.seal(self.id, self.key, self.outbox)
        return self

    def accepted(self) -> Site:
        self.sealed().airlock.sent(self.id, actor="link")
        self.airlock.accepted(self.id, actor="coordinator")
        return self

    def journal(self) -> list[Entry]:
        with self.store.reading.begin() as connection:
            found = chain.entries(connection, journal)
        chain.verify(found)
        return found

    def actions(self) -> list[str]:
        return [entry.action for entry in self.journal()]
