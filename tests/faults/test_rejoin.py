"""A folder that enrols once more: it keeps all that it holds, and what was waiting is sent under the new keys."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from coordinator.store.certificates import revoke_site as revoke
from shared.documents import canonical
from shared.invitation import Invitation
from shared.journal import Entry
from shared.journal import entries as journal_entries
from shared.pairs import sha256_hex
from shared.release import State
from shared.study import Study
from site_node import cases
from site_node import rejoin as rejoining
from site_node.airlock.workflow import Release
from site_node.certificate import read_identity
from site_node.rejoin import rejoin
from site_node.standing import read_standing
from tests.enrolled_site import POLICY, EnrolledSite
from tests.helpers import Coordinator, refused, running, small_study


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(small_study())


@pytest.fixture
def site(coordinator: Coordinator, tmp_path: Path) -> EnrolledSite:
    return EnrolledSite.join(coordinator, tmp_path / "north", "north")


def admitted(coordinator: Coordinator, study: Study) -> set[str]:
    return {row.sha256 for row in coordinator.store.bundles(sha256_hex(canonical(study)), "accepted")}


def state(site: EnrolledSite, release: Release) -> State:
    return site.airlock.release(release.release_id).state


def private_journal(site: EnrolledSite) -> list[Entry]:
    with site.store.engine.begin() as connection:
        return journal_entries(connection, cases.journal)


def beginning(entries: list[Entry], of: list[Entry]) -> bool:
    return of[: len(entries)] == entries


def revoke_site(coordinator: Coordinator) -> None:
    assert revoke(coordinator.store, "north", "its keys were stolen", actor="operator")


def test_a_site_that_was_locked_out_goes_on_where_it_was(
    coordinator: Coordinator, site: EnrolledSite, study: Study
) -> None:
    sent = site.accepted(study, (1, 2))
    waiting = site.approved(study, (3, 4))
    site.trainer()
    site.airlock.revoke(POLICY, sent.release_id, "ada", reason="consent withdrawn")
    site.trainer()  # signed by the old key, both
    revoke_site(coordinator)
    assert not site.link()
    assert read_standing(site.queue).code == "trust.revoked"
    journals = private_journal(site), site.queue.journal()

    rejoin(site.home, coordinator.invite("north"))
    site.turn()

    assert read_standing(site.queue).code == ""
    assert (state(site, waiting), state(site, sent)) == (State.ACCEPTED, State.REVOKED)
    assert admitted(coordinator, study) >= {waiting.bundle_sha256}
    assert beginning(journals[0], private_journal(site))
    assert beginning(journals[1], site.queue.journal())


@pytest.mark.usefixtures("impatient")
def test_a_site_whose_certificate_has_ended_goes_on(tmp_path: Path) -> None:
    with running(Coordinator(tmp_path / "coordinator", certificate_days=0.0)) as coordinator:
        study = coordinator.publish(small_study())
        site = EnrolledSite.join(coordinator, tmp_path / "north", "north")
        waiting = site.approved(study)
        site.trainer()
        assert not site.link()
        coordinator.certificate_days = 30.0
        coordinator.restart()
        rejoin(site.home, coordinator.invite("north"))
        site.turn()
        assert state(site, waiting) is State.ACCEPTED


def test_keys_of_before_open_nothing_afterwards(coordinator: Coordinator, site: EnrolledSite, tmp_path: Path) -> None:
    old = read_identity(site.home)
    signing = (site.home.seal_keys / "signing.key").read_bytes()
    rejoin(site.home, coordinator.invite("north"))
    assert read_identity(site.home).key != old.key
    assert (site.home.seal_keys / "signing.key").read_bytes() != signing
    held = coordinator.store.site("north")
    assert held.certificate_serial != ""
    assert len(coordinator.store.sites()) == 1


@pytest.mark.parametrize("step", range(8))
def test_a_kill_at_any_step_loses_nothing_and_refuses_nothing(
    coordinator: Coordinator, site: EnrolledSite, study: Study, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = site.approved(study)
    site.trainer()
    left = [step]
    killed = [
        _killing(monkeypatch, left, place, name)
        for place, name in (
            (rejoining, "write_atomic"),
            (rejoining, "keep_signing_key"),
            (rejoining.Home, "join"),
            (rejoining, "keep_link_keys"),
            (rejoining.Queue, "record"),
            (rejoining, "note_standing"),
        )
    ]
    try:
        rejoin(site.home, coordinator.invite("north"))
        assert step >= len(killed), "a step that was to be killed was not reached"
    except _Kill:
        assert step < len(killed)
    monkeypatch.undo()

    site.turn()
    if state(site, waiting) is not State.ACCEPTED:
        assert state(site, waiting) in (State.SEALED, State.SUBMITTED)
        rejoin(site.home, coordinator.invite("north"))
        site.turn()
    assert state(site, waiting) is State.ACCEPTED
    assert admitted(coordinator, study) == {waiting.bundle_sha256}


class _Kill(BaseException):
    """Ends everything, as SIGKILL would."""


def _killing(patch: pytest.MonkeyPatch, left: list[int], place: object, name: str) -> str:
    act: Callable[..., object] = getattr(place, name)

    def first(*words: object, **named: object) -> object:
        if left[0] == 0:
            raise _Kill
        left[0] -= 1
        return act(*words, **named)

    patch.setattr(place, name, first)
    return name


# What is no way back


def test_an_invitation_of_another_site_or_coordinator_changes_nothing(
    coordinator: Coordinator, site: EnrolledSite, tmp_path: Path
) -> None:
    with running(Coordinator(tmp_path / "other")) as other:
        for invitation in (coordinator.invite("south"), other.invite("north")):
            _refused_and_unchanged(site, invitation, "trust.identity")
        forged = other.invite("north").model_copy(update={"authority": coordinator.invite("north").authority})
        _refused_and_unchanged(site, forged, "unavailable.service")  # TLS: it is not who the folder knows


def test_an_invitation_that_was_used_or_has_ended_changes_nothing(coordinator: Coordinator, site: EnrolledSite) -> None:
    used = coordinator.invite("north")
    rejoin(site.home, used)
    _refused_and_unchanged(site, used, "trust.invitation-used")
    _refused_and_unchanged(
        site, coordinator.invite("north", valid_for=timedelta(seconds=-1)), "trust.invitation-expired"
    )


def test_a_site_that_runs_is_not_changed_under_its_feet(coordinator: Coordinator, site: EnrolledSite) -> None:
    with socket.create_server(("127.0.0.1", site.home.settings().node_port)):
        _refused_and_unchanged(site, coordinator.invite("north"), "unavailable.port")


def _refused_and_unchanged(site: EnrolledSite, invitation: Invitation, code: str) -> None:
    def keys() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in site.home.path.glob("keys/*/*")}

    before = keys()
    with refused(code):
        rejoin(site.home, invitation)
    assert keys() == before
