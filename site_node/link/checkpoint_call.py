"""Tells the coordinator where the site's journals end, and compares what it answers with what is here."""

from __future__ import annotations

import grpc
import stamina
import structlog

from shared.checkpoint import Checkpoint
from shared.documents import parse, verify
from shared.errors import ExitCode, SynthwardError
from shared.identity import public_key
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from, is_worth_retrying
from site_node.checkpoints import Checkpoints
from site_node.jobs import Queue
from site_node.settings import Home
from site_node.standing import note_standing

_TIMEOUT_S = 60.0
_log = structlog.get_logger("site.checkpoint")


class CheckpointCall:
    """Exchanges checkpoints. channel: to the release service, with the site's certificate."""

    def __init__(self, home: Home, queue: Queue, channel: grpc.Channel) -> None:
        membership = home.membership()
        self._site = membership.site
        self._coordinator_key = public_key(bytes.fromhex(membership.coordinator_key))
        self._queue = queue
        self._checkpoints = Checkpoints(queue)
        self._stub = rpc.ReleasesStub(channel)  # type: ignore[no-untyped-call]

    def exchange(self) -> bool:
        """Two calls: one learns what the coordinator holds of this site, the other confirms it or says that it is gone.

        False when it must be tried again. What disagrees is on record, and stops nothing: `verify` reports it.
        """
        try:
            self._once()
            self._once()
        except grpc.RpcError as call:
            code = error_from(call).code
            note_standing(self._queue, code)
            _log.warning("no-checkpoint", code=code)
            return False
        except SynthwardError as error:
            if error.exit_code is ExitCode.STORAGE:
                raise  # our own disk or database, not what came
            # A checkpoint that does not verify: whoever answered is not our coordinator.
            self._queue.record("link", "checkpoint-refused", self._site, error.code)
            return False
        note_standing(self._queue, "")
        return True

    def _once(self) -> None:
        said = self._checkpoints.to_say()
        reply = self._call(
            pb.CheckpointRequest(
                link_entries=said.link.entries,
                link_sha256=said.link.sha256,
                trainer_entries=said.trainer.entries,
                trainer_sha256=said.trainer.sha256,
                last_checkpoint=said.last,
                last_signature=said.signature,
                rolled_back=int(said.rolled_back),
            )
        )
        payload, signature = reply.checkpoint.payload, reply.checkpoint.signature
        verify(self._coordinator_key, "checkpoint", payload, signature)
        if parse(Checkpoint, payload).site != self._site:
            raise SynthwardError("trust.signature", "the checkpoint is for another site")
        self._checkpoints.take_in(said, payload, signature, reply.sha256_at_last)

    @stamina.retry(on=is_worth_retrying, attempts=5, wait_initial=0.2, wait_max=5.0)
    def _call(self, request: pb.CheckpointRequest) -> pb.CheckpointReply:
        self._queue.count_egress("checkpoint", request.ByteSize())
        reply: pb.CheckpointReply = self._stub.Checkpoint(request, timeout=_TIMEOUT_S)
        return reply
