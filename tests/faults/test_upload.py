"""An upload that is cut, killed, corrupted or lied to: the bundle is accepted once, or waits whole in the outbox."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.release_service import ReleaseService
from coordinator.store.objects import ObjectStore
from shared.bundle import Manifest, Receipt, bundle_sha256
from shared.documents import canonical, parse, sign, verify
from shared.errors import SynthwardError
from shared.files import write_atomic
from shared.identity import new_signing_key
from shared.pairs import sha256_hex
from shared.settings_files import to_toml
from shared.study import Study
from shared.wire import synthward_pb2 as pb
from site_node.jobs import Queue
from site_node.settings import Home, Settings
from tests.helpers import (
    HOST,
    Coordinator,
    caller,
    chunks_of,
    make_sealed,
    manifest_of,
    noise_pair,
    outbox_of,
    outbox_state,
    png_objects,
    refused,
    running,
    small_study,
)

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(small_study(image={"size_px": 256}))


@pytest.fixture
def site(coordinator: Coordinator, tmp_path: Path) -> Home:
    return coordinator.join(tmp_path / "north", "north")


def bundle(study: Study) -> tuple[Manifest, dict[str, bytes]]:
    """A bundle of a few hundred kilobytes: many chunks."""
    entries, objects = png_objects([noise_pair(seed, study.image.size_px) for seed in (1, 2, 3)])
    return manifest_of(study, "north", entries), objects


def send(home: Home, sha256: str) -> bool:
    """One attempt of the site's own outbox, on a fresh channel."""
    with outbox_of(home) as outbox:
        return outbox.send(sha256)


def incoming_bytes(coordinator: Coordinator, sha256: str) -> int:
    """How much of a bundle's objects lies at the coordinator."""
    return sum(path.stat().st_size for path in (coordinator.folder / "incoming" / sha256 / "objects").iterdir())


def captured_bytes(coordinator: Coordinator) -> int:
    """How much the site has sent so far."""
    return (coordinator.capture / "north.bundle.bin").stat().st_size


def accepted_once(coordinator: Coordinator, home: Home, sha256: str) -> bool:
    """One acceptance in the journal, the receipt at the site, every object in the store."""
    row = Queue(home.exchange).offered("accepted")[0]
    verify(coordinator.key.public_key(), "receipt", row.receipt, row.signature)
    manifest = parse(Manifest, (home.outbox / sha256 / "manifest.json").read_bytes())
    return (
        coordinator.actions("accept-bundle") == [sha256]
        and parse(Receipt, row.receipt).bundle_sha256 == sha256
        and coordinator.stored_objects() == set(manifest.objects())
    )


