"""The site's TLS identity: key and certificate in one file, so that both change at once or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import SynthwardError
from shared.files import write_private
from shared.identity import Validity, validity
from site_node.settings import Home

REJOIN = "with the site stopped, synthward-site rejoin --invitation"
NEW_INVITATION = f"ask the coordinator's operator for a new invitation; then, {REJOIN}"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class Identity:
    """What the site shows of itself in TLS, both in PEM."""

    key: bytes
    certificate: bytes

    @property
    def validity(self) -> Validity:
        """From when to when the certificate holds."""
        return validity(self.certificate)


def identity_file(home: Home) -> Path:
    """Where both lie, readable by their owner only."""
    return home.link_keys / "tls.pem"


def read_identity(home: Home) -> Identity:
    """The present one. Raises settings.missing before enrolment, trust.certificate for a file that is damaged."""
    try:
        data = identity_file(home).read_bytes()
    except FileNotFoundError as error:
        raise SynthwardError(
            "settings.missing", "the site has no certificate", do="enrol with an invitation: synthward-site init"
        ) from error
    key, found, certificate = data.partition(_CERTIFICATE)
    if not found:
        raise SynthwardError("trust.certificate", f"{identity_file(home)} holds no certificate", do=NEW_INVITATION)
    return Identity(key, found + certificate)


def write_identity(home: Home, identity: Identity) -> None:
    """Puts another one in its place, whole; a kill leaves the one or the other. Raises storage.full."""
    write_private(identity_file(home), identity.key + identity.certificate)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as it lies in the file."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The key of a PEM text. Raises trust.certificate."""
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except ValueError as error:
        raise SynthwardError("trust.certificate", "the TLS key cannot be read", do=NEW_INVITATION) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SynthwardError("trust.certificate", "the TLS key is of another kind than ours", do=NEW_INVITATION)
    return key
