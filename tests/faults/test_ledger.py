"""The ledger under kills, races and old backups: whatever happens, it never counts less than was spent."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from shared import checkpoint
from shared.errors import SynthwardError
from site_node.cases import PrivateStore, ledger
from site_node.cases import journal as private_journal
from site_node.checkpoints import HELD, write_head
from site_node.dp.budget import commit, reserve, spent
from site_node.dp.events import GaussianRelease, Reading
from site_node.dp.ledger import check_whole, facts, record
from site_node.jobs import Queue
from site_node.policy import Policy
from site_node.rollback import check_rollbacks
from tests.helpers import refused

# Epsilon 0.73 at 1e-5; two come to 1.08.
READING = Reading(
    GaussianRelease(5.0), "moments", "5" * 64, "release-1", "trainer", clip=1.5, delta=1e-5, patients=120
)  # fmt: skip
POLICY = Policy(max_epsilon_per_year=1.0)


def as_a_process(work: Callable[[], None]) -> int:
    """Runs work in a process of its own; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a child of a test must never go on as the test
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def noised(store: PrivateStore) -> int:
    """How many noised readings the ledger counts; raises when it is not whole."""
    with store.reading.begin() as connection:
        check_whole(connection, ledger)
        return sum(fact.noised is not None for fact in facts(connection, ledger))


def killed_at(store: PrivateStore, statement: int) -> None:
    """Ends this process with SIGKILL before its n-th statement to the database is run."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == statement:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(store.engine, "before_cursor_execute", count)
    event.listen(store.engine, "commit", count)  # the moment before the transaction is made durable


def test_a_kill_between_any_two_writes_never_counts_less_than_was_read(tmp_path: Path) -> None:
    """A job reserves, reads, commits; it is killed before its first statement, its second, and so on to the end."""
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    PrivateStore(fresh).engine.dispose()
    killed = 0
    for statement in range(1, 100):
        folder = Path(shutil.copytree(fresh, tmp_path / str(statement)))

        def job(folder: Path = folder, statement: int = statement) -> None:
            store = PrivateStore(folder)
            killed_at(store, statement)
            reservation = reserve(store, READING, POLICY)
            (folder / "pixels-were-read").touch()
            commit(store, reservation)

        status = as_a_process(job)
        counted = noised(PrivateStore(folder))
        assert counted >= int((folder / "pixels-were-read").exists())
        assert counted <= 1
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed += 1
    assert status == 0  # the loop went through the whole job
    assert killed >= 8
    with PrivateStore(folder).reading.begin() as connection:
        assert [fact.state for fact in facts(connection, ledger)] == ["committed"]


def race(folder: Path, number: int, start: Any, ended: Any) -> None:
    """One of the jobs that want the rest of the budget at the same moment."""
    store = PrivateStore(folder)
    start.wait()
    try:
        reserve(store, replace(READING, subject=f"release-{number}"), POLICY)
        ended.put("")
    except SynthwardError as error:
        ended.put(error.code)


def test_jobs_that_race_for_the_budget_cannot_overspend_it(tmp_path: Path) -> None:
    PrivateStore(tmp_path).engine.dispose()
    processes = get_context("fork")
    start, ended = processes.Barrier(4), processes.Queue()
    racers = [processes.Process(target=race, args=(tmp_path, number, start, ended)) for number in range(4)]
    for racer in racers:
        racer.start()
    codes = sorted(ended.get(timeout=60) for _ in racers)
    for racer in racers:
        racer.join()
    assert codes == ["", *["policy.dp-budget"] * 3]
    store = PrivateStore(tmp_path)
    assert noised(store) == 1
    with store.reading.begin() as connection:
        assert spent(facts(connection, ledger), None, 1e-5).epsilon.prv <= POLICY.max_epsilon_per_year


@pytest.fixture
def store(tmp_path: Path) -> PrivateStore:
    """A site that has read something once, with a backup of its database from before it spent any epsilon."""
    store = PrivateStore(tmp_path)
    with store.engine.begin() as connection:
        record(connection, ledger, study_sha256="5" * 64, kind="training", patients=9, subject="release-0")
    backup(store, tmp_path / "backup.db")
    reserve(store, READING, POLICY)
    return store


def backup(store: PrivateStore, to: Path) -> None:
    """A whole copy of the database as it is now."""
    source, target = sqlite3.connect(store.folder / "site.db"), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def put_back(store: PrivateStore) -> PrivateStore:
    """The backup in the place of the database."""
    store.engine.dispose()
    for ending in ("", "-wal", "-shm"):
        (store.folder / f"site.db{ending}").unlink(missing_ok=True)
    shutil.copy(store.folder / "backup.db", store.folder / "site.db")
    return PrivateStore(store.folder)


def test_an_older_database_in_the_place_of_this_one_is_named_by_verify(store: PrivateStore, tmp_path: Path) -> None:
    """The spent epsilon is forgotten in the copy, ledger and journal alike; the coordinator's note is not."""
    queue = Queue(tmp_path)
    with store.reading.begin() as connection:
        noted = checkpoint.head(connection, private_journal)
    with queue.engine.begin() as connection:
        write_head(connection, HELD["trainer"], noted)
    check_rollbacks(queue, store)

    older = put_back(store)

    assert noised(older) == 0  # whole in itself: only who noted the journal's end can tell
    with refused("trust.rollback"):
        check_rollbacks(queue, older)


def test_older_tables_in_the_place_of_the_ledger_are_named_by_the_journal(store: PrivateStore) -> None:
    """Somebody puts back the ledger alone, so that the journal still fits what the coordinator noted."""
    connection = sqlite3.connect(store.folder / "site.db")
    connection.execute("ATTACH ? AS older", (str(store.folder / "backup.db"),))
    with connection:
        for table in ("ledger", "ledger_noised"):
            connection.execute(f"DELETE FROM main.{table}")  # noqa: S608 - two names of ours
            connection.execute(f"INSERT INTO main.{table} SELECT * FROM older.{table}")  # noqa: S608
    connection.close()
    with refused("trust.ledger"):
        noised(store)
    with refused("trust.ledger"):
        reserve(store, replace(READING, subject="release-2"), POLICY)
