"""A program that kills a site and its coordinator with SIGKILL before each of their durable steps, one after another.

    python -m tests.killed_at_each_step FOLDER SCRATCH

FOLDER holds both sides as tests.loopback makes them, with a release that ada has opened. For N = 1, 2, ... a forked
child goes the release's way on a copy of FOLDER and kills itself before its Nth step; another one starts from what is
left on the disk and must come to the same end as if nothing had happened. The last N is the one that was not reached.

A step is what changes a disk for good: an fsync, a rename, a link, a folder made, a file or folder removed, a commit of
either side's databases, and each chunk of an upload. Prints how many there were, and what went wrong, as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stamina
import structlog
from sqlalchemy import Connection, Engine, event

from coordinator.datasets.build import build
from coordinator.upload import Upload
from shared import journal as chain
from shared.documents import verify
from shared.errors import SynthwardError
from shared.release import State
from site_node.cases import journal as private_journal
from site_node.link import outbox
from site_node.revocations import Revocations
from tests.enrolled_site import POLICY
from tests.loopback import Line, LocalCoordinator, LocalSite, open_both

RELEASE = "release-1"
_FILE_STEPS = ("fsync", "replace", "rename", "link", "mkdir", "unlink", "rmdir")


def go(coordinator: LocalCoordinator, site: LocalSite) -> None:
    """From the steward's vote to the receipt. Safe to repeat."""
    release = site.airlock.release(RELEASE)
    if release.state is State.IN_REVIEW:
        site.airlock.approve(POLICY, RELEASE, "ada", reviewed_sha256=release.bundle_sha256)
    turn(coordinator, site)


def take_back(coordinator: LocalCoordinator, site: LocalSite) -> None:
    """From the steward's word to the receipt. Safe to repeat."""
    if site.airlock.release(RELEASE).state is State.ACCEPTED:
        site.airlock.revoke(POLICY, RELEASE, "ada", "consent withdrawn")
    turn(coordinator, site)


def turn(coordinator: LocalCoordinator, site: LocalSite) -> None:
    """Trainer, link, trainer."""
    site.trainer()
    assert site.link(Line(coordinator, site.home)), "something is left to do"
    site.trainer()


def check_not_ahead(coordinator: LocalCoordinator, site: LocalSite) -> None:
    """Whatever was killed: no side claims what the other has not said, and what has a name is whole."""
    release = site.airlock.release(RELEASE)
    sha256, key = release.bundle_sha256, coordinator.key.public_key()
    for row in site.queue.offered("accepted"):
        verify(key, "receipt", row.receipt, row.signature)
        assert bytes(coordinator.store.bundle(sha256).receipt) == row.receipt
    assert release.state is not State.ACCEPTED or site.queue.offered("accepted")
    receipts = [row for row in Revocations(site.queue).all() if row.receipt is not None]
    assert release.state is not State.REVOKED or receipts
    assert not coordinator.accepted() or (site.home.outbox / sha256).exists()
    for path in (coordinator.folder / "objects").rglob("*.png"):
        coordinator.objects.get(path.stem)
    chain.verify(coordinator.store.journal())
    chain.verify(site.queue.journal())
    with site.store.reading.begin() as connection:
        chain.verify(chain.entries(connection, private_journal))


def check_end(coordinator: LocalCoordinator, site: LocalSite, *, taken_back: bool) -> None:
    """The one end: accepted once, or taken back once, and nothing left lying about."""
    release = site.airlock.release(RELEASE)
    sha256 = release.bundle_sha256
    check_not_ahead(coordinator, site)
    actions = [line.action for line in coordinator.store.journal()]
    assert actions.count("accept-bundle") == 1
    assert actions.count("revoke-bundle") == int(taken_back)
    assert release.state is (State.REVOKED if taken_back else State.ACCEPTED)
    assert coordinator.accepted() == ([] if taken_back else [sha256])
    if not taken_back:
        assert build(coordinator.store, release.study_sha256, actor="operator")[2].bundles == (sha256,)
    stored = {path.stem for path in (coordinator.folder / "objects").rglob("*.png")}
    assert stored == set(release.manifest.objects())
    assert not list((coordinator.folder / "incoming").iterdir())
    assert not list((coordinator.folder / "quarantine").iterdir())
    assert [path.name for path in site.home.outbox.iterdir()] == [sha256]


def kill_before(number: int) -> None:
    """From now on this process dies before its step of that number, counted from 1."""
    left = number

    def step() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(work: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **more: Any) -> Any:
            step()
            return work(*arguments, **more)

        return stepping

    for name in _FILE_STEPS:
        setattr(os, name, counted(getattr(os, name)))
    Upload.store_chunk = counted(Upload.store_chunk)  # type: ignore[method-assign]

    @event.listens_for(Engine, "commit")
    def _commit(connection: Connection) -> None:
        if not connection.get_execution_options().get("synthward_reading", False):
            step()


def forked(work: Callable[[], None]) -> int:
    """Runs work in a child; its wait status: 0, a signal, or 1 with what went wrong on standard error."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitpid(child, 0)[1]


def sweep(folder: Path, scratch: Path, way: Callable[..., None], *, taken_back: bool) -> tuple[int, list[int]]:
    """(how many steps the way has, those after whose kill it did not come to its end)."""
    wrong: list[int] = []
    number = 0
    while True:
        number += 1
        here = scratch / f"{way.__name__}-{number}"
        shutil.copytree(folder, here)

        def killed(here: Path = here, number: int = number) -> None:
            both = open_both(here)
            kill_before(number)
            way(*both)

        def started_again(here: Path = here) -> None:
            both = open_both(here)
            check_not_ahead(*both)
            way(*both)
            check_end(*both, taken_back=taken_back)

        ended = forked(killed)
        if ended == 0:
            return number - 1, wrong
        if not os.WIFSIGNALED(ended) or os.WTERMSIG(ended) != signal.SIGKILL or forked(started_again) != 0:
            wrong.append(number)
        shutil.rmtree(here)


def warm_up(folder: Path, here: Path) -> None:
    """Goes both ways once, so that no child pays for what is made at a first use; leaves no thread to be forked."""
    shutil.copytree(folder, here)
    both = open_both(here)
    go(*both)
    take_back(*both)
    for side in both:
        side.drop()
    del both, side
    gc.collect()  # its threads end with the admission that they decode for
    for thread in set(threading.enumerate()) - {threading.main_thread()}:
        thread.join(timeout=20)
    assert threading.active_count() == 1, "what forks must be alone"
    gc.freeze()
    shutil.rmtree(here)


def main(folder: Path, scratch: Path) -> None:
    """Both ways, one after the other: the second begins where the first ends."""
    stamina.set_testing(True, attempts=3, cap=True)
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    outbox.CHUNK_BYTES = 2000  # of an object of some kilobytes, too, a part may have arrived
    warm_up(folder, scratch / "first")
    accepted = sweep(folder, scratch, go, taken_back=False)
    if forked(lambda: go(*open_both(folder))) != 0:
        raise SynthwardError("internal", "the way without a kill does not come to its end")
    taken_back = sweep(folder, scratch, take_back, taken_back=True)
    print(json.dumps({"accepted": accepted, "taken back": taken_back}))  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
