"""A site and its coordinator in one process, with no network between them: calls and chunks are in the test's hands.

What runs is the product's own: the outbox, the sender and the trainer's turn at the site; the release service,
admission and the store at the coordinator; on real files and real SQLite. Only gRPC is absent: a `Line` carries the
calls, and breaks them where a test says so. `drop` takes away what a kill takes away; `open` starts from the disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from sqlalchemy import Connection, Engine, event

from coordinator.admission import Admission
from coordinator.capture import Capture
from coordinator.checkpoints import Checkpoints
from coordinator.limits import Limits
from coordinator.release_service import ReleaseService
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared.bundle import Manifest
from shared.database import sqlite_url
from shared.documents import canonical
from shared.errors import SynthwardError
from shared.identity import load_signing_key, save_key
from shared.pairs import sha256_hex
from shared.study import Study
from shared.wire import synthward_pb2 as pb
from shared.wire.status import error_from
from site_node.airlock.workflow import Airlock, Release, release_folder
from site_node.cases import PrivateStore
from site_node.certificate import read_identity
from site_node.jobs import Queue
from site_node.link.sender import Sender
from site_node.rollback import publish
from site_node.settings import Home
from site_node.work.worker import settle_releases
from tests.enrolled_site import EnrolledSite
from tests.helpers import Coordinator, running, small_study


class SiteKilled(BaseException):
    """Stands for kill -9 of the site's processes: no handler of ours catches it."""


class CoordinatorKilled(BaseException):
    """The same for the coordinator's service."""


class Aborted(grpc.RpcError, grpc.Call):
    """What a caller sees of a call that ended with a status."""

    def __init__(self, status: grpc.StatusCode, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status)
        self._status, self._metadata = status, metadata

    def code(self) -> grpc.StatusCode:
        return self._status

    def trailing_metadata(self) -> Any:
        return self._metadata

    def initial_metadata(self) -> Any:
        return ()

    def details(self) -> str:
        return ""

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> None:
        return None

    def cancel(self) -> bool:
        return False

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False


class Context:
    """What the service asks of gRPC about a call: who is calling, and how to end it with a status."""

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._callbacks: list[Callable[[], None]] = []

    def add_callback(self, callback: Callable[[], None]) -> bool:
        self._callbacks.append(callback)
        return True

    def end(self) -> None:
        """What gRPC does when a call is over, however it ended."""
        for callback in self._callbacks:
            callback()

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._certificate]}

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        self._metadata = metadata

    def abort(self, status: grpc.StatusCode, _details: str) -> None:
        raise Aborted(status, self._metadata)


@dataclass
class Fuse:
    """Kills at the end of a transaction that writes, before its commit. left: how many go through; None: all."""

    kill: type[BaseException]
    left: int | None = None

    def guard(self, engine: Engine) -> None:
        event.listen(engine, "commit", self._burn)

    def _burn(self, connection: Connection) -> None:
        if self.left is not None and not connection.get_execution_options().get("synthward_reading", False):
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise self.kill


class LocalCoordinator:
    """A coordinator's release service over the folder that `make_both` made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = load_signing_key(folder / "signing.key")
        self.fuse = Fuse(CoordinatorKilled)
        self.open()

    def open(self) -> None:
        """Starts from what is on the disk."""
        self.store = Store(sqlite_url(self.folder / "store.db"))
        self.fuse.guard(self.store.engine)
        self.objects = ObjectStore(f"file://{self.folder / 'objects'}")
        incoming, quarantine = self.folder / "incoming", self.folder / "quarantine"
        limits = Limits(reserve_bytes=0)  # tests run on disks that are full
        self.admission = Admission(self.store, self.objects, self.key, incoming, quarantine, limits)
        checkpoints = Checkpoints(self.store, self.key)
        self.service = ReleaseService(self.store, self.admission, checkpoints, Capture(None), lambda _s, _r: b"")
        self.up = True

    def drop(self) -> None:
        """Takes away all that is in memory."""
        self.up = False
        self.store.engine.dispose()

    def accepted(self) -> list[str]:
        """Digests of all accepted bundles."""
        return [row.sha256 for study in self.store.studies() for row in self.store.bundles(study.sha256, "accepted")]


class LocalSite:
    """A site that has enrolled, over its home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.fuse = Fuse(SiteKilled)
        self.open()

    def open(self) -> None:
        """Starts from what is on the disk."""
        self.queue, self.store = Queue(self.home.exchange), PrivateStore(self.home.private)
        self.airlock = Airlock(self.store)
        for engine in (self.queue.engine, self.store.engine):
            self.fuse.guard(engine)

    def drop(self) -> None:
        """Takes away all that is in memory."""
        for engine in (self.queue.engine, self.store.engine):
            engine.dispose()

    def draft(self, manifest: Manifest, objects: dict[str, bytes]) -> Release:
        """Puts a release's files into place and drafts it."""
        folder = release_folder(self.store, manifest.release_id) / "objects"
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in objects.items():
            (folder / f"{name}.png").write_bytes(data)
        return self.airlock.draft(manifest, {}, made_by="trainer")

    def trainer(self) -> None:
        """One turn of the trainer between jobs."""
        settle_releases(self.home, self.store, self.queue)
        publish(self.queue, self.store)

    def link(self, line: Line) -> bool:
        """One turn of the link, as after its start; False when something must be tried again."""
        return Sender(self.home, self.queue, line).send_all()  # type: ignore[arg-type]


