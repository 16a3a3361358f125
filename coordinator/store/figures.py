"""Counts over the store, for monitoring."""

from __future__ import annotations

from sqlalchemy import func, select

from coordinator.store import schema
from coordinator.store.store import Store

STATES = ("incoming", "accepted", "quarantined", "revoked")


def bundles_by_state(store: Store) -> dict[str, int]:
    """State -> how many bundles have it, also where there is none."""
    table = schema.bundles
    query = select(table.c.state, func.count().label("bundles")).group_by(table.c.state)
    with store.reading.begin() as connection:
        found = {row.state: int(row.bundles) for row in connection.execute(query)}
    return dict.fromkeys(STATES, 0) | found


def journal_entries(store: Store) -> int:
    """How many entries the journal has."""
    with store.reading.begin() as connection:
        return connection.execute(select(func.max(schema.journal.c.seq))).scalar() or 0
