"""What the doctor says of what it measured: each bound from both sides; the lines, JSON and exit code as a whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from shared.errors import ExitCode
from shared.identity import Validity
from site_node.certificate import Identity, key_pem, private_key, read_identity, write_identity
from site_node.cli import app
from site_node.doctor import Check, examine
from site_node.doctor_findings import (
    certificate_found,
    clock_found,
    disk_found,
    memory_found,
    ours_found,
    patients_found,
    proxy_found,
)
from site_node.jobs import Queue
from site_node.link.renewal import Renewal
from site_node.policy import Policy, write_policy
from site_node.settings import Home
from site_node.standing import note_standing
from tests.helpers import Coordinator, free_port

NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
LIFE = Validity(NOW - timedelta(days=5), NOW + timedelta(days=25))
NAMES = (
    "installation", "settings and membership", "policy", "stewards' accounts", "data folder", "cases and patients",
    "disk", "memory", "training device", "style", "port of the node", "certificate", "standing with the coordinator",
    "name resolution", "proxy", "release service", "fleet interface", "clock",
)  # fmt: skip


# What a measurement means


@pytest.mark.parametrize(
    ("ahead_s", "state"),
    [(0, "ok"), (1.9, "ok"), (-59, "ok"), (2, "warning"), (-60, "warning"), (4.9, "warning"), (-304, "warning"),
     (5, "failed"), (-305, "failed"), (86400, "failed"), (-86400, "failed")],
)  # fmt: skip
def test_a_clock_is_judged_by_what_flower_bears(ahead_s: float, state: str) -> None:
    found = clock_found(NOW + timedelta(seconds=ahead_s), NOW)
    assert found.state == state
    assert ("ahead" in found.text) == (ahead_s >= 2)
    assert bool(found.do) == (state != "ok")


@pytest.mark.parametrize(
    ("days", "state"), [(0, "ok"), (14.9, "ok"), (15.1, "warning"), (24.9, "warning"), (25, "failed"), (-6, "failed")]
)
def test_a_certificate_is_judged_by_its_life(days: float, state: str) -> None:
    found = certificate_found(LIFE, NOW + timedelta(days=days))
    assert found.state == state
    assert ("invitation" in found.do) == (days >= 25)
    assert ("clock" in found.do) == (days < -5)


@pytest.mark.parametrize(("free_gb", "state"), [(5.0, "ok"), (4.9, "warning"), (0.5, "warning"), (0.4, "failed")])
def test_room_on_the_disk(free_gb: float, state: str) -> None:
    assert disk_found(free_gb).state == state


@pytest.mark.parametrize(("free_gb", "state"), [(2.0, "ok"), (1.9, "warning"), (0.0, "warning")])
def test_memory(free_gb: float, state: str) -> None:
    assert memory_found(free_gb).state == state


@pytest.mark.parametrize(
    ("training", "holdout", "says"),
    [(20, 40, ""), (19, 40, "floor is 20"), (20, 39, "needs 40"), (0, 0, "floor is 20")],
)
def test_patients_are_held_against_the_policys_floors(training: int, holdout: int, says: str) -> None:
    found = patients_found(70, training, holdout, (20, 40))
    assert found.state == ("warning" if says else "ok")
    assert says in found.do


def test_a_foreign_package_called_shared_is_noticed(tmp_path: Path) -> None:
    assert ours_found(tmp_path / "shared", tmp_path / "shared").state == "ok"
    assert ours_found(tmp_path / "other" / "shared", tmp_path / "shared").state == "failed"


def test_a_proxy_is_told_without_its_password_and_has_to_speak_http() -> None:
    assert proxy_found(["", ""]).text == "none: straight out"
    assert proxy_found(["http://gate:3128"] * 2).state == "ok"
    for found in (proxy_found(["http://me:secret@gate:3128", ""]), proxy_found(["https://me:secret@gate:3128"])):
        assert "gate:3128" in found.text
        assert "secret" not in found.text
    assert found.state == "failed"


@given(st.floats(-1e6, 1e6), st.floats(-60, 60), st.floats(0, 1000))
def test_whatever_is_not_ok_says_what_to_do(seconds: float, days: float, free_gb: float) -> None:
    for found in (
        clock_found(NOW + timedelta(seconds=seconds), NOW),
        certificate_found(LIFE, NOW + timedelta(days=days)),
        disk_found(free_gb),
        memory_found(free_gb),
    ):
        assert (found.state == "ok") == (found.do == "")


# The whole


@pytest.fixture
def home(coordinator: Coordinator, tmp_path: Path) -> Home:
    """An enrolled site whose fleet interface is not there."""
    home = coordinator.join(tmp_path / "north", "north")
    write_policy(home.policy_file, Policy(stewards=("ada",)))
    home.settings_file.write_text(f'node_port = {free_port()}\nfleet_address = "127.0.0.1:{free_port()}"\n', "utf-8")
    return home


def lines(home: Home) -> dict[str, Check]:
    return {check.name: check for check in examine(home)}


def test_every_check_has_its_line_and_those_that_fail_say_what_to_do(home: Home) -> None:
    found = lines(home)
    assert tuple(found) == NAMES
    for name in ("installation", "settings and membership", "policy", "certificate", "release service", "proxy"):
        assert found[name].state == "ok", found[name]
    assert {name for name, check in found.items() if check.state == "failed"} <= {"fleet interface", "clock", "disk"}
    assert "TLSv1.3" in found["release service"].text
    assert "firewall" in found["fleet interface"].do
    assert found["cases and patients"].do == "synthward-site import"
    assert found["stewards' accounts"].do == "synthward-site steward add ada"
    for check in found.values():
        assert (check.state == "ok") == (check.do == ""), check


def told(home: Home) -> tuple[int, dict[str, dict[str, Any]]]:
    """(exit code, lines by name) of the command."""
    done = CliRunner().invoke(app, ["doctor", "--home", str(home.path), "--json"])
    return done.exit_code, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_the_command_ends_with_8_when_a_check_failed(home: Home) -> None:
    code, found = told(home)
    assert code == ExitCode.STATE
    assert found["fleet interface"]["state"] == "failed"
    assert set(found["fleet interface"]) == {"name", "state", "text", "do"}
    done = CliRunner().invoke(app, ["doctor", "--home", str(home.path)])
    assert done.exit_code == ExitCode.STATE
    assert "failed" in done.stdout


def test_the_command_ends_with_0_when_nothing_failed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = [Check("disk", "ok", "9 GB free", ""), Check("memory", "warning", "1 GB", "close other programs")]
    monkeypatch.setattr("site_node.doctor.examine", lambda _: checks)
    assert told(home)[0] == ExitCode.OK


def test_a_site_that_was_revoked_is_told_so(home: Home) -> None:
    note_standing(Queue(home.exchange), "trust.revoked")
    found = lines(home)["standing with the coordinator"]
    assert found.state == "failed"
    assert "trust.revoked" in found.text
    assert "invitation" in found.do


def test_a_certificate_for_another_key_is_noticed(home: Home, coordinator: Coordinator, tmp_path: Path) -> None:
    other = read_identity(coordinator.join(tmp_path / "south", "south"))
    mine = read_identity(home)
    for mixed in (Identity(mine.key, other.certificate), Identity(other.key, mine.certificate), other):
        write_identity(home, mixed)
        assert lines(home)["certificate"].state == "failed"
    write_identity(home, Identity(key_pem(private_key(mine.key)), mine.certificate))
    assert lines(home)["certificate"].state == "ok"


@pytest.mark.parametrize("name", ["tls.pem", "ca.crt"])
def test_a_file_that_is_gone_fails_its_checks_and_stops_no_other(home: Home, name: str) -> None:
    (home.link_keys / name).unlink()
    found = lines(home)
    assert tuple(found) == NAMES
    for line in ("certificate", "release service"):
        assert found[line].state == "failed"
        assert found[line].do


def test_a_renewed_certificate_is_fine(home: Home) -> None:
    Renewal(home, Queue(home.exchange), lambda: datetime.now(UTC) + timedelta(days=21)).turn()
    found = lines(home)
    assert found["certificate"].state == "ok"
    assert found["release service"].state == "ok"


def test_a_data_folder_that_is_gone_or_lacks_a_part_is_noticed(home: Home, tmp_path: Path) -> None:
    text = home.settings_file.read_text(encoding="utf-8")
    home.settings_file.write_text(f'{text}data = "{tmp_path / "data"}"\n', encoding="utf-8")
    assert "images" in lines(home)["data folder"].text
    (tmp_path / "data" / "images").mkdir(parents=True)
    assert lines(home)["data folder"].state == "failed"
    (tmp_path / "data" / "masks").mkdir()
    assert lines(home)["data folder"].state == "ok"
