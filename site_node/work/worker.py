"""The trainer: takes jobs from the queue, each in a process of its own, and brings receipts into the airlock.

One worker a site, held by a lock. What a killed worker left running is taken up again.
"""

from __future__ import annotations

import fcntl
import signal
import sys
import threading
import time
from pathlib import Path

import structlog

from shared.bundle import Manifest
from shared.errors import ExitCode, SynthwardError
from shared.identity import load_signing_key, public_key
from shared.logs import configure
from shared.release import State
from shared.supervise import Child
from site_node.airlock.workflow import Airlock
from site_node.cases import PrivateStore
from site_node.jobs import Queue
from site_node.policy import read_policy
from site_node.receipts import check_receipt
from site_node.rollback import publish
from site_node.settings import Home
from site_node.work.expiry import delete_expired
from site_node.work.no_network import close_network, started
from site_node.work.taking_back import take_back
from site_node.work.told import write_wall

_POLL_S = 0.5
_EXPIRY_EVERY_S = 3600.0
_log = structlog.get_logger("site.trainer")


def serve(home: Home) -> None:
    """Runs until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with (home.exchange / "worker.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        queue, store = Queue(home.exchange), PrivateStore(home.private)
        queue.requeue_running()
        trainer = Trainer(home, queue, store)
        try:
            while not stop.wait(_POLL_S):
                try:
                    trainer.turn()
                except SynthwardError as error:
                    if error.exit_code is not ExitCode.STORAGE:
                        raise
                    # No room, or a database that another program holds: the next turn does what this one could not,
                    # and a job that trains meanwhile is not to be ended for it.
                    _log.error("turn-put-off", code=error.code)
        finally:
            trainer.stop()


class Trainer:
    """What the trainer does, turn by turn, with one job at most beside it."""

    def __init__(self, home: Home, queue: Queue, store: PrivateStore) -> None:
        self._home = home
        self._queue = queue
        self._store = store
        self._child: Child | None = None
        self._looked_at = float("-inf")

    def turn(self) -> None:
        """Everything that is due now; safe to break off anywhere and to repeat. Raises storage.*."""
        settle_releases(self._home, self._store, self._queue)
        publish(self._queue, self._store)
        if self._child is None and time.monotonic() - self._looked_at >= _EXPIRY_EVERY_S:
            self._looked_at = time.monotonic()
            delete_expired(self._store, read_policy(self._home.policy_file).keep_generators_days)
        if self._child is not None and not self._child.running():
            self._queue.requeue_running()  # a job that ended has written so; one that died is still "running"
            self._child = None
        if self._child is None and (job := self._queue.claim()) is not None:
            self._child = job_process(self._home, job.job_id)
            self._child.start()

    def stop(self) -> None:
        """Ends the job that runs, if one does; it is taken up again at the next start."""
        if self._child is not None:
            self._child.stop()


def job_process(home: Home, job_id: str) -> Child:
    """The process of one job."""
    command = started("site_node.work.child", str(home.path), job_id, ray_address=home.settings().ray_address)
    return Child(job_id, command, home.logs / "job.log")


def settle_releases(home: Home, store: PrivateStore, queue: Queue) -> None:
    """Takes releases on as far as they can go by themselves: approved ones into the outbox, sent ones to their end."""
    airlock = Airlock(store)
    take_back(home, airlock, queue)
    sending = {row.bundle_sha256: row for row in queue.offered("sending", "accepted", "refused")}
    for release in airlock.releases():
        if release.state is State.APPROVED:
            try:
                airlock.seal(release.release_id, load_signing_key(home.seal_keys / "signing.key"), home.outbox)
            except SynthwardError as error:
                # The release stays approved and whole; sealing is tried again once there is room.
                _log.error("not-sealed", code=error.code)
                continue
            queue.offer(release.bundle_sha256)
        elif release.state is State.SEALED:
            queue.offer(release.bundle_sha256)  # again, in case of a kill between sealing and offering
        row = sending.get(release.bundle_sha256)
        if row is None or release.state not in (State.SEALED, State.SUBMITTED):
            continue
        airlock.sent(release.release_id, actor="link")
        if row.state == "refused":
            airlock.refused(release.release_id, row.code, actor="coordinator")
        elif row.state == "accepted" and _receipt_holds(home, release.manifest, row.receipt, row.signature):
            airlock.accepted(release.release_id, actor="coordinator")


def _receipt_holds(home: Home, manifest: Manifest, payload: bytes, signature: bytes) -> bool:
    """Whether the receipt is the coordinator's for this bundle; the trainer does not take the link's word for it."""
    try:
        check_receipt(public_key(bytes.fromhex(home.membership().coordinator_key)), manifest, payload, signature)
    except SynthwardError as error:
        _log.error("receipt-refused", code=error.code)
        return False
    return True


if __name__ == "__main__":
    configure()
    here = Home(Path(sys.argv[1]))
    wall = close_network(here.settings().ray_address)
    _log.info("network", state=wall.value)
    write_wall(here, wall)
    serve(here)
