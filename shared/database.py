"""How both sides open their databases, so that one writer at a time holds and a power cut loses nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event

_READING = "synthward_reading"


def open_database(url: str) -> Engine:
    """An engine. SQLite gets a write-ahead log, full flushing, and transactions that take the write lock at once.

    Taking the lock at the start (BEGIN IMMEDIATE) turns "two read the same last journal entry" into "one waits".
    """
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection: Any, _record: Any) -> None:
            connection.isolation_level = None  # the driver begins nothing on its own
            for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
                connection.execute(f"PRAGMA {pragma}")

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            reading = connection.get_execution_options().get(_READING, False)
            connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def reading(engine: Engine) -> Engine:
    """The same engine for transactions that only read: they take no write lock and wait for no writer."""
    return engine.execution_options(**{_READING: True})


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite:///{path}"
