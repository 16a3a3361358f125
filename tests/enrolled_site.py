"""A site that has enrolled with a coordinator on loopback, with its two halves to be run step by step.

`trainer` and `link` do what one turn of each process does; every database is opened afresh, as after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.study import Study
from site_node.airlock.workflow import Airlock, Release, release_folder
from site_node.cases import PrivateStore
from site_node.cohort import Split
from site_node.jobs import Queue
from site_node.link.channel import release_channel
from site_node.link.sender import Sender
from site_node.policy import Policy, write_policy
from site_node.rollback import publish
from site_node.settings import Home
from site_node.work.worker import settle_releases
from tests.helpers import Coordinator, manifest_of, noise_pair, png_objects

POLICY = Policy(stewards=("ada", "grace"))


@dataclass
class EnrolledSite:
    """A site's home, and what its people and processes do in it."""

    home: Home
    name: str

    @classmethod
    def join(cls, coordinator: Coordinator, folder: Path, name: str, policy: Policy = POLICY) -> EnrolledSite:
        """Enrols over gRPC."""
        home = coordinator.join(folder, name)
        write_policy(home.policy_file, policy)
        return cls(home, name)

    @property
    def store(self) -> PrivateStore:
        return PrivateStore(self.home.private)

    @property
    def airlock(self) -> Airlock:
        return Airlock(self.store)

    @property
    def queue(self) -> Queue:
        return Queue(self.home.exchange)

    def draft(self, study: Study, seeds: Sequence[int] = (1, 2), *, patients: Split | None = None) -> Release:
        """A screened release of noise."""
        store = self.store
        entries, objects = png_objects([noise_pair(seed, study.image.size_px) for seed in seeds])
        manifest = manifest_of(study, self.name, entries, release_id=f"release-{min(seeds)}")
        folder = release_folder(store, manifest.release_id) / "objects"
        folder.mkdir(parents=True)
        for name, data in objects.items():
            (folder / f"{name}.png").write_bytes(data)
        return Airlock(store).draft(manifest, {}, made_by="trainer", patients=patients)

    def approved(self, study: Study, seeds: Sequence[int] = (1, 2)) -> Release:
        """A release that ada has looked at and approved."""
        release = self.draft(study, seeds)
        self.airlock.review(POLICY, release.release_id, "ada")
        return self.airlock.approve(POLICY, release.release_id, "ada", reviewed_sha256=release.bundle_sha256)

    def accepted(self, study: Study, seeds: Sequence[int] = (1, 2)) -> Release:
        """A release that has gone its whole way."""
        release = self.approved(study, seeds)
        self.turn()
        return self.airlock.release(release.release_id)

    def trainer(self) -> None:
        """One turn of the trainer between jobs."""
        store, queue = self.store, self.queue
        settle_releases(self.home, store, queue)
        publish(queue, store)

    def link(self) -> bool:
        """One turn of the link, as after its start; False when something must be tried again."""
        with release_channel(self.home) as channel:
            return Sender(self.home, self.queue, channel).send_all()

    def turn(self) -> None:
        """Trainer, link, trainer: enough for whatever one step needs of both."""
        self.trainer()
        self.link()
        self.trainer()
