"""The outbox: carries sealed bundles to the coordinator, until each has its receipt.

A bundle is a folder that the trainer's half put there whole. Sending is resumable: the coordinator says which objects
and offsets it lacks. Nothing is taken back as lost before a signed receipt, or a final refusal, is on the disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import stamina
import structlog

from shared.bundle import Manifest, object_path
from shared.documents import parse
from shared.errors import ExitCode, SynthwardError
from shared.identity import public_key
from shared.pairs import sha256_hex
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from, is_worth_retrying
from site_node.jobs import Queue
from site_node.receipts import check_receipt
from site_node.settings import Home
from site_node.standing import WHAT_TO_DO, note_standing

CHUNK_BYTES = 64 * 1024
_CALL_TIMEOUT_S = 60.0
_UPLOAD_TIMEOUT_S = 6 * 3600.0
_FINISH_TIMEOUT_S = 1800.0
_CLOSED = "policy.expired"
_log = structlog.get_logger("site.outbox")


class Outbox:
    """Sends what the queue offers. channel: to the release service, with the site's certificate."""

    def __init__(self, home: Home, queue: Queue, channel: grpc.Channel) -> None:
        self._home = home
        self._queue = queue
        self._stub = rpc.ReleasesStub(channel)  # type: ignore[no-untyped-call]
        self._coordinator_key = public_key(bytes.fromhex(home.membership().coordinator_key))

    def send(self, sha256: str) -> bool:
        """Sends one bundle; False when it must be tried again.

        Only an answer about the bundle itself is final: it is then settled as accepted, or as refused. A certificate
        that was revoked, a service that is away or that failed inside: the bundle stays, whole, in the outbox.
        """
        if not self._queue.start_sending(sha256):
            return True
        try:
            receipt, signature = self._send(self._home.outbox / sha256)
        except grpc.RpcError as call:
            error = error_from(call)
            note_standing(self._queue, error.code)
            if not _is_final(error) or (error.code == _CLOSED and not self._has_closed(sha256)):
                _log.warning("not-sent", bundle=sha256, code=error.code)
                return False
            self._queue.settle(sha256, "refused", code=error.code, receipt=b"", signature=b"")
            return True
        except SynthwardError as error:
            if error.exit_code is ExitCode.STORAGE:
                raise  # our own disk or database, not what came
            # A receipt that does not verify: whoever answered is not our coordinator.
            self._queue.record("link", "receipt-refused", sha256, error.code)
            return False
        self._queue.settle(sha256, "accepted", code="", receipt=receipt, signature=signature)
        return True

    @stamina.retry(on=is_worth_retrying, attempts=5, wait_initial=0.2, wait_max=5.0)
    def _send(self, folder: Path) -> tuple[bytes, bytes]:
        payload = (folder / "manifest.json").read_bytes()
        manifest = parse(Manifest, payload)
        begin = pb.BeginRequest(manifest=payload, signature=(folder / "manifest.sig").read_bytes())
        self._queue.count_egress("bundle", begin.ByteSize())
        reply = self._stub.Begin(begin, timeout=_CALL_TIMEOUT_S)
        if reply.HasField("receipt"):
            return self._checked(reply.receipt, manifest)
        sha256 = sha256_hex(payload)
        missing, handed_over = [(m.sha256, m.offset) for m in reply.missing], _Bytes()
        try:
            self._stub.Upload(_chunks(folder, sha256, missing, handed_over), timeout=_UPLOAD_TIMEOUT_S)
        finally:
            self._queue.count_egress("bundle", handed_over.count)
        finish = pb.FinishRequest(bundle_sha256=sha256)
        self._queue.count_egress("bundle", finish.ByteSize())
        reply = self._stub.Finish(finish, timeout=_FINISH_TIMEOUT_S)
        return self._checked(reply.receipt, manifest)

    def _has_closed(self, sha256: str) -> bool:
        """Whether the bundle's study has closed by our clock too: while it has not, one of two clocks is wrong."""
        manifest = parse(Manifest, (self._home.outbox / sha256 / "manifest.json").read_bytes())
        closes = {known: study.closes for known, study in self._queue.studies()}.get(manifest.study_sha256)
        return closes is None or datetime.now(UTC) >= closes

    def _checked(self, receipt: pb.SignedReceipt, manifest: Manifest) -> tuple[bytes, bytes]:
        check_receipt(self._coordinator_key, manifest, receipt.payload, receipt.signature)
        return receipt.payload, receipt.signature


@dataclass
class _Bytes:
    """How many bytes of messages were handed to the transport."""

    count: int = 0


def _chunks(folder: Path, sha256: str, missing: list[tuple[str, int]], handed_over: _Bytes) -> Iterator[pb.Chunk]:
    # Writes nothing down itself: gRPC may drop a generator halfway, and then it ends wherever the collector runs, which
    # may be inside a transaction of the very database.
    for name, start in missing:
        with object_path(folder, name).open("rb") as file:
            file.seek(start)
            offset = start
            while data := file.read(CHUNK_BYTES):
                chunk = pb.Chunk(bundle_sha256=sha256, object_sha256=name, offset=offset, data=data)
                handed_over.count += chunk.ByteSize()
                yield chunk
                offset += len(data)


def _is_final(error: SynthwardError) -> bool:
    """Whether the coordinator has judged the bundle itself, so that sending it again would change nothing."""
    about_the_caller = error.code in WHAT_TO_DO
    judged = error.exit_code in (ExitCode.INPUT, ExitCode.TRUST, ExitCode.POLICY)
    # An object that arrived changed was dropped over there, and is asked for again.
    on_its_way = error.code == "admission.digest"
    for_good = error.code in ("admission.quarantined", "admission.revoked")
    return (judged and not about_the_caller and not on_its_way) or for_good