@dataclass
class Line:
    """A gRPC channel from the site to the coordinator's service, and what goes wrong on it.

    breaks_at: the number of the chunk that does not arrive; ends: who ends there ("line", "site", "coordinator");
    changes: the number of the chunk that arrives with a bit turned over; loses: the method whose first answer is lost
    on its way; for_good: whether nothing passes after the first fault. sent: every call, to be made again by a test.
    """

    coordinator: LocalCoordinator
    home: Home
    breaks_at: int | None = None
    ends: str = "line"
    changes: int | None = None
    loses: str = ""
    for_good: bool = False
    sent: list[tuple[str, Any]] = field(default_factory=list)
    codes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._chunks = 0
        self._down = False
        self._certificate = read_identity(self.home).certificate

    def unary_unary(self, path: str, *_: object, **_more: object) -> Callable[..., Any]:
        return partial(self.call, path.rpartition("/")[2])

    stream_unary = unary_unary

    def call(self, method: str, request: Any, timeout: float | None = None) -> Any:
        """One call. Raises Aborted, or SiteKilled where the site ends while its chunks are on their way."""
        if self._down or not self.coordinator.up:
            raise Aborted(grpc.StatusCode.UNAVAILABLE)
        stream = method == "Upload"
        self.sent.append((method, [] if stream else request))
        handed = self._carried(iter(request), self.sent[-1][1]) if stream else request
        context = Context(self._certificate)
        try:
            reply = getattr(self.coordinator.service, method)(handed, context)
        except CoordinatorKilled:
            self.coordinator.drop()
            raise Aborted(grpc.StatusCode.UNAVAILABLE) from None
        except Aborted as ended:
            self.codes.add(error_from(ended).code)
            raise
        except grpc.RpcError:
            self._down = self.for_good
            if self.ends == "site":
                raise SiteKilled from None
            raise Aborted(grpc.StatusCode.UNAVAILABLE) from None
        finally:
            context.end()
        if method == self.loses:
            self.loses, self._down = "", self.for_good
            raise Aborted(grpc.StatusCode.UNAVAILABLE)
        return reply

    def _carried(self, chunks: Iterator[pb.Chunk], kept: list[pb.Chunk]) -> Iterator[pb.Chunk]:
        for chunk in chunks:
            number, self._chunks = self._chunks, self._chunks + 1
            if number == self.breaks_at:
                # As gRPC tells a service that its caller is gone.
                raise CoordinatorKilled if self.ends == "coordinator" else grpc.RpcError
            if number == self.changes and chunk.data:
                data = bytes([chunk.data[0] ^ 1]) + chunk.data[1:]
                chunk = pb.Chunk(
                    bundle_sha256=chunk.bundle_sha256, object_sha256=chunk.object_sha256, offset=chunk.offset, data=data
                )
            kept.append(chunk)
            yield chunk


def make_both(folder: Path) -> Study:
    """A coordinator's folder and that of site north, which has enrolled, under folder; the study that is open."""
    coordinator = Coordinator(folder / "coordinator")
    with running(coordinator):
        study = coordinator.publish(small_study())
        EnrolledSite.join(coordinator, folder / "north", "north")
    coordinator.store.engine.dispose()
    shutil.rmtree(coordinator.capture)
    save_key(coordinator.folder / "signing.key", coordinator.key)
    return study


def open_both(folder: Path) -> tuple[LocalCoordinator, LocalSite]:
    """Both sides of a folder that `make_both` made, or of a copy of it."""
    return LocalCoordinator(folder / "coordinator"), LocalSite(Home(folder / "north"))


def study_sha256(study: Study) -> str:
    """The digest by which a study is known."""
    return sha256_hex(canonical(study))


def code_of(work: Callable[[], object]) -> str:
    """The code with which work ends; empty where it comes to its end."""
    try:
        work()
    except SynthwardError as error:
        return error.code
    return ""
