"""Renewal: a new key and certificate for the site before the old ones end, without anybody's hand.

A kill between any two steps leaves a site that works. The new key is on the disk before the coordinator hears of it,
and the coordinator answers one key with one certificate, so asking again is safe. Key and certificate then take the old
ones' place in one rename, and the old certificate holds until its end.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import Enum

import grpc
import stamina
import structlog
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import SynthwardError
from shared.files import sync_folder, write_private
from shared.identity import certificate_request, check_issued, new_tls_key, peer
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from, is_worth_retrying
from site_node.certificate import Identity, key_pem, private_key, read_identity, write_identity
from site_node.jobs import Queue
from site_node.link.channel import release_channel
from site_node.settings import Home
from site_node.standing import note_standing

_TIMEOUT_S = 30.0
# Of thirty days a third is ten: 240 attempts.
_PAUSE = timedelta(hours=1)
_RENEWED = "certificate-renewed"
_log = structlog.get_logger("site.renewal")


class Turn(Enum):
    """What one look at the certificate came to."""

    KEPT = "it holds"
    RENEWED = "there is a new one: channels must be opened afresh"
    LATER = "it holds still; renewing is tried again"
    ENDED = "it has ended: only a new invitation helps"


class Renewal:
    """Looks after the site's certificate. clock: the time in UTC."""

    def __init__(self, home: Home, queue: Queue, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._home = home
        self._queue = queue
        self._clock = clock
        self._site = home.membership().site
        self._pending = home.link_keys / "next.key"
        self._tried: datetime | None = None

    def turn(self) -> Turn:
        """Renews where that is due, at most once an hour."""
        now, held = self._clock(), read_identity(self._home)
        self._finish(held)
        if held.validity.ended(now):
            note_standing(self._queue, "trust.certificate-expired")
            return Turn.ENDED
        if not held.validity.due(now):
            return Turn.KEPT
        if self._tried is not None and timedelta() <= now - self._tried < _PAUSE:
            return Turn.LATER
        self._tried = now
        try:
            self._renew(held)
        except grpc.RpcError as call:
            code = error_from(call).code
        except SynthwardError as error:
            # A certificate that does not verify, or no room on the disk: the old one stays.
            code = error.code
        else:
            note_standing(self._queue, "")
            return Turn.RENEWED
        note_standing(self._queue, code)
        _log.warning("not-renewed", code=code)
        return Turn.LATER

    def _renew(self, held: Identity) -> None:
        key = self._next_key()
        certificate = self._ask(certificate_request(key, self._site))
        authority = (self._home.link_keys / "ca.crt").read_bytes()
        check_issued(certificate, authority, key.public_key(), ("site", self._site))
        new = Identity(key_pem(key), certificate)
        if new.validity.end < held.validity.end:
            # The answer to a key of long ago. The next attempt brings another key.
            self._forget_key()
            raise SynthwardError("trust.certificate", "the new certificate ends before the present one")
        write_identity(self._home, new)
        self._finish(new)

    def _next_key(self) -> ec.EllipticCurvePrivateKey:
        """The key that is to come, durable before anybody hears of it; the same one until it has its certificate."""
        try:
            return private_key(self._pending.read_bytes())
        except FileNotFoundError:
            pass
        except SynthwardError:
            _log.warning("pending-key-unreadable")
        key = new_tls_key()
        write_private(self._pending, key_pem(key))
        return key

    @stamina.retry(on=is_worth_retrying, attempts=4, wait_initial=0.3, wait_max=3.0)
    def _ask(self, request: bytes) -> bytes:
        message = pb.RenewRequest(certificate_request=request)
        self._queue.count_egress("renewal", message.ByteSize())
        with release_channel(self._home) as channel:
            stub = rpc.ReleasesStub(channel)  # type: ignore[no-untyped-call]
            return bytes(stub.Renew(message, timeout=_TIMEOUT_S).certificate)

    def _finish(self, held: Identity) -> None:
        """Writes down that the pending key has become the present one, once, and drops it; also after a kill."""
        if not self._pending.exists() or self._pending.read_bytes() != held.key:
            return
        serial = f"{peer(held.certificate)[2]:x}"
        if not any(entry.action == _RENEWED and entry.detail == serial for entry in self._queue.journal()):
            self._queue.record("link", _RENEWED, self._site, serial)
        self._forget_key()

    def _forget_key(self) -> None:
        self._pending.unlink(missing_ok=True)
        sync_folder(self._home.link_keys)
