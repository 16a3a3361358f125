"""Keys and certificates. Private keys are made where they are used and never travel.

The coordinator is the certificate authority of its own federation. A certificate's role and name stand in one URI
(`synthward://site/NAME` or `synthward://coordinator/NAME`), which is what a service checks on every call.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.errors import SynthwardError
from shared.files import write_atomic, write_private

Role = Literal["site", "coordinator"]
SITE_CERTIFICATE_DAYS = 30
SERVER_CERTIFICATE_DAYS = 397
CA_DAYS = 3650
_NAME = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")
# Clocks of hospitals differ; a certificate issued now must not be "not yet valid" five minutes away.
_SKEW = timedelta(minutes=5)
_MOST_REQUEST_BYTES = 16 * 1024


def new_tls_key() -> ec.EllipticCurvePrivateKey:
    """A P-256 key for TLS."""
    return ec.generate_private_key(ec.SECP256R1())


def new_flower_key() -> ec.EllipticCurvePrivateKey:
    """A P-384 key with which a Flower node signs its requests."""
    return ec.generate_private_key(ec.SECP384R1())


def new_signing_key() -> Ed25519PrivateKey:
    """An Ed25519 key for documents."""
    return Ed25519PrivateKey.generate()


def save_key(
    path: Path, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, *, openssh: bool = False, replace: bool = False
) -> None:
    """Writes a private key, readable by its owner only.

    replace: whether another may lie there; if not, raises trust.keys-exist rather than overwrite it.
    """
    form = serialization.PrivateFormat.OpenSSH if openssh else serialization.PrivateFormat.PKCS8
    data = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    try:
        write_private(path, data, exclusive=not replace)
    except FileExistsError as error:
        raise SynthwardError(
            "trust.keys-exist",
            f"{path} exists and is not overwritten",
            why="another certificate or signature may depend on it",
            do="use a new folder, or move the old keys away on purpose",
        ) from error


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 private key in a PEM file."""
    key = serialization.load_pem_private_key(_read(path), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise SynthwardError("trust.certificate", f"{path} holds another kind of key than Ed25519")
    return key


def load_tls_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """The elliptic-curve private key in a PEM file."""
    key = serialization.load_pem_private_key(_read(path), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SynthwardError("trust.certificate", f"{path} holds another kind of key than an elliptic-curve one")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise SynthwardError("settings.missing", f"{path} is not there", do="run init, then enrol, first") from error


def public_bytes(key: Ed25519PublicKey) -> bytes:
    """The 32 raw bytes of an Ed25519 public key, as documents and the wire carry it."""
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def public_key(raw: bytes) -> Ed25519PublicKey:
    """The key of 32 raw bytes. Raises trust.signature if they are none."""
    try:
        return Ed25519PublicKey.from_public_bytes(raw)
    except ValueError as error:
        raise SynthwardError("trust.signature", "these are not the 32 bytes of an Ed25519 public key") from error


def flower_public_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The node's public key in the form in which Flower registers it (OpenSSH is not it: PEM)."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def certificate_request(key: ec.EllipticCurvePrivateKey, site: str) -> bytes:
    """A PEM certificate signing request; it proves possession of the key."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


class CertificateAuthority:
    """The coordinator's own authority. Issues server certificates for itself and client certificates for sites."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, name: str) -> CertificateAuthority:
        """A new authority: P-384, path length 0, ten years."""
        key = ec.generate_private_key(ec.SECP384R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Synthward federation of {name}")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(now + timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA384())
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, key_path: Path, certificate_path: Path) -> CertificateAuthority:
        """The authority that `save` wrote."""
        return cls(load_tls_key(key_path), x509.load_pem_x509_certificate(_read(certificate_path)))

    def save(self, key_path: Path, certificate_path: Path) -> None:
        """Writes key (owner only) and certificate."""
        save_key(key_path, self._key)
        write_atomic(certificate_path, self.pem)

    @property
    def pem(self) -> bytes:
        """The authority's certificate, which sites pin."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def server_certificate(self, key: ec.EllipticCurvePrivateKey, name: str, hosts: Sequence[str]) -> bytes:
        """A PEM certificate for the coordinator's services. hosts: DNS names and IP addresses."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"synthward://coordinator/{name}")]
        names += host_names(hosts)
        return self._issue(key.public_key(), name, names, ExtendedKeyUsageOID.SERVER_AUTH, SERVER_CERTIFICATE_DAYS)

    def site_certificate(self, request_pem: bytes, site: str, *, days: float = SITE_CERTIFICATE_DAYS) -> bytes:
        """A PEM client certificate for a site's request; name and role come from us, only the key from the request."""
        key = requested_key(request_pem)
        uri = x509.UniformResourceIdentifier(f"synthward://site/{site}")
        return self._issue(key, site, [uri], ExtendedKeyUsageOID.CLIENT_AUTH, days)

    def _issue(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        names: Sequence[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        days: float,
    ) -> bytes:
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            # Nothing holds longer than the authority that vouches for it.
            .not_valid_after(min(now + timedelta(days=days), self.certificate.not_valid_after_utc))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA384())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def peer(certificate_pem: bytes) -> tuple[Role, str, int]:
    """(role, name, serial number) of a certificate that TLS has verified. Raises trust.certificate."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise SynthwardError("trust.certificate", "the certificate states no Synthward role") from error
    for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
        parts = urlsplit(uri)
        name = parts.path.removeprefix("/")
        if parts.scheme == "synthward" and _NAME.match(name):
            if parts.netloc == "site":
                return "site", name, certificate.serial_number
            if parts.netloc == "coordinator":
                return "coordinator", name, certificate.serial_number
    raise SynthwardError("trust.certificate", "the certificate states no Synthward role")


def requested_key(request_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate request that this very key has signed. Raises trust.certificate."""
    try:
        if len(request_pem) > _MOST_REQUEST_BYTES:
            raise ValueError("longer than any request of ours")
        request = x509.load_pem_x509_csr(request_pem)
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SynthwardError("trust.certificate", "the certificate request cannot be read") from error
    if not request.is_signature_valid or not isinstance(key, ec.EllipticCurvePublicKey):
        raise SynthwardError("trust.certificate", "the certificate request is not signed by its own P-256 key")
    return key


def certificate_key(certificate_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a certificate. Raises trust.certificate for another kind of key than ours."""
    key = x509.load_pem_x509_certificate(certificate_pem).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise SynthwardError("trust.certificate", "the certificate's key is not on an elliptic curve")
    return key


def key_sha256(key: ec.EllipticCurvePublicKey) -> str:
    """The digest by which a public key is known: of its SubjectPublicKeyInfo in DER."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()


@dataclass(frozen=True)
class Validity:
    """From when to when a certificate holds, in UTC."""

    start: datetime
    end: datetime

    def ended(self, now: datetime) -> bool:
        """Whether it holds no longer."""
        return now >= self.end

    def due(self, now: datetime) -> bool:
        """Whether a third of its life or less is left, which is when a site renews it."""
        return self.end - now <= (self.end - self.start) / 3


def validity(certificate_pem: bytes) -> Validity:
    """From when to when a PEM certificate holds."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def check_issued(
    certificate_pem: bytes, authority_pem: bytes, key: ec.EllipticCurvePublicKey, name: tuple[Role, str]
) -> None:
    """Raises trust.certificate unless the pinned authority issued it for this key, role and name."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority_pem))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise SynthwardError("trust.certificate", "the certificate is not of the pinned authority") from error
    if certificate.public_key() != key or peer(certificate_pem)[:2] != name:
        raise SynthwardError("trust.certificate", "the certificate is for another key or name")


def host_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    """DNS names and IP addresses as a certificate states them."""
    return [_general_name(host) for host in hosts]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
