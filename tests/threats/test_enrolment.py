"""Enrolment over real TLS: who gets a certificate, what a refused one leaves behind, and whom a site believes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.enrolment import Application, enrol
from shared.errors import SynthwardError
from shared.identity import (
    CertificateAuthority,
    certificate_request,
    flower_public_bytes,
    new_flower_key,
    new_signing_key,
    new_tls_key,
    peer,
    public_bytes,
)
from shared.invitation import Invitation, read_invitation
from site_node.certificate import read_identity
from site_node.link.enrol import enrol as enrol_site
from site_node.settings import Home
from tests.helpers import HOST, Coordinator, free_port, new_home, refused, running

pytestmark = pytest.mark.usefixtures("impatient")


def keys_of(home: Home) -> list[Path]:
    """Everything under keys/ that is a file."""
    return [path for path in (home.path / "keys").rglob("*") if path.is_file()]


def refused_and_nothing_written(home: Home, invitation: Invitation, code: str) -> None:
    """Enrolment ends with the code, and the folder is as it was."""
    with refused(code):
        enrol_site(home, invitation)
    assert keys_of(home) == []
    assert not home.membership_file.exists()


def test_an_invited_site_gets_its_own_certificate_and_the_coordinators_key(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    home = coordinator.join(tmp_path / "north", "north")
    assert peer(read_identity(home).certificate)[:2] == ("site", "north")
    assert home.membership().coordinator_key == public_bytes(coordinator.key.public_key()).hex()
    assert coordinator.store.site("north").state == "active"


def test_private_keys_are_the_owners_alone_and_never_travel(coordinator: Coordinator, tmp_path: Path) -> None:
    home = coordinator.join(tmp_path / "north", "north")
    private = [path for path in keys_of(home) if path.suffix != ".crt"]
    assert {path.name for path in private} == {"tls.pem", "flower.key", "signing.key", "executor.secret"}
    sent = (coordinator.capture / "unknown.enrolment.bin").read_bytes()
    assert b"BEGIN CERTIFICATE REQUEST" in sent  # the capture holds what was sent
    assert b"PRIVATE KEY" not in sent
    for path in private:
        assert path.stat().st_mode & 0o077 == 0
        for line in path.read_bytes().splitlines():
            assert len(line) < 20 or b"-----" in line or line not in sent


def test_two_sites_get_different_certificates_and_keys(coordinator: Coordinator, tmp_path: Path) -> None:
    north, south = (coordinator.join(tmp_path / name, name) for name in ("north", "south"))
    one, other = (x509.load_pem_x509_certificate(read_identity(home).certificate) for home in (north, south))
    assert one.serial_number != other.serial_number
    assert one.public_key() != other.public_key()
    assert (north.seal_keys / "signing.key").read_bytes() != (south.seal_keys / "signing.key").read_bytes()
    assert coordinator.store.site("north").signing_key != coordinator.store.site("south").signing_key


# Invitations


def test_an_unknown_invitation_is_refused_and_leaves_nothing(coordinator: Coordinator, tmp_path: Path) -> None:
    invented = coordinator.invite("north").model_copy(update={"secret": "ab" * 32})
    refused_and_nothing_written(new_home(tmp_path / "north"), invented, "trust.invitation-unknown")


def test_a_used_invitation_is_refused_and_leaves_nothing(coordinator: Coordinator, tmp_path: Path) -> None:
    invitation = coordinator.invite("north")
    enrol_site(new_home(tmp_path / "first"), invitation)
    before = coordinator.store.site("north")
    refused_and_nothing_written(new_home(tmp_path / "second"), invitation, "trust.invitation-used")
    assert coordinator.store.site("north") == before  # the first one keeps its place


def test_an_expired_invitation_is_refused_and_leaves_nothing(coordinator: Coordinator, tmp_path: Path) -> None:
    late = coordinator.invite("north", valid_for=timedelta(seconds=-1))
    refused_and_nothing_written(new_home(tmp_path / "north"), late, "trust.invitation-expired")


def test_an_invitation_names_the_site_and_nobody_else(coordinator: Coordinator, tmp_path: Path) -> None:
    renamed = coordinator.invite("north").model_copy(update={"site": "south"})
    refused_and_nothing_written(new_home(tmp_path / "south"), renamed, "trust.identity")


def test_a_secret_is_nowhere_in_the_coordinators_database(coordinator: Coordinator, tmp_path: Path) -> None:
    secret = coordinator.invite("north").secret
    for path in coordinator.folder.glob("store.db*"):
        assert secret.encode() not in path.read_bytes()
        assert bytes.fromhex(secret) not in path.read_bytes()


INVITATION = Invitation(site="north", address=f"{HOST}:1", authority="PEM", secret="cd" * 32)


def test_an_invitation_survives_a_mail_program_that_breaks_lines() -> None:
    text = INVITATION.text()
    broken = "\r\n ".join(text[i : i + 40] for i in range(0, len(text), 40))
    assert read_invitation(f"\n {broken}\n") == INVITATION


@pytest.mark.parametrize(
    "text",
    ["", "hello", INVITATION.text()[:-5], INVITATION.text()[1:], "synthward-invitation-1.", INVITATION.text() * 2,
     INVITATION.text().replace("-1.", "-2."), "synthward-invitation-1." + "A" * 400, "synthward-invitation-1.ééé"],
)  # fmt: skip
def test_a_malformed_invitation_is_refused_in_words(text: str) -> None:
    with refused("trust.invitation-malformed"):
        read_invitation(text)


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=80))
def test_no_text_breaks_the_reader_of_invitations(text: str) -> None:
    with refused("trust.invitation-malformed"):
        read_invitation("synthward-invitation-1." + text)


def test_a_malformed_invitation_does_not_repeat_its_secret() -> None:
    cut = INVITATION.model_copy(update={"site": "North!"}).text()
    with pytest.raises(SynthwardError) as caught:
        read_invitation(cut)
    assert INVITATION.secret not in str(caught.value)
    assert INVITATION.secret not in repr(INVITATION)


# Whom a site believes


def test_a_server_of_another_authority_is_not_believed(coordinator: Coordinator, tmp_path: Path) -> None:
    real = coordinator.invite("north")
    with running(Coordinator(tmp_path / "impostor")) as impostor:
        redirected = real.model_copy(update={"address": f"{HOST}:{impostor.ports[0]}"})
        refused_and_nothing_written(new_home(tmp_path / "north"), redirected, "unavailable.service")
        # The secret did not reach it.
        assert not (impostor.capture / "unknown.enrolment.bin").exists()
    enrol_site(Home(tmp_path / "north"), real)  # and the invitation is still good


def test_a_service_that_is_away_leaves_nothing(coordinator: Coordinator, tmp_path: Path) -> None:
    away = coordinator.invite("north").model_copy(update={"address": f"{HOST}:{free_port()}"})
    refused_and_nothing_written(new_home(tmp_path / "north"), away, "unavailable.service")


# What an application must prove


def application(invitation: Invitation, **changes: bytes) -> Application:
    """What an honest site sends."""
    signing_key = new_signing_key()
    request = certificate_request(new_tls_key(), invitation.site)
    values = {
        "invitation_secret": bytes.fromhex(invitation.secret),
        "certificate_request": request,
        "signing_key": public_bytes(signing_key.public_key()),
        "signing_proof": signing_key.sign(request),
        "flower_key": flower_public_bytes(new_flower_key()),
    }
    return Application(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"signing_key": public_bytes(new_signing_key().public_key())}, "trust.signature"),
        ({"signing_proof": bytes(64)}, "trust.signature"),
        ({"signing_proof": b""}, "trust.signature"),
        ({"signing_key": b"short"}, "trust.signature"),
        ({"certificate_request": certificate_request(new_tls_key(), "north")}, "trust.signature"),
        ({"flower_key": b"not a key"}, "trust.certificate"),
    ],
)
def test_an_application_without_proof_is_refused_and_the_invitation_stays_good(
    coordinator: Coordinator, changes: dict[str, bytes], code: str
) -> None:
    invitation = coordinator.invite("north")
    registered: list[str] = []

    def register(site: str, _key: bytes) -> int:
        registered.append(site)
        return 1

    with refused(code):
        enrol(coordinator.store, coordinator.authority, register, application(invitation, **changes))
    assert registered == []
    assert coordinator.store.sites() == []
    enrol(coordinator.store, coordinator.authority, register, application(invitation))
    assert registered == ["north"]


def test_a_request_that_its_own_key_did_not_sign_gets_no_certificate() -> None:
    request = bytearray(x509.load_pem_x509_csr(certificate_request(new_tls_key(), "north")).public_bytes(Encoding.DER))
    request[-1] ^= 1
    changed = x509.load_der_x509_csr(bytes(request)).public_bytes(Encoding.PEM)
    with refused("trust.certificate"):
        CertificateAuthority.create("test").site_certificate(changed, "north")


def test_the_name_in_a_certificate_is_the_invitations_not_the_requests() -> None:
    request = certificate_request(new_tls_key(), "somebody-else")
    assert peer(CertificateAuthority.create("test").site_certificate(request, "north"))[:2] == ("site", "north")


def test_an_invitation_is_not_used_up_when_the_node_cannot_be_registered(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    def away(_site: str, _key: bytes) -> int:
        raise SynthwardError("unavailable.service", "the SuperLink is away")

    home, invitation = new_home(tmp_path / "north"), coordinator.invite("north")
    coordinator.register_node = away
    refused_and_nothing_written(home, invitation, "unavailable.service")
    assert coordinator.store.sites() == []
    coordinator.register_node = lambda _site, _key: 7
    enrol_site(home, invitation)
    assert coordinator.store.site("north").node_id == 7


def test_a_site_that_lost_its_keys_enrols_again_under_its_name(coordinator: Coordinator, tmp_path: Path) -> None:
    coordinator.join(tmp_path / "north", "north")
    before = coordinator.store.site("north")
    coordinator.join(tmp_path / "again", "north")
    after = coordinator.store.site("north")
    assert (after.signing_key, after.certificate_serial) != (before.signing_key, before.certificate_serial)
    assert len(coordinator.store.sites()) == 1


def test_a_site_whose_answer_was_lost_asks_again_with_the_same_keys(coordinator: Coordinator) -> None:
    def register(_site: str, _key: bytes) -> int:
        return 1

    invitation = coordinator.invite("north")
    first = application(invitation)
    enrol(coordinator.store, coordinator.authority, register, first)
    _, certificate = enrol(coordinator.store, coordinator.authority, register, first)
    # The last certificate is the one that counts; anybody else with the same invitation comes too late.
    assert coordinator.store.site("north").certificate_serial == f"{peer(certificate)[2]:x}"
    with refused("trust.invitation-used"):
        enrol(coordinator.store, coordinator.authority, register, application(invitation))
