"""Enrolment, seen from the site: keys are made here, requests and public keys go out, a certificate comes back."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import grpc
import stamina
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from shared.errors import SynthwardError
from shared.files import write_atomic, write_private
from shared.identity import (
    certificate_request,
    flower_public_bytes,
    new_flower_key,
    new_signing_key,
    new_tls_key,
    peer,
    public_bytes,
    save_key,
)
from shared.invitation import Invitation
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from, is_worth_retrying
from site_node.certificate import Identity, key_pem, write_identity
from site_node.jobs import Queue
from site_node.link.channel import enrolment_channel
from site_node.settings import Home, Membership

_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Enrolled:
    """What came of an invitation: the new keys and what the coordinator answered. Nothing is on the disk yet."""

    membership: Membership
    identity: Identity
    flower_key: ec.EllipticCurvePrivateKey
    signing_key: Ed25519PrivateKey
    authority: bytes
    sent_bytes: int


def enrol(home: Home, invitation: Invitation) -> Membership:
    """Enrols the site and writes keys, certificate and membership. Raises trust.* or unavailable.service.

    Keys are written only after the coordinator has answered, so a refused invitation leaves nothing behind.
    """
    enrolled = apply(invitation)
    write_private(home.link_keys / "executor.secret", secrets.token_bytes(32))
    write_atomic(home.link_keys / "ca.crt", enrolled.authority)
    keep_signing_key(home, enrolled, replace=False)
    keep_link_keys(home, enrolled, replace=False)
    home.join(enrolled.membership)
    Queue(home.exchange).count_egress("enrolment", enrolled.sent_bytes)
    return enrolled.membership


def keep_signing_key(home: Home, enrolled: Enrolled, *, replace: bool) -> None:
    """Writes the key that signs bundles, not for the link. Raises trust.keys-exist unless it may replace one."""
    save_key(home.seal_keys / "signing.key", enrolled.signing_key, replace=replace)


def keep_link_keys(home: Home, enrolled: Enrolled, *, replace: bool) -> None:
    """Writes the link's: Flower's key, and last the TLS key with its certificate. Raises trust.keys-exist likewise."""
    save_key(home.link_keys / "flower.key", enrolled.flower_key, openssh=True, replace=replace)
    write_identity(home, enrolled.identity)


def apply(invitation: Invitation) -> Enrolled:
    """Makes keys and enrols with them. Raises trust.* or unavailable.service."""
    tls_key, flower_key, signing_key = new_tls_key(), new_flower_key(), new_signing_key()
    request = certificate_request(tls_key, invitation.site)
    message = pb.EnrolRequest(
        invitation_secret=bytes.fromhex(invitation.secret),
        certificate_request=request,
        signing_key=public_bytes(signing_key.public_key()),
        signing_proof=signing_key.sign(request),
        flower_key=flower_public_bytes(flower_key),
    )
    authority = invitation.authority.encode()
    with enrolment_channel(invitation.address, authority) as channel:
        reply = _call(rpc.EnrolmentStub(channel), message)  # type: ignore[no-untyped-call]
    if peer(reply.certificate)[:2] != ("site", invitation.site):
        raise SynthwardError("trust.identity", "the certificate that came back is not this site's")
    try:
        membership = Membership(
            site=reply.site,
            releases_address=reply.releases_address,
            fleet_address=reply.fleet_address,
            coordinator_key=reply.coordinator_key.hex(),
        )
    except ValidationError as error:
        raise SynthwardError("trust.identity", "the coordinator's answer is none of this version") from error
    return Enrolled(
        membership,
        Identity(key_pem(tls_key), reply.certificate),
        flower_key,
        signing_key,
        authority,
        message.ByteSize(),
    )


def _call(stub: rpc.EnrolmentStub, message: pb.EnrolRequest) -> pb.EnrolReply:
    @stamina.retry(on=is_worth_retrying, attempts=4, wait_initial=0.3, wait_max=3.0)
    def call() -> pb.EnrolReply:
        reply: pb.EnrolReply = stub.Enrol(message, timeout=_TIMEOUT_S)
        return reply

    try:
        return call()
    except grpc.RpcError as error:
        raise error_from(error) from error
