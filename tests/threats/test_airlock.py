"""T09 and T13: who would let a release out alone, vote twice, vote unseen, or write another history, is refused.

Journals that are cut or put back are in tests/faults/test_checkpoints.py, revocations of others in test_revocation.py.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from shared.bundle import bundle_sha256
from shared.documents import canonical
from shared.errors import SynthwardError
from shared.release import State
from site_node.airlock.accounts import Accounts
from site_node.airlock.workflow import release_folder
from site_node.cases import releases
from site_node.cli import app
from site_node.policy import Policy
from site_node.status import read_status, verify_site
from tests.airlock_site import ONE, TWO, Site
from tests.enrolled_site import EnrolledSite
from tests.helpers import Coordinator, refused, small_study

PASSWORD = "a password of the tests"
THREE = Policy(stewards=("ada", "grace", "mary"), required_approvals=3)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


# T09: nobody lets it out alone


def test_one_person_is_never_two_votes(site: Site) -> None:
    site.open("ada", TWO)
    for _ in range(5):
        assert site.approve("ada", TWO) is State.IN_REVIEW
    site.open("ada", TWO)
    assert site.approve("ada", TWO) is State.IN_REVIEW
    assert site.actions().count("vote") == 1


def test_the_maker_is_no_reviewer_however_they_try(tmp_path: Path) -> None:
    site = Site(tmp_path, made_by="ada", asked_by="grace")
    for person in ("ada", "grace", "mary"):
        site.open(person, TWO)
    for person in ("ada", "grace"):
        with refused("policy.own-release"):
            site.approve(person, TWO)
    assert site.approve("mary", TWO) is State.IN_REVIEW


def test_votes_that_somebody_wrote_into_the_table_without_a_review_do_not_count(site: Site) -> None:
    site.open("ada", TWO)
    with site.store.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO votes (release_id, bundle_sha256, person, at) VALUES (?, ?, 'mary', '2026-01-01')",
            (site.id, site.sha256),
        )
    assert site.approve("ada", TWO) is State.IN_REVIEW


def test_an_approval_of_an_older_digest_is_worth_nothing_when_it_is_replayed(site: Site) -> None:
    site.open()
    older = site.sha256
    forged = site.release.manifest.model_copy(update={"training_patients": 10_000})
    with site.store.engine.begin() as connection:
        connection.execute(releases.update().values(manifest=canonical(forged), bundle_sha256=bundle_sha256(forged)))
    with refused("airlock.changed"):
        site.approve(sha256=older)
    with refused("airlock.not-opened"):
        site.approve()
    assert site.release.state is State.IN_REVIEW


def test_an_approval_from_before_a_question_is_worth_nothing_when_it_is_replayed(site: Site) -> None:
    for person in ("ada", "grace"):
        site.open(person, TWO)
    site.approve("ada", TWO)
    site.airlock.ask(TWO, site.id, "grace", "why?")
    site.open("grace", TWO)
    with refused("airlock.not-opened"):
        site.approve("ada", TWO)
    assert site.approve("grace", TWO) is State.IN_REVIEW


def test_an_object_that_changes_after_the_approval_never_leaves(site: Site) -> None:
    site.approved()
    path = sorted((release_folder(site.store, site.id) / "objects").iterdir())[0]
    path.write_bytes(path.read_bytes() + b"x")
    with refused("airlock.changed"):
        site.airlock.seal(site.id, site.key, site.outbox)
    assert list(site.outbox.iterdir()) == []


# Blind votes


@pytest.fixture
def north(coordinator: Coordinator, tmp_path: Path) -> EnrolledSite:
    study = coordinator.publish(small_study())
    made = EnrolledSite.join(coordinator, tmp_path / "north", "north", THREE)
    made.draft(study)
    (tmp_path / "password").write_text(PASSWORD)
    for person in ("ada", "grace"):
        Accounts(made.store).add(person, PASSWORD)
    return made


def said(site: EnrolledSite, tmp_path: Path, *words: str, person: str) -> dict[str, Any]:
    """What a steward's command prints, as an object and as text."""
    arguments = [*words, "--as", person, "--password-file", str(tmp_path / "password"), "--home", str(site.home.path)]
    ended = CliRunner().invoke(app, [*arguments, "--json"])
    assert ended.exit_code == 0, ended.output
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_nothing_that_a_steward_is_shown_tells_whether_others_have_voted(north: EnrolledSite, tmp_path: Path) -> None:
    (release,) = north.airlock.releases()

    def shown() -> tuple[object, ...]:
        seen = said(north, tmp_path, "review", release.release_id, person="grace")
        return seen, read_status(north.home), CliRunner().invoke(app, ["status", "--home", str(north.home.path)]).stdout

    north.airlock.review(THREE, release.release_id, "ada")
    before = shown()
    north.airlock.approve(THREE, release.release_id, "ada", reviewed_sha256=release.bundle_sha256)
    assert shown() == before
    assert north.airlock.votes(THREE, release.release_id, "ada"), "there is one to be told of"
    own = said(north, tmp_path, "approve", release.release_id, "--digest", release.bundle_sha256, person="grace")
    assert own == {"release": release.release_id, "state": "in_review"}


