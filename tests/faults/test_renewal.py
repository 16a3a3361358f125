"""Renewal of a site's certificate over real TLS: killed between any two steps, cut off, lied to, away for too long.

A kill is an exception that nothing catches, raised before one of the writes or calls that renewing is made of; what
comes after it starts from the disk alone, as a new process does. The site's clock is an argument; nothing sleeps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

import site_node.link.renewal as renewal_module
from coordinator.running import initialise
from coordinator.server_certificate import renew_server_certificate
from coordinator.settings import Home as CoordinatorHome
from coordinator.settings import Settings as CoordinatorSettings
from coordinator.store.store import Store
from shared.identity import CertificateAuthority, certificate_request, host_names, new_tls_key, peer, validity
from site_node.certificate import Identity, identity_file, key_pem, read_identity, write_identity
from site_node.jobs import Queue
from site_node.link.enrol import enrol as enrol_site
from site_node.link.renewal import Renewal, Turn
from site_node.link.service import send
from site_node.settings import Home
from site_node.standing import read_standing
from site_node.status import read_status
from tests.enrolled_site import EnrolledSite
from tests.helpers import Coordinator, caller, new_home, refused, running

pytestmark = pytest.mark.usefixtures("impatient")
# What renewing does, in order, each as the name under which it is called.
STEPS = ("write_private", "Renew", "check_issued", "write_identity", "record", "_forget_key")


class Killed(BaseException):
    """Stands for kill -9: no handler of ours catches it."""


@pytest.fixture
def site(coordinator: Coordinator, tmp_path: Path) -> Home:
    """An enrolled site."""
    return coordinator.join(tmp_path / "north", "north")


def in_days(days: float) -> Callable[[], datetime]:
    """A clock so many days ahead."""
    return lambda: datetime.now(UTC) + timedelta(days=days)


def look(home: Home, days: float = 21.0) -> Turn:
    """One look at the certificate, as after a start, on a day of its life of thirty."""
    return Renewal(home, Queue(home.exchange), in_days(days)).turn()


def serial(home: Home) -> str:
    return f"{peer(read_identity(home).certificate)[2]:x}"


def works(home: Home) -> bool:
    """Whether key and certificate belong together, and the coordinator takes them."""
    identity = read_identity(home)
    EnrolledSite(home, "north").link()
    own_key = x509.load_pem_x509_certificate(identity.certificate).public_key()
    return renewal_module.private_key(identity.key).public_key() == own_key and not read_standing_code(home)


def read_standing_code(home: Home) -> str:
    return read_standing(Queue(home.exchange)).code


def told(home: Home) -> list[str]:
    """The serial numbers of all renewals in the site's journal."""
    return [line.detail for line in Queue(home.exchange).journal() if line.action == "certificate-renewed"]


