"""Figures and lists over the store, for those who watch it."""

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


def journalled(store: Store, action: str) -> set[str]:
    """What the journal says this was done to."""
    table = schema.journal
    with store.reading.begin() as connection:
        return {row.subject for row in connection.execute(select(table.c.subject).where(table.c.action == action))}
