"""The two gRPC services that sites call: enrolment (server TLS, an invitation), releases (mutual TLS, a certificate).

They listen on ports of their own, so that no method of the one is ever reachable under the other's rules. Who is
calling comes from the verified certificate on every call, never from the message.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import structlog

from coordinator.admission import Admission, SignedReceipt
from coordinator.capture import Capture
from coordinator.checkpoints import Checkpoints
from coordinator.enrolment import Application
from coordinator.seats import Seats
from coordinator.store.certificates import check_holds
from coordinator.store.store import Store
from coordinator.upload import Upload
from shared.errors import SynthwardError
from shared.identity import peer
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import abort

_log = structlog.get_logger("coordinator.release_service")
_MAX_MESSAGE_BYTES = 20 * 1024 * 1024
# A call holds a thread as long as it lasts, an upload for minutes: while a hundred sites send, the calls of others must
# still find one. A thread that waits costs next to nothing, and decoding is bounded by the cores (admission.py).
_ENROLMENT_THREADS, _RELEASE_THREADS = 4, 256
_MOST_CALLS_OF_A_SITE = 8
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Identity:
    """PEM files' contents with which a service presents itself."""

    key: bytes
    certificate: bytes
    authority: bytes


@dataclass(frozen=True)
class Welcome:
    """What a new site is told besides its certificate."""

    coordinator_key: bytes
    releases_address: str
    fleet_address: str


class EnrolmentService(rpc.EnrolmentServicer):
    """Answers applications. `enrol` does the work; this class only speaks gRPC."""

    def __init__(self, enrol: Callable[[Application], tuple[str, bytes]], welcome: Welcome, capture: Capture) -> None:
        self._enrol = enrol
        self._welcome = welcome
        self._capture = capture

    def Enrol(self, request: pb.EnrolRequest, context: grpc.ServicerContext) -> pb.EnrolReply:
        """Enrols a site, or aborts with a code."""
        self._capture.keep("enrolment", "unknown", request.SerializeToString())

        def answer() -> pb.EnrolReply:
            site, certificate = self._enrol(
                Application(
                    invitation_secret=request.invitation_secret,
                    certificate_request=request.certificate_request,
                    signing_key=request.signing_key,
                    signing_proof=request.signing_proof,
                    flower_key=request.flower_key,
                )
            )
            return pb.EnrolReply(
                site=site,
                certificate=certificate,
                coordinator_key=self._welcome.coordinator_key,
                releases_address=self._welcome.releases_address,
                fleet_address=self._welcome.fleet_address,
            )

        return _guarded(context, "enrol", answer)


