"""Carries the site's signed revocations to the coordinator, until each has its receipt."""

from __future__ import annotations

import grpc
import stamina
import structlog

from shared.errors import ExitCode, SynthwardError
from shared.identity import public_key
from shared.revocation import check_receipt
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from, is_worth_retrying
from site_node.jobs import Queue
from site_node.revocations import Revocations
from site_node.settings import Home
from site_node.standing import note_standing

_TIMEOUT_S = 60.0
_log = structlog.get_logger("site.take_back")


class TakeBack:
    """Sends what the trainer has signed. channel: to the release service, with the site's certificate."""

    def __init__(self, home: Home, queue: Queue, channel: grpc.Channel) -> None:
        membership = home.membership()
        self._site = membership.site
        self._coordinator_key = public_key(bytes.fromhex(membership.coordinator_key))
        self._queue = queue
        self._revocations = Revocations(queue)
        self._stub = rpc.ReleasesStub(channel)  # type: ignore[no-untyped-call]

    def send_all(self) -> tuple[int, bool]:
        """(how many were confirmed, whether none is left). No answer is final but a receipt that verifies."""
        waiting = self._revocations.waiting()
        confirmed = sum(self._send(row.bundle_sha256, bytes(row.payload), bytes(row.signature)) for row in waiting)
        return confirmed, confirmed == len(waiting)

    def _send(self, sha256: str, payload: bytes, signature: bytes) -> bool:
        try:
            receipt = self._call(pb.RevokeRequest(revocation=payload, signature=signature))
            check_receipt(
                self._coordinator_key, receipt.payload, receipt.signature, bundle_sha256=sha256, site=self._site
            )
        except grpc.RpcError as call:
            code = error_from(call).code
            note_standing(self._queue, code)
        except SynthwardError as error:
            if error.exit_code is ExitCode.STORAGE:
                raise  # our own disk or database, not what came
            # A receipt that does not verify: whoever answered is not our coordinator.
            code = error.code
            self._queue.record("link", "receipt-refused", sha256, code)
        else:
            self._revocations.settle(sha256, receipt.payload, receipt.signature)
            return True
        _log.warning("not-revoked", bundle=sha256, code=code)
        self._revocations.failed(sha256, code)
        return False

    @stamina.retry(on=is_worth_retrying, attempts=5, wait_initial=0.2, wait_max=5.0)
    def _call(self, request: pb.RevokeRequest) -> pb.SignedReceipt:
        self._queue.count_egress("revocation", request.ByteSize())
        reply: pb.RevokeReply = self._stub.Revoke(request, timeout=_TIMEOUT_S)
        return reply.receipt