def test_a_question_is_shown_with_the_release(north: EnrolledSite, tmp_path: Path) -> None:
    (release,) = north.airlock.releases()
    said(north, tmp_path, "review", release.release_id, person="ada")
    assert (
        said(north, tmp_path, "ask", release.release_id, "--text", "why so dark?", person="ada")["state"] == "screened"
    )
    (question,) = said(north, tmp_path, "review", release.release_id, person="grace")["questions"]
    assert (question["actor"], question["detail"]) == ("ada", "why so dark?")


def test_a_revocation_by_command_needs_the_stewards_password(north: EnrolledSite, tmp_path: Path) -> None:
    (release,) = north.airlock.releases()
    (tmp_path / "password").write_text("another password altogether")
    arguments = ["revoke", release.release_id, "--reason", "x", "--as", "ada", "--home", str(north.home.path)]
    ended = CliRunner().invoke(app, [*arguments, "--password-file", str(tmp_path / "password"), "--json"])
    assert json.loads(ended.stderr.splitlines()[-1])["error"]["code"] == "steward.password"


# T13: another history

EDITS = {
    "edited": "UPDATE journal SET actor = 'eve' WHERE seq = 2",
    "edited with its digest": "UPDATE journal SET actor = 'eve', sha256 = '{other}' WHERE seq = 2",
    "dropped": "DELETE FROM journal WHERE seq = 2",
    "moved": "UPDATE journal SET seq = CASE seq WHEN 2 THEN -3 ELSE -2 END WHERE seq IN (2, 3)",
}


@pytest.fixture
def busy(coordinator: Coordinator, tmp_path: Path) -> EnrolledSite:
    made = EnrolledSite.join(coordinator, tmp_path / "busy", "busy")
    made.accepted(coordinator.publish(small_study()))
    for number in range(3):
        made.queue.record("link", "busy", str(number))
    return made


@pytest.mark.parametrize("database", ["private/site.db", "exchange/queue.db"])
@pytest.mark.parametrize("how", EDITS)
def test_an_entry_that_is_edited_dropped_or_moved_is_named(busy: EnrolledSite, database: str, how: str) -> None:
    verify_site(busy.home)
    connection = sqlite3.connect(busy.home.path / database)
    with connection:
        connection.execute(EDITS[how].format(other="f" * 64))
        connection.execute("UPDATE journal SET seq = -seq WHERE seq < 0")
    connection.close()
    with pytest.raises(SynthwardError, match=r"entry [23]") as caught:
        verify_site(busy.home)
    assert caught.value.code == "trust.journal"


def forget_the_question(site: Site) -> None:
    with site.store.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM journal WHERE action = 'ask'")


def move_the_view(site: Site) -> None:
    with site.store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE journal SET actor = 'ada' WHERE action = 'review'")


@pytest.mark.parametrize("change", [forget_the_question, move_the_view])
def test_a_review_that_is_written_into_the_journal_breaks_its_chain(site: Site, change: Callable[[Site], None]) -> None:
    site.open("grace")
    site.airlock.ask(ONE, site.id, "grace", "why?")
    site.open("grace")
    change(site)
    with refused("trust.journal"):
        site.journal()
