"""The ledger: what was read stands there before it is read, is never given back, and is what a statement says."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from shared import journal
from shared.privacy import AccessKind
from site_node.cases import PrivateStore, ledger
from site_node.cases import journal as private_journal
from site_node.cli import app
from site_node.dp.account import read_account
from site_node.dp.accountant import epsilon
from site_node.dp.budget import commit, reserve, reserved, spent
from site_node.dp.events import GaussianRelease, PoissonSampledGaussian, Reading
from site_node.dp.ledger import Fact, check_whole, facts, record, statement
from site_node.policy import Policy
from tests.helpers import refused
from tests.sites import LENIENT, make_site

STUDY = "5" * 64
# Epsilon 0.73 at 1e-5; two come to 1.08.
MOMENTS = Reading(GaussianRelease(5.0), "moments", STUDY, "release-1", "trainer", clip=1.5, delta=1e-5, patients=120)
TRAINING = replace(MOMENTS, event=PoissonSampledGaussian(4.0, 0.1, 300), kind="training", clip=1.0)
POLICY = Policy(max_epsilon_per_year=1.0)


@pytest.fixture
def store(tmp_path: Path) -> PrivateStore:
    return PrivateStore(tmp_path)


def found_in(store: PrivateStore) -> list[Fact]:
    with store.reading.begin() as connection:
        return facts(connection, ledger)


def read_unbounded(store: PrivateStore, kind: AccessKind, subject: str) -> None:
    with store.engine.begin() as connection:
        record(connection, ledger, study_sha256=STUDY, kind=kind, patients=120, subject=subject)


def at(text: str) -> Callable[[], datetime]:
    """A clock that shows this."""
    return lambda: datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_reading_that_was_paid_for_stands_there_with_all_that_is_known_of_it(store: PrivateStore) -> None:
    reservation = reserve(store, TRAINING, LENIENT)
    (before,) = found_in(store)
    commit(store, reservation)
    (after,) = found_in(store)

    assert before.noised == TRAINING
    assert before.mechanism == "poisson-sampled-gaussian"
    assert (before.state, after.state) == ("reserved", "committed")
    assert replace(after, state="reserved") == before


def test_a_reading_over_the_budget_is_refused_and_leaves_no_trace(store: PrivateStore) -> None:
    reserve(store, MOMENTS, POLICY)
    with store.reading.begin() as connection:
        before = journal.entries(connection, private_journal)
    with refused("policy.dp-budget"):
        reserve(store, MOMENTS, POLICY)
    with store.reading.begin() as connection:
        assert journal.entries(connection, private_journal) == before
    assert len(found_in(store)) == 1


def test_a_reservation_counts_whether_it_was_committed_or_not(store: PrivateStore) -> None:
    reserve(store, MOMENTS, POLICY)  # and its process is killed
    with refused("policy.dp-budget"):
        reserve(store, replace(MOMENTS, subject="release-2"), POLICY)


def test_the_budget_is_for_all_readings_of_the_site_whatever_study_they_are_for(store: PrivateStore) -> None:
    reserve(store, MOMENTS, POLICY)
    with refused("policy.dp-budget"):
        reserve(store, replace(MOMENTS, study_sha256="6" * 64, subject="m-1", kind="metrics"), POLICY)


def test_a_release_stays_within_what_its_study_asks_for_even_after_a_crash(store: PrivateStore) -> None:
    reserve(store, MOMENTS, LENIENT, own_epsilon=1.0)
    with refused("policy.dp-budget"):  # the same release once more, from the start
        reserve(store, MOMENTS, LENIENT, own_epsilon=1.0)
    reserve(store, replace(MOMENTS, subject="release-2"), LENIENT, own_epsilon=1.0)


def test_a_job_that_was_killed_finds_what_it_had_paid_for(store: PrivateStore) -> None:
    first = reserve(store, MOMENTS, LENIENT)
    reserve(store, TRAINING, LENIENT)
    reserve(store, replace(TRAINING, subject="release-2"), LENIENT)
    commit(store, first)
    assert [fact.noised for fact in reserved(store, "release-1")] == [TRAINING]


def test_a_new_year_has_a_budget_of_its_own(store: PrivateStore) -> None:
    reserve(store, MOMENTS, POLICY, now=at("2026-12-31T23:59:59"))
    with refused("policy.dp-budget"):
        reserve(store, MOMENTS, POLICY, now=at("2026-12-31T23:59:59"))
    reserve(store, MOMENTS, POLICY, now=at("2027-01-01T00:00:00"))
    assert [fact.year for fact in found_in(store)] == [2026, 2027]


@pytest.mark.parametrize("set_back_to", ["2025-06-01T00:00:00", "2026-01-01T00:00:00", "1970-01-01T00:00:00"])
def test_a_clock_that_was_set_back_opens_no_other_years_budget(store: PrivateStore, set_back_to: str) -> None:
    reserve(store, MOMENTS, POLICY, now=at("2027-03-01T12:00:00"))
    with refused("policy.dp-budget"):
        reserve(store, MOMENTS, POLICY, now=at(set_back_to))


def test_the_journal_alone_is_enough_to_know_that_the_clock_was_set_back(store: PrivateStore) -> None:
    """The journal's entries are of today: a reading 'in 2020' counts in this year."""
    read_unbounded(store, "training", "release-0")
    reserve(store, MOMENTS, POLICY, now=at("2020-01-01T00:00:00"))
    assert {fact.year for fact in found_in(store)} == {datetime.now(UTC).year}


