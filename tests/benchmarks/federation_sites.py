"""Sites whose generators are stubs: a real Flower node each, the real link, and a trainer that answers at once.

A node is a process, as at a hospital. The links and trainers of all sites are threads of one process: what they cost is
not what is measured here.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SynthwardError
from shared.flower_environment import flower_environment
from shared.invitation import Invitation
from shared.metrics import NAMES
from site_node.jobs import Job, JobKind, JobState, Queue
from site_node.link.channel import release_channel
from site_node.link.client_app import build_client_app
from site_node.link.enrol import enrol
from site_node.link.executor import Executor
from site_node.link.node import node_command
from site_node.link.sender import Sender
from site_node.policy import write_policy
from site_node.settings import Home, Settings
from tests.helpers import free_port, make_sealed, manifest_of, noise_pair, png_objects
from tests.sites import LENIENT

PAIRS = 20  # of noise, in each site's release
_POLL_S = 0.2


@dataclass(frozen=True)
class StubSite:
    """A site that has enrolled. number: from 0, and other pairs for each."""

    home: Home
    name: str
    number: int

    @classmethod
    def join(cls, folder: Path, invitation: Invitation, number: int) -> StubSite:
        """Makes a folder and keys, and enrols over gRPC."""
        home = Home(folder)
        home.create(Settings(node_port=free_port()))
        write_policy(home.policy_file, LENIENT)
        enrol(home, invitation)
        return cls(home, invitation.site, number)

    def link(self, stop: threading.Event) -> None:
        """What the link's process does: answers Flower, sends what waits."""
        queue = Queue(self.home.exchange)
        secret = (self.home.link_keys / "executor.secret").read_bytes()
        executor = Executor(build_client_app(self.home), queue, port=self.home.settings().node_port, secret=secret)
        answering = threading.Thread(target=executor.run, args=(stop,), daemon=True)
        answering.start()
        with release_channel(self.home) as channel:
            Sender(self.home, queue, channel).run(stop)
        answering.join()

    def trainer(self, stop: threading.Event) -> None:
        """Takes jobs and ends them at once."""
        queue = Queue(self.home.exchange)
        while not stop.wait(_POLL_S):
            job = queue.claim()
            if job is not None:
                self._end(queue, job)

    def _end(self, queue: Queue, job: Job) -> None:
        if job.kind is JobKind.RELEASE:
            study = queue.study(job.study_sha256)
            seeds = range(self.number * PAIRS, (self.number + 1) * PAIRS)
            entries, objects = png_objects([noise_pair(seed, study.image.size_px) for seed in seeds])
            make_sealed(self.home, manifest_of(study, self.name, entries), objects)
            queue.end(job.job_id, JobState.DONE)
        elif job.kind is JobKind.MEASURE:
            figures = {"metrics": dict.fromkeys(NAMES, 0.5), "patients": 9}
            queue.end(job.job_id, JobState.DONE, result=figures)
        else:
            queue.end(job.job_id, JobState.REFUSED, code="metrics.not-measured")


@contextlib.contextmanager
def running_sites(sites: Sequence[StubSite]) -> Iterator[list[int]]:
    """All nodes, links and trainers; the nodes' process ids."""
    stop, nodes, threads = threading.Event(), [], []
    try:
        for site in sites:
            with (site.home.logs / "node.log").open("wb") as log:
                nodes.append(
                    subprocess.Popen(
                        node_command(site.home), env=flower_environment(site.home.flower), stdout=log, stderr=log
                    )
                )
            for part in (site.link, site.trainer):
                threads.append(threading.Thread(target=part, args=(stop,), daemon=True))
                threads[-1].start()
        yield [node.pid for node in nodes]
        if any(node.poll() is not None for node in nodes):
            raise SynthwardError("unavailable.service", "a Flower node has ended", do="read its logs/node.log")
    finally:
        stop.set()
        for node in nodes:
            node.terminate()
        for node in nodes:
            node.wait(timeout=60)
        for thread in threads:
            thread.join(timeout=60)
