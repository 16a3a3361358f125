"""How both sides open their databases, so that one writer at a time holds and a power cut loses nothing.

The promise is the same on SQLite and on PostgreSQL: a transaction that writes has the whole database to itself from its
start to its end, so what it has read still holds when it writes. One that reads sees one moment, and waits for nobody.

A database that cannot take a transaction now, for want of room or of its turn, says so with a code, and holds what it
held before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, create_engine, event, text

from shared.errors import SynthwardError

_READING = "synthward_reading"
_PATIENCE_S = 30
# Any number that nobody else takes an advisory lock on in this database.
_LOCK = int.from_bytes(b"synthwrd")
_TAKE_LOCK = text(f"SELECT set_config('lock_timeout', '{_PATIENCE_S}s', true), pg_advisory_xact_lock({_LOCK})")
# SQLite's result codes, and PostgreSQL's: the write-ahead log's index and quotas have codes of their own.
_NO_ROOM = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_WRITE", "53100"})
_NO_TURN = frozenset({"SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_LOCKED", "55P03"})


def open_database(url: str) -> Engine:
    """An engine for SQLite or PostgreSQL. A writer that gets no turn for 30 s fails, with nothing written.

    What it runs raises storage.full and storage.busy, besides SQLAlchemy's own errors.

    SQLite gets a write-ahead log, full flushing, and transactions that take the write lock at once (BEGIN IMMEDIATE).
    PostgreSQL gets an advisory lock at the start of each transaction that writes, in place of that lock: "two read the
    same last journal entry" becomes "one waits". Its connections are tried before use, so that a restart of the server
    costs nobody a call.
    """
    engine = create_engine(url, pool_pre_ping=True)
    event.listen(engine, "handle_error", _told)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # the driver begins nothing on its own
            for pragma in (
                "journal_mode=WAL", "synchronous=FULL", f"busy_timeout={_PATIENCE_S * 1000}", "foreign_keys=ON",
            ):  # fmt: skip
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql("BEGIN" if _is_reading(connection) else "BEGIN IMMEDIATE")

    elif engine.dialect.name == "postgresql":

        @event.listens_for(engine, "begin")
        def _wait_for_turn(connection: Connection) -> None:
            if not _is_reading(connection):
                connection.execute(_TAKE_LOCK)

    return engine


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read: they take no write lock and wait for no writer."""
    options: dict[str, Any] = {_READING: True}
    if engine.dialect.name == "postgresql":
        # What SQLite's write-ahead log gives by itself: one moment for all statements of a transaction.
        options |= {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    return engine.execution_options(**options)


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"


def _is_reading(connection: Connection) -> bool:
    return bool(connection.get_execution_options().get(_READING, False))


def _told(failed: ExceptionContext) -> None:
    """Raises storage.full or storage.busy in place of a driver's error that means it."""
    error = failed.original_exception
    code = str(getattr(error, "sqlite_errorname", "") or getattr(error, "sqlstate", ""))
    if code in _NO_ROOM:
        raise SynthwardError(
            "storage.full",
            "no room to write the database",
            why="the transaction would be incomplete, so nothing was kept of it",
            do="free some space, then run the same command again",
        ) from error
    if code in _NO_TURN:
        raise SynthwardError(
            "storage.busy",
            f"another program has held the database for {_PATIENCE_S} s",
            why="one writes at a time; nothing was written",
            do="end what holds it, a copy or an inspection of the file for example, then run the same command again",
        ) from error