class Gateway:
    """A hospital's TCP gateway that cuts its first connection after some bytes; later ones pass, or find nobody."""

    def __init__(
        self, target_port: int, *, cut_after_bytes: int, comes_back: bool, not_before: threading.Event | None
    ) -> None:
        self._target_port = target_port
        self._not_before = not_before
        self._left = cut_after_bytes
        self._comes_back = comes_back
        self._listener = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                first = self.connections == 1
                if not first and not self._comes_back:
                    client.close()
                    continue
                server = socket.create_connection((HOST, self._target_port))
                threading.Thread(target=self._pass, args=(client, server, first), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        with suppress(OSError):
            while data := source.recv(16 * 1024):
                if limited and len(data) > self._left:
                    # What is cut off while it is in flight is gone: give the other side time to store what it has.
                    if self._not_before is not None:
                        self._not_before.wait(timeout=20)
                    break
                self._left -= len(data) if limited else 0
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def gateway(
    home: Home,
    target_port: int,
    *,
    cut_after_bytes: int,
    comes_back: bool,
    not_before: threading.Event | None = None,
) -> Iterator[Gateway]:
    """The site sends through a gateway that breaks; afterwards it sends directly again."""
    between = Gateway(target_port, cut_after_bytes=cut_after_bytes, comes_back=comes_back, not_before=not_before)
    set_address(home, between.address)
    try:
        yield between
    finally:
        between.close()
        set_address(home, "")


def set_address(home: Home, address: str) -> None:
    """Writes where the site's settings say that the release service is."""
    write_atomic(home.settings_file, to_toml(Settings(releases_address=address).model_dump()).encode())


def counting(enough_bytes: int) -> tuple[type[ReleaseService], threading.Event]:
    """(a release service, set once it has stored that many bytes of an upload)."""
    enough = threading.Event()

    class Counting(ReleaseService):
        def Upload(self, requests: Iterator[pb.Chunk], context: grpc.ServicerContext) -> pb.UploadReply:
            def counted() -> Iterator[pb.Chunk]:
                stored = 0
                for chunk in requests:
                    yield chunk
                    stored += len(chunk.data)  # the service comes for the next chunk when it has stored this one
                    if stored >= enough_bytes:
                        enough.set()

            return super().Upload(counted(), context)

    return Counting, enough


def test_a_cut_upload_resumes_where_it_stopped(coordinator: Coordinator, study: Study, site: Home) -> None:
    coordinator.service, enough = counting(100_000)
    coordinator.restart()
    manifest, objects = bundle(study)
    total = sum(map(len, objects.values()))
    sha256 = make_sealed(site, manifest, objects)
    with gateway(site, coordinator.ports[1], cut_after_bytes=total // 2, comes_back=False, not_before=enough):
        assert not send(site, sha256)
    assert outbox_state(site, sha256)[0] == "sending"
    coordinator.restart()
    stored, sent_before = incoming_bytes(coordinator, sha256), captured_bytes(coordinator)
    assert 100_000 <= stored < total
    assert send(site, sha256)
    statements = 2 * len(canonical(manifest)) + 1024
    assert captured_bytes(coordinator) - sent_before <= total - stored + statements
    assert accepted_once(coordinator, site, sha256)


def test_an_upload_that_is_cut_once_is_accepted_in_the_same_attempt(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    with gateway(site, coordinator.ports[1], cut_after_bytes=200_000, comes_back=True) as between:
        # The coordinator may still be at what came before the cut: then the outbox is told so, and comes again.
        assert any(send(site, sha256) for _ in range(20))
        assert between.connections > 1
    assert accepted_once(coordinator, site, sha256)


def test_a_coordinator_that_is_away_loses_nothing(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    with gateway(site, coordinator.ports[1], cut_after_bytes=0, comes_back=False):
        assert not send(site, sha256)
    assert (site.outbox / sha256 / "manifest.json").exists()
    assert send(site, sha256)
    assert accepted_once(coordinator, site, sha256)


def test_a_coordinator_killed_between_begin_and_finish_asks_only_for_the_rest(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    whole, half, *rest = sorted(objects, key=lambda name: len(objects[name]), reverse=True)
    with caller(site) as north:
        north.begin_sealed(site, manifest)
        assert north.upload(sha256, chunks_of(whole, objects[whole])) == 1
        assert north.upload(sha256, [(half, 0, objects[half][:1000])]) == 0
    coordinator.restart()
    with caller(site) as north:
        missing = {line.sha256: line.offset for line in north.begin_sealed(site, manifest).missing}
        assert missing == {half: 1000, **dict.fromkeys(rest, 0)}
        with refused("admission.incomplete"):
            north.finish(sha256)
    assert send(site, sha256)
    assert accepted_once(coordinator, site, sha256)


def test_a_receipt_that_was_lost_on_its_way_is_given_again(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    with caller(site) as north:
        receipt = north.send_all(site, manifest, objects).receipt  # the site dies before it writes this down
    coordinator.restart()
    assert send(site, sha256)
    assert Queue(site.exchange).offered("accepted")[0].receipt == receipt.payload
    assert accepted_once(coordinator, site, sha256)


def test_two_senders_of_one_bundle_are_accepted_once(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    with caller(site) as north:
        north.begin_sealed(site, manifest)
        north.upload(sha256, [chunk for name, data in objects.items() for chunk in chunks_of(name, data)])
    receipts: list[bytes] = []

    def finish() -> None:
        with caller(site) as one:
            receipts.append(one.finish(sha256).receipt.payload)

    threads = [threading.Thread(target=finish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert len(receipts) == 4
    assert len(set(receipts)) == 1
    assert coordinator.actions("accept-bundle") == [sha256]


def test_a_corrupted_object_is_refused_and_sent_again_from_its_first_byte(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    name = sorted(objects)[0]
    changed = bytearray(objects[name])
    changed[100] ^= 0x40
    with caller(site) as north:
        north.begin_sealed(site, manifest)
        with refused("admission.digest"):
            north.upload(sha256, chunks_of(name, bytes(changed)))
        assert {line.sha256: line.offset for line in north.begin_sealed(site, manifest).missing}[name] == 0
    assert send(site, sha256)
    assert accepted_once(coordinator, site, sha256)


def test_a_file_that_was_read_wrongly_once_does_not_cost_the_release(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    name = sorted(objects)[0]
    path = site.outbox / sha256 / "objects" / f"{name}.png"
    path.write_bytes(objects[name][:-1] + b"?")
    assert not send(site, sha256)
    assert outbox_state(site, sha256)[0] == "sending"
    path.write_bytes(objects[name])
    assert send(site, sha256)
    assert accepted_once(coordinator, site, sha256)


# A coordinator that fails inside


class FailingObjects(ObjectStore):
    """Stores one object, then fails as told until it is repaired."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__(url)
        self.error: Exception | None = error
        self.puts = 0

    def put(self, name: str, data: bytes) -> None:
        self.puts += 1
        if self.error is not None and self.puts > 1:
            raise self.error
        super().put(name, data)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("patient 4711"), OSError(5, "Input/output error"), SynthwardError("storage.full", "no room")],
    ids=["bug", "disk-error", "disk-full"],
)
def test_a_failure_inside_the_coordinator_is_never_the_bundles_fault(
    coordinator: Coordinator, study: Study, site: Home, error: Exception
) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    failing = FailingObjects(f"file://{coordinator.folder / 'objects'}", error)
    coordinator.objects = failing
    coordinator.restart()
    assert not send(site, sha256)
    assert outbox_state(site, sha256) == ("sending", "")
    assert coordinator.store.bundle(sha256).state == "incoming"
    assert not coordinator.actions("quarantine-bundle")
    failing.error = None
    assert send(site, sha256)
    assert accepted_once(coordinator, site, sha256)


def test_a_refusal_of_the_bundle_itself_is_final_and_keeps_its_code(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest.model_copy(update={"training_patients": 1}), objects)
    assert send(site, sha256)  # settled: nothing to try again
    assert outbox_state(site, sha256) == ("refused", "admission.floor")
    begun = captured_bytes(coordinator)
    assert send(site, sha256)
    assert captured_bytes(coordinator) == begun  # a refused bundle is never sent again


def test_a_certificate_that_was_replaced_does_not_cost_the_release(
    coordinator: Coordinator, study: Study, site: Home, tmp_path: Path
) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    coordinator.join(tmp_path / "again", "north")
    assert not send(site, sha256)
    assert outbox_state(site, sha256) == ("sending", "")


def test_a_withdrawn_bundle_is_never_sent(coordinator: Coordinator, study: Study, site: Home) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    assert Queue(site.exchange).withdraw(sha256)
    assert send(site, sha256)
    assert outbox_state(site, sha256)[0] == "withdrawn"
    assert not (coordinator.capture / "north.bundle.bin").exists()


# A coordinator that lies

Forgery = Callable[[Manifest, Ed25519PrivateKey], tuple[bytes, bytes]]


def receipt_for(manifest: Manifest, **changes: object) -> bytes:
    """A receipt in its canonical form."""
    honest = Receipt(
        bundle_sha256=bundle_sha256(manifest),
        study_sha256=manifest.study_sha256,
        site=manifest.site,
        pairs=len(manifest.pairs),
        bytes=sum(manifest.objects().values()),
        accepted_at=datetime.now(UTC),
    )
    return canonical(Receipt.model_validate(honest.model_dump() | changes))


def by_a_stranger(manifest: Manifest, _key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    payload = receipt_for(manifest)
    return payload, sign(new_signing_key(), "receipt", payload)


def of_another_bundle(manifest: Manifest, key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    payload = receipt_for(manifest, bundle_sha256=sha256_hex(b"another"))
    return payload, sign(key, "receipt", payload)


def of_fewer_pairs(manifest: Manifest, key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    payload = receipt_for(manifest, pairs=1)
    return payload, sign(key, "receipt", payload)


def of_another_kind(manifest: Manifest, key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    payload = receipt_for(manifest)
    return payload, sign(key, "study", payload)


def changed_afterwards(manifest: Manifest, key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    payload = receipt_for(manifest)
    return payload + b" ", sign(key, "receipt", payload)


def honest_receipt(manifest: Manifest, key: Ed25519PrivateKey) -> tuple[bytes, bytes]:
    payload = receipt_for(manifest)
    return payload, sign(key, "receipt", payload)


def liar(forgery: Forgery, key: Ed25519PrivateKey) -> type[ReleaseService]:
    """A release service that says at once that it has everything."""

    class Liar(ReleaseService):
        def Begin(self, request: pb.BeginRequest, context: grpc.ServicerContext) -> pb.BeginReply:
            payload, signature = forgery(parse(Manifest, request.manifest), key)
            return pb.BeginReply(receipt=pb.SignedReceipt(payload=payload, signature=signature))

    return Liar


@pytest.mark.parametrize(
    "forgery", [by_a_stranger, of_another_bundle, of_fewer_pairs, of_another_kind, changed_afterwards]
)
def test_a_forged_receipt_is_not_believed(tmp_path: Path, forgery: Forgery) -> None:
    state, journal = after_receipt(tmp_path, forgery)
    assert state == ("sending", "")
    assert "receipt-refused" in journal


def test_an_honest_receipt_is_believed(tmp_path: Path) -> None:
    assert after_receipt(tmp_path, honest_receipt)[0] == ("accepted", "")


def after_receipt(tmp_path: Path, forgery: Forgery) -> tuple[tuple[str, str], list[str]]:
    """(state of the bundle, actions in the link's journal) after a coordinator answered with this receipt."""
    coordinator = Coordinator(tmp_path / "coordinator")
    coordinator.service = liar(forgery, coordinator.key)
    with running(coordinator):
        site = coordinator.join(tmp_path / "north", "north")
        sha256 = make_sealed(site, *bundle(coordinator.publish(small_study())))
        send(site, sha256)
        return outbox_state(site, sha256), [entry.action for entry in Queue(site.exchange).journal()]


def test_what_left_is_counted_whole_also_when_an_upload_was_broken_off(
    coordinator: Coordinator, study: Study, site: Home
) -> None:
    manifest, objects = bundle(study)
    sha256 = make_sealed(site, manifest, objects)
    name = sorted(objects)[0]
    path = site.outbox / sha256 / "objects" / f"{name}.png"
    path.write_bytes(bytes(len(objects[name])))
    assert not send(site, sha256)
    assert Queue(site.exchange).egress()["bundle"] >= captured_bytes(coordinator) > 0
    path.write_bytes(objects[name])
    assert send(site, sha256)
    assert Queue(site.exchange).egress()["bundle"] >= captured_bytes(coordinator) > sum(map(len, objects.values()))
