"""The ledger: every reading of private pixels, as a fact, written before the reading happens.

In audited mode no mechanism bounds what a reading reveals, so its epsilon is infinite and stands here as "none"; the
privacy statement of a release is made from these facts and from nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, select

from shared.privacy import ACCESS_WORDS, Access, AccessKind, PrivacyStatement


def ledger_table(metadata: MetaData) -> Table:
    """The ledger's table, declared into the site's private database."""
    return Table(
        "ledger",
        metadata,
        Column("seq", Integer, primary_key=True),
        Column("at", String, nullable=False),
        Column("study_sha256", String(64), nullable=False),
        Column("kind", String, nullable=False),
        Column("mechanism", String, nullable=False),
        Column("patients", Integer, nullable=False),
        Column("subject", String, nullable=False),
    )


@dataclass(frozen=True)
class Fact:
    """One access. mechanism "none": nothing bounds it. patients: how many patients' pixels were read."""

    at: str
    study_sha256: str
    kind: AccessKind
    mechanism: str
    patients: int
    subject: str


def record(
    connection: Connection, table: Table, *, study_sha256: str, kind: AccessKind, patients: int, subject: str
) -> None:
    """Adds a fact within the caller's transaction. A resumed job adds its readings again: they happened again."""
    connection.execute(
        table.insert().values(
            at=datetime.now(UTC).isoformat(), study_sha256=study_sha256, kind=kind, mechanism="none",
            patients=patients, subject=subject,
        )
    )  # fmt: skip


def facts(connection: Connection, table: Table) -> list[Fact]:
    """All facts in order."""
    return [
        Fact(row.at, row.study_sha256, row.kind, row.mechanism, row.patients, row.subject)
        for row in connection.execute(select(table).order_by(table.c.seq))
    ]


def statement(found: list[Fact], subject: str) -> PrivacyStatement:
    """The privacy statement of one release, from the facts about it."""
    kinds = {fact.kind for fact in found if fact.subject == subject}
    return PrivacyStatement(accesses=tuple(Access(kind=kind) for kind in ACCESS_WORDS if kind in kinds))