def test_readings_without_noise_are_counted_apart(store: PrivateStore) -> None:
    read_unbounded(store, "training", "release-0")
    reserve(store, MOMENTS, POLICY)
    one = spent(found_in(store), datetime.now(UTC).year, 1e-5)
    assert (one.noised, one.unaccounted) == (1, 1)
    assert one.epsilon == epsilon([MOMENTS.event], 1e-5)


def test_a_year_is_counted_at_the_smallest_delta_of_its_readings(store: PrivateStore) -> None:
    reserve(store, replace(MOMENTS, delta=1e-7), LENIENT)
    reserve(store, MOMENTS, LENIENT)
    assert spent(found_in(store), None, 1e-5).epsilon == epsilon([MOMENTS.event] * 2, 1e-7)


# Whole or not


def change(store: PrivateStore, statement: str) -> None:
    """Writes to the database as somebody with the file would."""
    connection = sqlite3.connect(store.folder / "site.db")
    with connection:
        connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ledger_noised",
        "DELETE FROM ledger",
        "UPDATE ledger_noised SET sigma = 50",
        "UPDATE ledger_noised SET steps = 1",
        "UPDATE ledger_noised SET at = '2020-01-01T00:00:00+00:00'",
        "UPDATE ledger SET subject = 'release-9'",
    ],
)
def test_a_fact_that_was_deleted_or_changed_is_noticed_before_anything_more_is_paid(
    store: PrivateStore, statement: str
) -> None:
    read_unbounded(store, "training", "release-0")
    reserve(store, TRAINING, LENIENT)
    change(store, statement)
    with refused("trust.ledger"):
        reserve(store, replace(MOMENTS, subject="release-2"), LENIENT)
    with refused("trust.ledger"):
        read_account(store, LENIENT)


OLD = """
CREATE TABLE ledger (seq INTEGER PRIMARY KEY, at VARCHAR NOT NULL, study_sha256 VARCHAR(64) NOT NULL,
    kind VARCHAR NOT NULL, mechanism VARCHAR NOT NULL, patients INTEGER NOT NULL, subject VARCHAR NOT NULL);
INSERT INTO ledger VALUES (1, '2026-11-01T10:00:00.000001+00:00', '5', 'training', 'none', 9, 'release-0');
INSERT INTO ledger VALUES (2, '2026-11-01T10:00:00.000002+00:00', '5', 'screening', 'none', 12, 'release-0');
"""


