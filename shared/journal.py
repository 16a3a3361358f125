"""The journal: who did what, append-only, each entry chained to the one before by SHA-256.

`append` runs inside the caller's transaction, so a change of state and its record are written together or not at all.
`verify` names the first entry that was changed, dropped or moved. The texts hold no patient key, file name or pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import rfc8785
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, select

from shared.errors import SynthwardError
from shared.pairs import sha256_hex

GENESIS = "0" * 64


def journal_table(metadata: MetaData) -> Table:
    """The journal's table, declared into a store's metadata."""
    return Table(
        "journal",
        metadata,
        Column("seq", Integer, primary_key=True, autoincrement=False),
        Column("at", String, nullable=False),
        Column("actor", String, nullable=False),
        Column("action", String, nullable=False),
        Column("subject", String, nullable=False),
        Column("detail", String, nullable=False),
        Column("previous", String(64), nullable=False),
        Column("sha256", String(64), nullable=False, unique=True),
    )


@dataclass(frozen=True)
class Entry:
    """One entry. seq counts from 1; at is UTC, ISO 8601; sha256 covers every other field."""

    seq: int
    at: str
    actor: str
    action: str
    subject: str
    detail: str
    previous: str
    sha256: str

    def computed(self) -> str:
        """SHA-256 over the canonical JSON of all fields but itself."""
        fields: list[int | str] = [
            self.seq, self.at, self.actor, self.action, self.subject, self.detail, self.previous,
        ]  # fmt: skip
        return sha256_hex(rfc8785.dumps(list(fields)))


def append(connection: Connection, table: Table, *, actor: str, action: str, subject: str, detail: str = "") -> Entry:
    """Adds an entry within the caller's transaction; two writers that race collide on seq, and one retries."""
    last = connection.execute(select(table).order_by(table.c.seq.desc()).limit(1)).first()
    unsealed = Entry(
        seq=1 if last is None else last.seq + 1,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        actor=actor,
        action=action,
        subject=subject,
        detail=detail,
        previous=GENESIS if last is None else last.sha256,
        sha256="",
    )
    entry = replace(unsealed, sha256=unsealed.computed())
    connection.execute(table.insert().values(**vars(entry)))
    return entry


def entries(connection: Connection, table: Table) -> list[Entry]:
    """All entries in order."""
    return [Entry(**row._mapping) for row in connection.execute(select(table).order_by(table.c.seq))]


def verify(chain: Sequence[Entry]) -> str:
    """The digest of the last entry (GENESIS when empty). Raises trust.journal naming the first bad entry."""
    previous = GENESIS
    for expected, entry in enumerate(chain, start=1):
        reason = None
        if entry.seq != expected:
            reason = f"entry {expected} is missing"
        elif entry.previous != previous:
            reason = f"entry {expected} does not follow the one before it"
        elif entry.computed() != entry.sha256:
            reason = f"entry {expected} was changed"
        if reason:
            raise SynthwardError(
                "trust.journal",
                f"the journal is broken: {reason}",
                why="somebody or something has written to the database besides Synthward",
                do="keep the database as it is, restore the last backup beside it, and compare",
            )
        previous = entry.sha256
    return previous
