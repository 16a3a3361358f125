"""The ledger's tables in private/site.db: readings that nothing bounds, and noised ones beside them.

`ledger` has had its columns since the first version and keeps them, so that every older database opens as it is;
`ledger_noised` came with differential privacy. A row is never changed, but for a noised one's `state`, and never
deleted: the journal counts both tables together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Float, Integer, MetaData, String, Table


@dataclass(frozen=True)
class LedgerTables:
    """Where facts stand, and the journal that counts them; all three in one database."""

    unbounded: Table
    noised: Table
    journal: Table


def ledger_tables(metadata: MetaData, journal: Table) -> LedgerTables:
    """The ledger's tables, declared into the site's private database beside its journal."""
    unbounded = Table("ledger", metadata, *_of_any_reading())
    noised = Table(
        "ledger_noised",
        metadata,
        *_of_any_reading(),
        Column("sigma", Float, nullable=False),
        Column("q", Float, nullable=False),
        Column("steps", Integer, nullable=False),
        Column("clip", Float, nullable=False),
        Column("delta", Float, nullable=False),
        Column("unit", String, nullable=False),
        Column("relation", String, nullable=False),
        Column("who", String, nullable=False),
        Column("state", String, nullable=False),  # reserved, committed
    )
    return LedgerTables(unbounded, noised, journal)


def _of_any_reading() -> tuple[Column[Any], ...]:
    """What is written down of a reading, bounded or not. Made anew for each table: a column belongs to one."""
    return (
        Column("seq", Integer, primary_key=True),
        Column("at", String, nullable=False),
        Column("study_sha256", String(64), nullable=False),
        Column("kind", String, nullable=False),
        Column("mechanism", String, nullable=False),
        Column("patients", Integer, nullable=False),
        Column("subject", String, nullable=False),
    )
