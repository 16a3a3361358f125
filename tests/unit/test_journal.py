"""The journal: what was changed, dropped or moved is found and named; what was rolled back was never written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, MetaData, Table

from shared.database import open_database, reading, sqlite_url
from shared.errors import SynthwardError
from shared.journal import GENESIS, Entry, append, entries, journal_table, verify
from tests.helpers import refused


class Log:
    """A journal in a file of its own."""

    def __init__(self, path: Path) -> None:
        metadata = MetaData()
        self.table: Table = journal_table(metadata)
        self.engine: Engine = open_database(sqlite_url(path))
        metadata.create_all(self.engine)

    def add(self, action: str) -> Entry:
        with self.engine.begin() as connection:
            return append(connection, self.table, actor="ada", action=action, subject="release-1", detail="x")

    def all(self) -> list[Entry]:
        with reading(self.engine).begin() as connection:
            return entries(connection, self.table)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "journal.db")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    long = Log(tmp_path_factory.mktemp("journal") / "journal.db")
    return [long.add(f"step-{number}") for number in range(8)]


def named(broken: list[Entry]) -> str:
    """What the refusal of a chain says."""
    with pytest.raises(SynthwardError) as caught:
        verify(broken)
    assert caught.value.code == "trust.journal"
    return caught.value.what


def test_a_whole_journal_holds_and_names_its_last_entry(log: Log) -> None:
    assert verify(log.all()) == GENESIS
    written = [log.add(action) for action in ("draft", "screen", "review")]
    assert log.all() == written
    assert verify(log.all()) == written[-1].sha256
    assert [entry.seq for entry in written] == [1, 2, 3]


CHANGES: dict[str, Callable[[Entry], Entry]] = {
    "at": lambda e: replace(e, at="2020-01-01T00:00:00.000+00:00"),
    "actor": lambda e: replace(e, actor="eve"),
    "action": lambda e: replace(e, action="approve"),
    "subject": lambda e: replace(e, subject="release-2"),
    "detail": lambda e: replace(e, detail=""),
    "sha256": lambda e: replace(e, sha256="0" * 63 + "1"),
}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_changed_entry_is_found_and_named(chain: list[Entry], field: str, at: int) -> None:
    broken = [*chain[:at], CHANGES[field](chain[at]), *chain[at + 1 :]]
    assert f"entry {at + 1} was changed" in named(broken)


@pytest.mark.parametrize("at", [0, 3, 6])
def test_a_changed_entry_with_a_new_digest_breaks_the_one_after_it(chain: list[Entry], at: int) -> None:
    forged = replace(chain[at], actor="eve")
    forged = replace(forged, sha256=forged.computed())
    assert f"entry {at + 2} does not follow" in named([*chain[:at], forged, *chain[at + 1 :]])


@pytest.mark.parametrize("at", range(7))
def test_a_dropped_entry_is_found_and_named(chain: list[Entry], at: int) -> None:
    assert f"entry {at + 1} is missing" in named(chain[:at] + chain[at + 1 :])


@pytest.mark.parametrize("start", [1, 4, 7])
def test_a_journal_that_is_cut_at_its_start_is_found(chain: list[Entry], start: int) -> None:
    assert "entry 1 is missing" in named(chain[start:])


def test_a_journal_that_is_cut_at_its_start_and_counted_afresh_is_found(chain: list[Entry]) -> None:
    assert "entry 1 does not follow" in named([replace(e, seq=e.seq - 2) for e in chain[2:]])


def test_a_journal_that_is_cut_at_its_end_has_another_last_digest(chain: list[Entry]) -> None:
    # The chain alone cannot tell: whoever wrote down the last digest can.
    assert verify(chain[:-1]) != verify(chain)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_moved_entries_are_found(chain: list[Entry], data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(chain))).filter(lambda p: p != sorted(p)))
    first = next(at for at, where in enumerate(order) if at != where)
    assert f"entry {first + 1} is missing" in named([chain[at] for at in order])


def test_entries_that_are_moved_and_numbered_afresh_are_found(chain: list[Entry]) -> None:
    swapped = [*chain[:2], replace(chain[3], seq=3), replace(chain[2], seq=4), *chain[4:]]
    assert "entry 3 does not follow" in named(swapped)


def test_an_entry_that_is_put_in_is_found(chain: list[Entry]) -> None:
    assert "entry 4 is missing" in named([*chain[:3], chain[2], *chain[3:]])


def test_a_change_in_the_database_itself_is_found(log: Log) -> None:
    for action in ("draft", "review", "approve"):
        log.add(action)
    with log.engine.begin() as connection:
        connection.execute(log.table.update().where(log.table.c.seq == 2).values(actor="eve"))
    assert "entry 2 was changed" in named(log.all())


def test_what_is_rolled_back_leaves_no_entry_and_no_gap(log: Log) -> None:
    log.add("draft")
    with suppress(RuntimeError), log.engine.begin() as connection:
        append(connection, log.table, actor="ada", action="approve", subject="release-1")
        raise RuntimeError("killed")
    log.add("review")
    assert [entry.action for entry in log.all()] == ["draft", "review"]
    verify(log.all())


def test_writers_at_the_same_time_never_collide(log: Log, tmp_path: Path) -> None:
    failures: list[BaseException] = []
    other = Log(tmp_path / "journal.db")  # a second process would have an engine of its own too
    ready = threading.Barrier(4)

    def write(to: Log, actor: str) -> None:
        try:
            ready.wait(timeout=10)
            for number in range(10):
                to.add(f"{actor}-{number}")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=write, args=(log if n % 2 else other, f"writer-{n}")) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    written = log.all()
    verify(written)
    for actor in range(4):
        own = [entry.action for entry in written if entry.action.startswith(f"writer-{actor}")]
        assert own == [f"writer-{actor}-{number}" for number in range(10)]


def test_a_refusal_says_what_to_do(chain: list[Entry]) -> None:
    with refused("trust.journal"):
        verify(chain[1:])
    with pytest.raises(SynthwardError, match="What to do"):
        verify(chain[1:])