class ReleaseService(rpc.ReleasesServicer):
    """Takes bundles in for the site that the certificate names."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        checkpoints: Checkpoints,
        capture: Capture,
        renew: Callable[[str, bytes], bytes],
    ) -> None:
        """renew: answers a site's certificate request (PEM) with a certificate (PEM)."""
        self._store = store
        self._admission = admission
        self._checkpoints = checkpoints
        self._capture = capture
        self._renew = renew
        self._seats = Seats(_MOST_CALLS_OF_A_SITE)

    def Begin(self, request: pb.BeginRequest, context: grpc.ServicerContext) -> pb.BeginReply:
        """States a bundle."""

        def answer() -> pb.BeginReply:
            site = self._caller(context)
            self._capture.keep("bundle", site, request.SerializeToString())
            result = self._admission.begin(site, request.manifest, request.signature)
            if isinstance(result, SignedReceipt):
                return pb.BeginReply(receipt=_receipt(result))
            return pb.BeginReply(missing=[pb.MissingObject(sha256=m.sha256, offset=m.offset) for m in result])

        return _guarded(context, "begin", answer)

    def Upload(self, requests: Iterator[pb.Chunk], context: grpc.ServicerContext) -> pb.UploadReply:
        """Takes chunks until the stream ends; what is acknowledged is durable."""

        def answer() -> pb.UploadReply:
            site = self._caller(context)
            stored = 0
            upload: Upload | None = None
            for chunk in requests:
                self._capture.keep("bundle", site, chunk.data)
                if upload is None or upload.sha256 != chunk.bundle_sha256:
                    if upload is not None:
                        upload.settle()
                    upload = self._admission.upload(site, chunk.bundle_sha256)
                stored += upload.store_chunk(chunk.object_sha256, chunk.offset, chunk.data)
            if upload is not None:
                upload.settle()
            return pb.UploadReply(stored_objects=stored)

        return _guarded(context, "upload", answer)

    def Finish(self, request: pb.FinishRequest, context: grpc.ServicerContext) -> pb.FinishReply:
        """Admits a bundle."""

        def answer() -> pb.FinishReply:
            site = self._caller(context)
            self._capture.keep("bundle", site, request.SerializeToString())
            return pb.FinishReply(receipt=_receipt(self._admission.finish(site, request.bundle_sha256)))

        return _guarded(context, "finish", answer)

    def Revoke(self, request: pb.RevokeRequest, context: grpc.ServicerContext) -> pb.RevokeReply:
        """Takes a bundle back."""

        def answer() -> pb.RevokeReply:
            site = self._caller(context)
            self._capture.keep("revocation", site, request.SerializeToString())
            return pb.RevokeReply(receipt=_receipt(self._admission.revoke(site, request.revocation, request.signature)))

        return _guarded(context, "revoke", answer)

    def Checkpoint(self, request: pb.CheckpointRequest, context: grpc.ServicerContext) -> pb.CheckpointReply:
        """Takes in where a site's journals end, and says where ours does."""

        def answer() -> pb.CheckpointReply:
            site = self._caller(context)
            self._capture.keep("checkpoint", site, request.SerializeToString())
            told = self._checkpoints.read(
                site,
                link=(request.link_entries, request.link_sha256),
                trainer=(request.trainer_entries, request.trainer_sha256),
                last=(request.last_checkpoint, request.last_signature),
                rolled_back=request.rolled_back,
            )
            payload, signature, at_last = self._checkpoints.answer(site, told)
            return pb.CheckpointReply(
                checkpoint=pb.SignedReceipt(payload=payload, signature=signature), sha256_at_last=at_last
            )

        return _guarded(context, "checkpoint", answer)

    def Renew(self, request: pb.RenewRequest, context: grpc.ServicerContext) -> pb.RenewReply:
        """Gives a site its next certificate."""

        def answer() -> pb.RenewReply:
            site = self._caller(context)
            self._capture.keep("renewal", site, request.SerializeToString())
            return pb.RenewReply(certificate=self._renew(site, request.certificate_request))

        return _guarded(context, "renew", answer)

    def _caller(self, context: grpc.ServicerContext) -> str:
        certificates = list(context.auth_context().get("x509_pem_cert", ()))
        if not certificates or not isinstance(certificates[0], bytes):
            raise SynthwardError("trust.certificate", "a caller presented no certificate")
        role, name, serial = peer(certificates[0])
        if role != "site":
            raise SynthwardError("trust.role", f"a {role} called the release service")
        # Asked on every call: a site that is revoked, or enrols again, loses its connections' rights at once.
        check_holds(self._store, name, serial)
        self._seats.take(name)
        if not context.add_callback(lambda: self._seats.leave(name)):
            self._seats.leave(name)  # the call has ended already
        return name


def start_services(
    enrolment: EnrolmentService,
    releases: ReleaseService,
    identity: Identity,
    *,
    bind: str,
    ports: tuple[int, int],
    interceptors: Sequence[grpc.ServerInterceptor[Any, Any]] = (),
) -> tuple[grpc.Server, grpc.Server]:
    """Starts both servers on (enrolment, releases) ports. Raises unavailable.port."""
    pair = [(identity.key, identity.certificate)]
    server_tls = grpc.ssl_server_credentials(pair)
    mutual_tls = grpc.ssl_server_credentials(pair, root_certificates=identity.authority, require_client_auth=True)
    first, second = _server(_ENROLMENT_THREADS, interceptors), _server(_RELEASE_THREADS, interceptors)
    rpc.add_EnrolmentServicer_to_server(enrolment, first)  # type: ignore[no-untyped-call]
    rpc.add_ReleasesServicer_to_server(releases, second)  # type: ignore[no-untyped-call]
    for server, credentials, port in ((first, server_tls, ports[0]), (second, mutual_tls, ports[1])):
        try:
            bound = server.add_secure_port(f"{bind}:{port}", credentials)
        except RuntimeError:
            bound = 0
        if bound == 0:
            raise SynthwardError(
                "unavailable.port",
                f"port {port} on {bind} is in use or not ours to use",
                do="stop the program that has it, or set another port in settings.toml",
            )
        server.start()
    return first, second


def _server(workers: int, interceptors: Sequence[grpc.ServerInterceptor[Any, Any]]) -> grpc.Server:
    return grpc.server(
        futures.ThreadPoolExecutor(max_workers=workers),
        interceptors=list(interceptors),
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            # A port that another process has must fail, not be shared with it.
            ("grpc.so_reuseport", 0),
        ],
    )


def _guarded(context: grpc.ServicerContext, method: str, answer: Callable[[], Answer]) -> Answer:
    try:
        return answer()
    except SynthwardError as error:
        _log.warning("refused", method=method, code=error.code)
        abort(context, error)
    except grpc.RpcError:
        raise  # the stream broke: the caller will come back
    except Exception as error:  # noqa: BLE001
        # Its text may hold anything; it stays in our log.
        _log.exception("failed", method=method)
        abort(context, SynthwardError("internal", str(error)))


def _receipt(receipt: SignedReceipt) -> pb.SignedReceipt:
    return pb.SignedReceipt(payload=receipt.payload, signature=receipt.signature)
