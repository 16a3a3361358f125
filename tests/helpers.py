"""A real coordinator on loopback, sites that enrol with it over gRPC, and bundles as a site seals them.

Nothing is patched: certificates come from a real authority, calls go through TLS. Only Flower's SuperLink is absent;
the place where it registers a node is the one function that tests may replace.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from coordinator.admission import Admission
from coordinator.capture import Capture
from coordinator.checkpoints import Checkpoints
from coordinator.enrolment import RegisterNode, enrol, invite, renew
from coordinator.limits import Limits
from coordinator.release_service import EnrolmentService, Identity, ReleaseService, Welcome, start_services
from coordinator.store.objects import ObjectStore
from coordinator.store.store import PublishedStudy, Store
from shared.bundle import AuditSummary, Manifest, PairEntry, bundle_sha256, entry, sorted_entries
from shared.database import sqlite_url
from shared.documents import canonical, sign
from shared.errors import SynthwardError
from shared.identity import (
    SITE_CERTIFICATE_DAYS,
    CertificateAuthority,
    load_signing_key,
    new_signing_key,
    new_tls_key,
    public_bytes,
)
from shared.invitation import Invitation
from shared.pairs import Pair, sha256_hex
from shared.png import encode_png
from shared.ports import free_ports
from shared.privacy import Access, PrivacyStatement
from shared.study import Study
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from
from site_node.jobs import Queue
from site_node.link.channel import release_channel
from site_node.link.enrol import enrol as enrol_site
from site_node.link.outbox import Outbox
from site_node.settings import Home, Settings
from tests.sites import make_study

ZEROS = "0" * 64
HOST = "127.0.0.1"
_TIMEOUT_S = 20.0
_PATIENCE_S = 120.0  # of waiting for other processes on a busy machine


def until(what: Callable[[], bool]) -> None:
    """Returns when what() holds, which other processes bring about."""
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def free_port() -> int:
    """A port that nobody has at the moment."""
    return free_ports(1)[0]


def small_study(**changes: object) -> Study:
    """A study of 32 px pairs."""
    return make_study(**({"image": {"size_px": 32}, "privacy": {"mode": "audited"}} | changes))


def noise_pair(seed: int, size_px: int = 32, channels: int = 3) -> Pair:
    """A pair of nobody: noise, and a mask with a rectangle."""
    random = np.random.default_rng(seed)
    shape = (size_px, size_px) if channels == 1 else (size_px, size_px, channels)
    mask = np.zeros((size_px, size_px), np.uint8)
    mask[2 : 4 + seed % 20, 3:20] = 255
    return Pair(random.integers(0, 256, shape, np.uint8), mask)


def lesion_pair(seed: int) -> Pair:
    """A bright lesion on textured ground: of nobody, and like no other."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:64, 0:64]
    lesion = np.hypot(rows - random.integers(20, 44), columns - random.integers(20, 44)) < random.integers(8, 16)
    ground = np.kron(random.integers(20, 120, (8, 8, 3)), np.ones((8, 8, 1)))
    image = np.where(lesion[:, :, None], 200, ground) + random.integers(0, 20, (64, 64, 3))
    return Pair(image.astype(np.uint8), np.where(lesion, 255, 0).astype(np.uint8))


def png_objects(pairs: Sequence[Pair]) -> tuple[tuple[PairEntry, ...], dict[str, bytes]]:
    """(a manifest's entries, objects by digest) of pairs."""
    made = [entry(pair) for pair in pairs]
    return sorted_entries(line for line, _ in made), {name: data for _, found in made for name, data in found.items()}


def raw_entry(image: bytes, mask: bytes | None = None) -> tuple[PairEntry, dict[str, bytes]]:
    """An honest line about any two files, whatever they are."""
    mask = encode_png(noise_pair(7).mask) if mask is None else mask
    line = PairEntry(image=sha256_hex(image), mask=sha256_hex(mask), image_bytes=len(image), mask_bytes=len(mask))
    return line, {line.image: image, line.mask: mask}