def test_a_database_of_an_earlier_version_opens_and_its_facts_are_read_and_counted(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "site.db")
    connection.executescript(OLD)
    connection.close()
    store = PrivateStore(tmp_path)
    assert [fact.kind for fact in found_in(store)] == ["training", "screening"]
    assert statement(found_in(store), "release-0").mode == "audited"

    reserve(store, MOMENTS, POLICY)
    with store.reading.begin() as reading:
        assert check_whole(reading, ledger) == 3
    change(store, "DELETE FROM ledger WHERE seq = 2")  # a fact that has no entry of its own
    with refused("trust.ledger"):
        reserve(store, MOMENTS, LENIENT)


# What it says of a release


def test_a_release_whose_readings_were_all_noised_is_told_with_its_epsilon(store: PrivateStore) -> None:
    read_unbounded(store, "training", "release-0")
    reserve(store, replace(MOMENTS, subject="release-0", kind="metrics"), LENIENT)
    reserve(store, MOMENTS, LENIENT)
    reserve(store, TRAINING, LENIENT)
    read_unbounded(store, "findings", "release-1")

    told = statement(found_in(store), "release-1")

    assert told.mode == "dp"
    assert told.dp is not None
    own, everything = [MOMENTS.event, TRAINING.event], [MOMENTS.event, MOMENTS.event, TRAINING.event]
    assert (told.dp.epsilon_prv, told.dp.epsilon_rdp) == (epsilon(own, 1e-5).prv, epsilon(own, 1e-5).rdp)
    assert told.dp.site_epsilon_prv == epsilon(everything, 1e-5).prv
    assert [access.kind for access in told.dp.noised] == ["moments", "training"]
    assert told.dp.other_noised == 1
    assert told.dp.other_unaccounted == ("training",)
    assert [access.kind for access in told.accesses] == ["findings"]


def test_one_reading_without_noise_makes_a_release_audited_whatever_else_was_noised(store: PrivateStore) -> None:
    reserve(store, TRAINING, LENIENT)
    read_unbounded(store, "style", "release-1")
    told = statement(found_in(store), "release-1")
    assert told.mode == "audited"
    assert [(access.kind, access.mechanism) for access in told.accesses] == [("training", "noised"), ("style", "none")]
    assert "differentially private" not in " ".join([told.label(), *told.sentences()]).lower()


# The command


def test_the_command_tells_the_facts_what_they_come_to_and_what_is_left(tmp_path: Path) -> None:
    home = make_site(tmp_path / "site", Ed25519PrivateKey.generate(), policy=POLICY)
    store = PrivateStore(home.private)
    read_unbounded(store, "training", "release-0")
    commit(store, reserve(store, MOMENTS, POLICY))

    done = CliRunner().invoke(app, ["ledger", "--home", str(home.path), "--json"])
    told = json.loads(done.stdout)
    year = told["years"][str(told["this_year"])]
    expected = epsilon([MOMENTS.event], 1e-5)
    assert (year["epsilon_prv"], year["epsilon_rdp"], year["delta"]) == (expected.prv, expected.rdp, 1e-5)
    assert (year["noised"], year["unaccounted"]) == (1, 1)
    assert told["left_this_year"] == pytest.approx(1.0 - expected.prv)
    assert [(fact["kind"], fact["mechanism"]) for fact in told["facts"]] == [
        ("training", "none"),
        ("moments", "gaussian"),
    ]

    text = CliRunner().invoke(app, ["ledger", "--home", str(home.path)]).stdout
    assert "1 readings without noise" in text
    assert f"epsilon {expected.prv:.4g} by PRV and {expected.rdp:.4g} by RDP" in text


def test_the_command_says_that_a_ledger_has_forgotten_something(tmp_path: Path) -> None:
    home = make_site(tmp_path / "site", Ed25519PrivateKey.generate())
    store = PrivateStore(home.private)
    reserve(store, MOMENTS, POLICY)
    change(store, "DELETE FROM ledger_noised")
    done = CliRunner().invoke(app, ["ledger", "--home", str(home.path), "--json"])
    assert done.exit_code == 4
    assert "trust.ledger" in done.stderr
