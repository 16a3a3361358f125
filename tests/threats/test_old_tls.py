"""The release and enrolment services speak TLS 1.2 and 1.3, and take no certificate before its time."""

from __future__ import annotations

import socket
import ssl
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shared.identity import new_tls_key
from site_node.certificate import Identity, identity_file, key_pem, write_identity
from site_node.reach import Trust, check_accepted
from site_node.settings import Home
from tests.helpers import HOST, Coordinator, refused


@pytest.fixture
def home(coordinator: Coordinator, tmp_path: Path) -> Home:
    """An enrolled site."""
    return coordinator.join(tmp_path / "north", "north")


def spoken(home: Home, port: int, version: ssl.TLSVersion) -> str:
    """The TLS version that a service agrees to with a caller who speaks this one only and would take any cipher."""
    context = ssl.create_default_context(cafile=str(home.link_keys / "ca.crt"))
    context.load_cert_chain(str(identity_file(home)))
    context.set_alpn_protocols(["h2"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
    with socket.create_connection((HOST, port), timeout=5) as raw, context.wrap_socket(raw, server_hostname=HOST) as s:
        return str(s.version())


@pytest.mark.parametrize("place", [0, 1], ids=["enrolment", "releases"])
def test_the_services_speak_tls_from_1_2_on(coordinator: Coordinator, home: Home, place: int) -> None:
    port = coordinator.ports[place]
    assert spoken(home, port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert spoken(home, port, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    for old in (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1):
        # The service's refusal, not our own library's: it ends the connection after our greeting.
        with pytest.raises(ssl.SSLError, match=r"(?i)alert|EOF occurred"):
            spoken(home, port, old)


def certificate_from(coordinator: Coordinator, start: datetime) -> Identity:
    """An identity of site north that the coordinator's own authority vouches for from a time on."""
    key, authority = new_tls_key(), coordinator.authority
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "north")]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(int(coordinator.store.site("north").certificate_serial, 16))
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("synthward://site/north")]), critical=False
        )
        .sign(authority._key, hashes.SHA384())
    )
    return Identity(key_pem(key), certificate.public_bytes(Encoding.PEM))


def test_a_certificate_before_its_time_is_refused(coordinator: Coordinator, home: Home) -> None:
    address, trust = f"{HOST}:{coordinator.ports[1]}", Trust(home.link_keys / "ca.crt", identity_file(home))
    now = datetime.now(UTC)
    write_identity(home, certificate_from(coordinator, now - timedelta(hours=1)))
    check_accepted(address, "", trust)  # the same certificate in its time
    write_identity(home, certificate_from(coordinator, now + timedelta(hours=1)))
    with refused("trust.certificate"):
        check_accepted(address, "", trust)