def manifest_of(study: Study, site: str, entries: Sequence[PairEntry], **changes: object) -> Manifest:
    """The manifest that an honest site would sign for these entries."""
    values: dict[str, object] = {
        "study_sha256": sha256_hex(canonical(study)),
        "site": site,
        "release_id": "release-1",
        "made_on": datetime.now(UTC).date(),
        "size_px": study.image.size_px,
        "channels": study.image.channels,
        "generator": study.generator.kind,
        "preset": study.generator.preset,
        "style": study.style.kind,
        "style_source": study.style.source,
        "training_patients": 9,
        "policy_sha256": ZEROS,
        "software": "synthward/0.1.0",
        "privacy": PrivacyStatement(accesses=(Access(kind="training"),)),
        "audit": AuditSummary(
            sampled=len(entries), accepted=len(entries), rejected={}, planted=6, planted_found=6, verdict="passed"
        ),
        "pairs": tuple(entries),
    }
    return Manifest.model_validate(values | changes)


def make_sealed(home: Home, manifest: Manifest, objects: dict[str, bytes]) -> str:
    """Puts a sealed bundle into the site's outbox and offers it; its digest."""
    sha256 = bundle_sha256(manifest)
    folder = home.outbox / sha256
    (folder / "objects").mkdir(parents=True)
    payload = canonical(manifest)
    (folder / "manifest.json").write_bytes(payload)
    (folder / "manifest.sig").write_bytes(sign(signing_key(home), "manifest", payload))
    for name, data in objects.items():
        (folder / "objects" / f"{name}.png").write_bytes(data)
    Queue(home.exchange).offer(sha256)
    return sha256


def signing_key(home: Home) -> Ed25519PrivateKey:
    """The key with which a site seals."""
    return load_signing_key(home.seal_keys / "signing.key")


@dataclass
class Coordinator:
    """A coordinator's services on free ports of this machine, with everything that they write under folder."""

    folder: Path
    register_node: RegisterNode = lambda _site, _key: 1
    service: type[ReleaseService] = ReleaseService
    certificate_days: float = SITE_CERTIFICATE_DAYS
    hosts: tuple[str, ...] = (HOST,)  # in the server's certificate
    limits: Limits = Limits(reserve_bytes=0)  # noqa: RUF009 - tests run on full disks too
    # Kept over restarts, so that a site finds the service where it was.
    ports: tuple[int, int] = field(default_factory=lambda: (free_port(), free_port()))

    def __post_init__(self) -> None:
        for name in ("incoming", "quarantine"):
            (self.folder / name).mkdir(parents=True)
        self.authority = CertificateAuthority.create("test")
        self.key = new_signing_key()
        self.store = Store(sqlite_url(self.folder / "store.db"))
        self.objects = ObjectStore(f"file://{self.folder / 'objects'}")
        self.capture: Path = self.folder / "capture"
        tls = new_tls_key()
        self._identity = Identity(
            tls.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            self.authority.server_certificate(tls, "test", list(self.hosts)),
            self.authority.pem,
        )
        self._servers: tuple[grpc.Server, ...] = ()

    def start(self) -> None:
        """Starts both services, on what the folder holds."""
        capture = Capture(self.capture)
        welcome = Welcome(public_bytes(self.key.public_key()), f"{HOST}:{self.ports[1]}", f"{HOST}:1")
        work = partial(
            enrol,
            self.store,
            self.authority,
            lambda site, key: self.register_node(site, key),
            days=self.certificate_days,
        )
        self._servers = start_services(
            EnrolmentService(work, welcome, capture),
            self.service(
                self.store,
                self.admission(),
                Checkpoints(self.store, self.key),
                capture,
                partial(renew, self.store, self.authority, days=self.certificate_days),
            ),
            self._identity,
            bind=HOST,
            ports=self.ports,
        )

    def admission(self) -> Admission:
        """Admission over this folder, with nothing remembered but what lies there."""
        incoming, quarantine = self.folder / "incoming", self.folder / "quarantine"
        return Admission(self.store, self.objects, self.key, incoming, quarantine, self.limits)

    def stop(self) -> None:
        """Stops both services at once: calls in flight are cut."""
        for server in self._servers:
            server.stop(grace=None).wait()
        self._servers = ()

    def restart(self) -> None:
        """Ends the services and starts them afresh, as after a kill."""
        self.stop()
        self.start()

    def publish(self, study: Study) -> Study:
        """Publishes a study."""
        payload = canonical(study)
        self.store.publish(
            PublishedStudy(sha256_hex(payload), payload, sign(self.key, "study", payload)), actor="operator"
        )
        return study

    def invite(self, site: str, *, valid_for: timedelta = timedelta(hours=1)) -> Invitation:
        """An invitation to this coordinator."""
        address = f"{HOST}:{self.ports[0]}"
        return invite(self.store, self.authority, site=site, address=address, valid_for=valid_for, actor="operator")

    def join(self, folder: Path, name: str) -> Home:
        """A site that has enrolled over gRPC."""
        home = new_home(folder)
        enrol_site(home, self.invite(name))
        return home

    def accepted(self) -> list[str]:
        """Digests of all bundles that were accepted, in any study."""
        return [row.sha256 for study in self.store.studies() for row in self.store.bundles(study.sha256, "accepted")]

    def actions(self, action: str) -> list[str]:
        """The subjects of all journal entries of one action."""
        return [line.subject for line in self.store.journal() if line.action == action]

    def stored_objects(self) -> set[str]:
        """Digests of everything in the object store."""
        return {path.stem for path in (self.folder / "objects").rglob("*.png")}


