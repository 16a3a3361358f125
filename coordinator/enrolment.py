"""Invitations, enrolment and renewal: how a site that nobody knows becomes one with a certificate, and keeps one.

An invitation is a text that the operator hands over by a way of their own: it names the site, pins the federation's
certificate authority, and holds a secret that works once and for a while. The site makes its own keys; only requests
and public keys come here.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from coordinator.store.certificates import add_certificate, renewed
from coordinator.store.store import Site, Store
from shared.errors import SynthwardError
from shared.identity import (
    SITE_CERTIFICATE_DAYS,
    CertificateAuthority,
    key_sha256,
    peer,
    public_key,
    requested_key,
)
from shared.invitation import Invitation
from shared.pairs import sha256_hex

# Registers a site's Flower key with the SuperLink and returns the node's id.
RegisterNode = Callable[[str, bytes], int]


@dataclass(frozen=True)
class Application:
    """What a site brings: its request, its public keys, and the proof that it has the signing key."""

    invitation_secret: bytes
    certificate_request: bytes
    signing_key: bytes
    signing_proof: bytes
    flower_key: bytes


def invite(
    store: Store, authority: CertificateAuthority, *, site: str, address: str, valid_for: timedelta, actor: str
) -> Invitation:
    """A new invitation for a site; the store keeps only the digest of its secret."""
    secret = secrets.token_bytes(32)
    store.invite(site, sha256_hex(secret), valid_for, actor=actor)
    return Invitation(site=site, address=address, authority=authority.pem.decode(), secret=secret.hex())


def enrol(
    store: Store,
    authority: CertificateAuthority,
    register_node: RegisterNode,
    application: Application,
    *,
    days: float = SITE_CERTIFICATE_DAYS,
) -> tuple[str, bytes]:
    """(site, its certificate in PEM, for so many days). The invitation is used up only when all of it has worked."""
    secret_sha256 = sha256_hex(application.invitation_secret)
    # A site whose answer was lost on its way asks again with the keys that it enrolled with, and gets one.
    site = store.invited_site(secret_sha256, used_by=application.signing_key)
    try:
        public_key(application.signing_key).verify(application.signing_proof, application.certificate_request)
    except InvalidSignature as error:
        raise SynthwardError("trust.signature", "the site does not hold the signing key that it brought") from error
    _check_flower_key(application.flower_key)
    certificate = authority.site_certificate(application.certificate_request, site, days=days)
    _, _, serial = peer(certificate)
    node_id = register_node(site, application.flower_key)
    store.enrol(
        secret_sha256,
        Site(
            name=site,
            state="active",
            certificate_serial=f"{serial:x}",
            signing_key=application.signing_key,
            flower_key=application.flower_key,
            node_id=node_id,
        ),
        certificate,
    )
    return site, certificate


def renew(
    store: Store, authority: CertificateAuthority, site: str, request: bytes, *, days: float = SITE_CERTIFICATE_DAYS
) -> bytes:
    """A further certificate (PEM) for a site that has shown one which holds; recorded before it is answered.

    request: a PEM certificate request with a new key. The same key gets the same certificate, however often it asks.
    Raises trust.certificate or trust.revoked.
    """
    digest = key_sha256(requested_key(request))
    known = renewed(store, site, digest)
    if known is not None:
        return known
    return add_certificate(store, site, digest, authority.site_certificate(request, site, days=days))


def _check_flower_key(pem: bytes) -> None:
    try:
        key = serialization.load_pem_public_key(pem)
    except ValueError as error:
        raise SynthwardError("trust.certificate", "the Flower key is not a PEM public key") from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SynthwardError("trust.certificate", "the Flower key is not on an elliptic curve")