def kill_before(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Ends the process, so to speak, before a step; the steps before it are done."""

    def killed(*_args: Any, **_more: Any) -> None:
        raise Killed(step)

    if step == "Renew":
        monkeypatch.setattr(Renewal, "_ask", killed)
    elif step == "record":
        monkeypatch.setattr(Queue, "record", killed)
    elif step == "_forget_key":
        monkeypatch.setattr(Renewal, "_forget_key", killed)
    else:
        monkeypatch.setattr(renewal_module, step, killed)


def test_a_certificate_is_renewed_when_a_third_of_its_life_is_left_and_not_before(site: Home) -> None:
    before = serial(site)
    assert look(site, 19.9) is Turn.KEPT
    assert serial(site) == before
    assert look(site, 20.1) is Turn.RENEWED
    assert serial(site) != before
    assert works(site)


def test_a_renewal_brings_a_new_key_that_did_not_travel_and_both_sides_write_it_down(
    coordinator: Coordinator, site: Home
) -> None:
    before = read_identity(site)
    look(site)
    after = read_identity(site)
    assert after.key != before.key
    assert told(site) == [serial(site)]
    (line,) = [entry for entry in coordinator.store.journal() if entry.action == "renew-certificate"]
    assert (line.actor, line.subject, line.detail) == ("site:north", "north", serial(site))
    sent = (coordinator.capture / "north.renewal.bin").read_bytes()
    assert b"BEGIN CERTIFICATE REQUEST" in sent
    assert b"PRIVATE KEY" not in sent
    assert identity_file(site).stat().st_mode & 0o077 == 0
    assert Queue(site.exchange).egress()["renewal"] == len(sent)


def test_the_old_certificate_holds_beside_the_new_one_until_its_end(
    coordinator: Coordinator, site: Home, tmp_path: Path
) -> None:
    before = read_identity(site)
    look(site)
    after = read_identity(site)
    for identity in (before, after, before):
        write_identity(site, identity)
        assert works(site)
    # A new enrolment ends both.
    enrol_site(new_home(tmp_path / "again"), coordinator.invite("north"))
    for identity in (before, after):
        write_identity(site, identity)
        assert not works(site)
        assert read_standing_code(site) == "trust.certificate"


@pytest.mark.parametrize("step", STEPS)
def test_a_site_killed_before_any_step_works_and_renews_after_its_start(
    coordinator: Coordinator, site: Home, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = serial(site)
    with monkeypatch.context() as patched:
        kill_before(patched, step)
        with pytest.raises(Killed):
            look(site)
    assert works(site)  # whichever it holds now
    swapped = STEPS.index(step) > STEPS.index("write_identity")
    assert (serial(site) != before) == swapped
    assert look(site, 0.0 if swapped else 21.0) is (Turn.KEPT if swapped else Turn.RENEWED)
    assert works(site)
    assert told(site) == [serial(site)]
    assert not (site.link_keys / "next.key").exists()
    # The coordinator has given one, however often it was asked.
    assert len(coordinator.actions("renew-certificate")) == 1


def test_an_answer_that_is_lost_is_given_again(
    coordinator: Coordinator, site: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(self: Renewal, request: bytes) -> bytes:
        ask(self, request)
        raise Killed("after the coordinator's answer")

    ask = Renewal._ask
    with monkeypatch.context() as patched:
        patched.setattr(Renewal, "_ask", lost)
        for _ in range(3):
            with pytest.raises(Killed):
                look(site)
    assert look(site) is Turn.RENEWED
    assert coordinator.actions("renew-certificate") == ["north"]
    assert works(site)


def test_a_service_that_is_away_is_asked_again_an_hour_later_and_the_site_goes_on(
    coordinator: Coordinator, site: Home
) -> None:
    before, days = serial(site), [21.0]
    queue = Queue(site.exchange)
    renewal = Renewal(site, queue, lambda: in_days(days[0])())
    coordinator.stop()
    assert renewal.turn() is Turn.LATER
    asked = queue.egress()["renewal"]
    days[0] += 0.5 / 24
    assert renewal.turn() is Turn.LATER
    assert queue.egress()["renewal"] == asked  # not asked within the hour
    assert read_standing_code(site) == ""  # being out of reach says nothing of the site
    coordinator.start()
    days[0] += 1 / 24
    assert renewal.turn() is Turn.RENEWED
    assert serial(site) != before


def test_a_certificate_that_is_not_for_the_new_key_or_of_the_pinned_authority_is_not_taken(
    coordinator: Coordinator, site: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_identity(site)
    other = CertificateAuthority.create("test")
    answers: list[Callable[[bytes], bytes]] = [
        lambda request: other.site_certificate(request, "north"),
        lambda request: coordinator.authority.site_certificate(request, "south"),
        lambda _: coordinator.authority.site_certificate(certificate_request(new_tls_key(), "north"), "north"),
        lambda request: coordinator.authority.site_certificate(request, "north", days=1),  # ends before ours
        lambda _: b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n",
        lambda _: b"",
    ]
    for answer in answers:
        monkeypatch.setattr(Renewal, "_ask", lambda _self, request, answer=answer: answer(request))
        assert look(site) is Turn.LATER
        assert read_identity(site) == before
    assert told(site) == []


def test_a_pending_key_that_cannot_be_read_is_made_anew(site: Home) -> None:
    (site.link_keys / "next.key").write_bytes(b"half a k")
    assert look(site) is Turn.RENEWED
    assert works(site)


def test_a_site_that_was_away_past_the_end_is_told_to_ask_for_an_invitation(
    coordinator: Coordinator, site: Home
) -> None:
    assert look(site, 30.1) is Turn.ENDED
    assert not coordinator.actions("renew-certificate")
    status = read_status(site)["coordinator"]
    assert status["code"] == "trust.certificate-expired"
    assert "new invitation" in status["do"]


def test_an_ended_certificate_renews_nothing_at_the_coordinator(coordinator: Coordinator, site: Home) -> None:
    key = new_tls_key()
    request = certificate_request(key, "north")
    ended = coordinator.authority.site_certificate(request, "north", days=-1 / 1440)
    write_identity(site, Identity(key_pem(key), ended))
    # A site whose clock was set back believes that it holds.
    assert look(site, -2 / 1440) is Turn.LATER
    assert not coordinator.actions("renew-certificate")


def test_the_link_sends_on_with_the_new_certificate(tmp_path: Path) -> None:
    # Of a life of 14 minutes, 5 of them before now (the allowance for clocks), less than a third is left at once.
    with running(Coordinator(tmp_path / "coordinator", certificate_days=2 / 1440)) as coordinator:
        home = coordinator.join(tmp_path / "north", "north")
        before = serial(home)
        coordinator.certificate_days = 30
        coordinator.restart()
        stop, queue = threading.Event(), Queue(home.exchange)
        link = threading.Thread(target=send, args=(home, queue, stop))
        link.start()
        try:
            for _ in range(400):
                if coordinator.actions("renew-certificate") and "checkpoint" in queue.egress():
                    break
                stop.wait(0.02)
        finally:
            stop.set()
            link.join(timeout=20)
        assert not link.is_alive()
        assert serial(home) != before
        assert queue.egress()["checkpoint"] > 0
        assert works(home)


def test_nothing_holds_longer_than_the_authority() -> None:
    authority = CertificateAuthority.create("test")
    certificate = authority.site_certificate(certificate_request(new_tls_key(), "north"), "north", days=9999)
    assert validity(certificate).end == authority.certificate.not_valid_after_utc


def test_a_coordinators_server_certificate_is_made_again_at_a_start_when_it_is_a_month_old_or_a_host_is_new(
    tmp_path: Path,
) -> None:
    home = CoordinatorHome(tmp_path / "coordinator")
    initialise(home, CoordinatorSettings(name="trial", hosts=("studies.example.org",)))
    path = home.keys / "server.crt"
    first = path.read_bytes()
    assert not renew_server_certificate(home, now=datetime.now(UTC) + timedelta(days=29))
    assert path.read_bytes() == first
    text = home.settings_file.read_text(encoding="utf-8").replace("studies.example.org", "other.example.org")
    home.settings_file.write_text(text, encoding="utf-8")
    assert renew_server_certificate(home)
    second = path.read_bytes()
    names = x509.load_pem_x509_certificate(second).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert set(host_names(["other.example.org", "127.0.0.1"])) <= set(names.value)
    assert renew_server_certificate(home, now=datetime.now(UTC) + timedelta(days=31))
    assert path.read_bytes() not in (first, second)
    ours = [line for line in Store(home.database_url()).journal() if line.action == "renew-server-certificate"]
    assert len(ours) == 2


def test_a_request_that_its_key_did_not_sign_renews_nothing(coordinator: Coordinator, site: Home) -> None:
    with caller(site) as north:
        for request in (b"", b"nonsense", b"x" * 100_000):
            with refused("trust.certificate"):
                north.renew(request)
    assert not coordinator.actions("renew-certificate")