@contextmanager
def running(coordinator: Coordinator) -> Iterator[Coordinator]:
    """The coordinator with its services up, and down at the end."""
    coordinator.start()
    try:
        yield coordinator
    finally:
        coordinator.stop()


def new_home(folder: Path) -> Home:
    """A site's folder before enrolment."""
    home = Home(folder)
    home.create(Settings())
    return home


@contextmanager
def outbox_of(home: Home) -> Iterator[Outbox]:
    """The site's outbox on a channel of its own."""
    with release_channel(home) as channel:
        yield Outbox(home, Queue(home.exchange), channel)


def outbox_state(home: Home, sha256: str) -> tuple[str, str]:
    """(state, code) of a bundle in a site's outbox."""
    states = ("waiting", "sending", "accepted", "refused", "withdrawn")
    return next((row.state, row.code) for row in Queue(home.exchange).offered(*states) if row.bundle_sha256 == sha256)


@dataclass
class Caller:
    """The release service as a site's certificate reaches it, call by call: what a hostile site would write."""

    channel: grpc.Channel

    def __post_init__(self) -> None:
        self._stub = rpc.ReleasesStub(self.channel)

    def begin(self, payload: bytes, signature: bytes) -> pb.BeginReply:
        """States a bundle. Raises the coordinator's error."""
        with _errors():
            return self._stub.Begin(pb.BeginRequest(manifest=payload, signature=signature), timeout=_TIMEOUT_S)

    def upload(self, sha256: str, chunks: Iterable[tuple[str, int, bytes]]) -> int:
        """Sends (object, offset, data) of a bundle. Raises the coordinator's error."""
        messages = (
            pb.Chunk(bundle_sha256=sha256, object_sha256=name, offset=offset, data=data)
            for name, offset, data in chunks
        )
        with _errors():
            return int(self._stub.Upload(messages, timeout=_TIMEOUT_S).stored_objects)

    def finish(self, sha256: str) -> pb.FinishReply:
        """Asks for admission. Raises the coordinator's error."""
        with _errors():
            return self._stub.Finish(pb.FinishRequest(bundle_sha256=sha256), timeout=_TIMEOUT_S)

    def renew(self, request: bytes) -> bytes:
        """Asks for a further certificate. Raises the coordinator's error."""
        with _errors():
            message = pb.RenewRequest(certificate_request=request)
            return bytes(self._stub.Renew(message, timeout=_TIMEOUT_S).certificate)

    def begin_sealed(self, home: Home, manifest: Manifest) -> pb.BeginReply:
        """States a manifest, signed with the site's own key."""
        payload = canonical(manifest)
        return self.begin(payload, sign(signing_key(home), "manifest", payload))

    def send_all(self, home: Home, manifest: Manifest, objects: dict[str, bytes]) -> pb.FinishReply:
        """The whole conversation, every object in one chunk or more."""
        self.begin_sealed(home, manifest)
        sha256 = bundle_sha256(manifest)
        self.upload(sha256, [chunk for name, data in objects.items() for chunk in chunks_of(name, data)])
        return self.finish(sha256)


def chunks_of(name: str, data: bytes, size: int = 64 * 1024) -> list[tuple[str, int, bytes]]:
    """An object in chunks of size bytes."""
    return [(name, offset, data[offset : offset + size]) for offset in range(0, len(data), size)]


@contextmanager
def caller(home: Home) -> Iterator[Caller]:
    """The release service, called with this site's certificate."""
    with release_channel(home) as channel:
        yield Caller(channel)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise error_from(error) from error


@contextmanager
def refused(code: str) -> Iterator[None]:
    """Passes when the block ends with exactly this error code."""
    with pytest.raises(SynthwardError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)
