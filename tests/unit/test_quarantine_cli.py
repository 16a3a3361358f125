"""The commands about refused bundles, and what the list of sites says of their shares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coordinator.cli import app
from coordinator.running import initialise
from coordinator.settings import Home, Settings
from coordinator.store.store import Store
from shared.database import sqlite_url
from shared.errors import ExitCode
from shared.settings_files import to_toml
from tests.conformance.records import actions, digest, incoming

WHY = "spoke to them: their screening was off"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A coordinator with a refused bundle, and one that is coming in."""
    made = Home(tmp_path / "coordinator")
    initialise(made, Settings(name="trial"))
    store = Store(made.database_url())
    for name in ("refused", "halfway"):
        incoming(store, name)
    store.quarantine_bundle(digest("refused"), "pairs.not-png", site="north")
    folder = made.quarantine / digest("refused") / "objects"
    folder.mkdir(parents=True)
    (folder / "x.png").write_bytes(b"as it came")
    return made


def run(home: Home, *words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*words, "--home", str(home.path)])
    assert done.exit_code == code, done.output
    return done.output


def told(home: Home, *words: str) -> dict[str, Any]:
    """What a command with --json answers."""
    return dict(json.loads(run(home, *words, "--json")))


def test_the_list_says_whose_a_refused_bundle_is_and_why(home: Home) -> None:
    (line,) = told(home, "quarantine", "list")["bundles"]
    assert line["began_at"] > "2026"
    del line["began_at"]
    assert line == {
        "sha256": digest("refused"), "site": "north", "study_id": "trial", "code": "pairs.not-png", "bytes": 1008,
    }  # fmt: skip
    (text,) = run(home, "quarantine", "list").splitlines()
    assert text.startswith(f"{digest('refused')}  north  trial  pairs.not-png  0.0 MB  since 20")


def test_a_bundle_is_discarded_once_with_a_reason(home: Home) -> None:
    command = ("quarantine", "discard", digest("refused"), "--because")
    for reason in ("", "   ", "x" * 501):
        run(home, *command, reason, code=ExitCode.USAGE)
    assert home.quarantine.joinpath(digest("refused")).exists()
    assert told(home, *command, f" {WHY} ") == {"bundle": digest("refused"), "discarded_now": True}
    assert not list(home.quarantine.iterdir())
    assert told(home, *command, WHY)["discarded_now"] is False
    assert told(home, "quarantine", "list") == {"bundles": []}
    assert run(home, "quarantine", "list") == "Nothing is in quarantine.\n"
    store = Store(home.database_url())
    assert actions(store, "discard-bundle") == [digest("refused")]
    (entry,) = [entry for entry in store.journal() if entry.action == "discard-bundle"]
    assert (entry.actor, entry.detail) == ("operator", WHY)


def test_a_backup_can_be_made_after_a_discard(home: Home, tmp_path: Path) -> None:
    run(home, "quarantine", "discard", digest("refused"), "--because", WHY)
    run(home, "backup", str(tmp_path / "backup"), "--with-keys")
    assert not (tmp_path / "backup" / "quarantine").exists()
    store = Store(sqlite_url(tmp_path / "backup" / "store.db"))
    row = store.bundle(digest("refused"))
    assert row is not None
    assert row.state == "quarantined", "and is never accepted there either"


@pytest.mark.parametrize("name", [digest("halfway"), digest("never"), "../keys"])
def test_what_is_not_in_quarantine_is_not_discarded(home: Home, name: str) -> None:
    said = run(home, "quarantine", "discard", name, "--because", WHY, code=ExitCode.STATE)
    assert "admission.not-quarantined" in said
    assert (home.keys / "signing.key").exists()


def test_a_folder_without_settings_is_told_and_nothing_is_made_in_it(tmp_path: Path) -> None:
    run(Home(tmp_path), "quarantine", "discard", digest("x"), "--because", WHY, code=ExitCode.USAGE)
    assert not list(tmp_path.iterdir())


def test_the_list_of_sites_says_what_each_has_here(home: Home) -> None:
    (line,) = told(home, "site", "list")["sites"]
    assert line["bytes"] == 2 * 1008
    told(home, "quarantine", "discard", digest("refused"), "--because", WHY)
    (line,) = told(home, "site", "list")["sites"]
    assert line["bytes"] == 1008 + len(b"manifest")
    assert "MB" in run(home, "site", "list")


@pytest.mark.parametrize("key", ["site_share_gb = 0", "site_share_gb = -1", "reserve_gb = -1"])
def test_no_site_goes_without_a_limit(home: Home, key: str) -> None:
    values = home.settings().model_dump(mode="json")
    name, _, value = key.partition(" = ")
    home.settings_file.write_text(to_toml(values | {name: int(value)}))
    assert "settings.invalid" in run(home, "quarantine", "discard", digest("refused"), "--because", WHY, code=2)


def test_the_settings_are_what_admission_is_given() -> None:
    limits = Settings(name="trial", site_share_gb=7, reserve_gb=0).limits()
    assert (limits.share_bytes, limits.reserve_bytes) == (7 * 10**9, 0)
