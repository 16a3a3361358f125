"""Checkpoints: each side keeps the end of the other's journal, so that a journal that was cut is noticed.

A chain alone cannot show that its end is missing, nor that an older database was put in its place: it is whole. But
whoever wrote down the length and the last digest can ask: does entry n still have digest d?
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import Connection, Table, select

from shared.errors import SynthwardError
from shared.journal import GENESIS
from shared.study import Document, Sha256, Slug

# The action under which either side's journal keeps that a journal was found to have been rolled back.
FOUND = "rollback-found"


class Head(Document):
    """Where a journal ends: how many entries, and the digest of the last (64 zeros when there is none)."""

    entries: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0
    sha256: Sha256 = GENESIS


EMPTY = Head()


class Checkpoint(Document):
    """The coordinator's word to one site. Signed by the coordinator, kind "checkpoint".

    coordinator: where its own journal ends. link, trainer: what it holds of the site's two journals. It takes on newer
    ones only from a site that repeats these, and so has compared them with what it has.
    """

    format: Literal["synthward.checkpoint/1"] = "synthward.checkpoint/1"
    site: Slug
    coordinator: Head
    link: Head
    trainer: Head


def head(connection: Connection, table: Table) -> Head:
    """Where a journal ends."""
    last = connection.execute(select(table).order_by(table.c.seq.desc()).limit(1)).first()
    return EMPTY if last is None else Head(entries=last.seq, sha256=last.sha256)


def digest_at(connection: Connection, table: Table, entries: int) -> str:
    """The digest of a journal's entry of that number, 64 zeros for none; "" where the journal is shorter."""
    if entries == 0:
        return GENESIS
    return connection.execute(select(table.c.sha256).where(table.c.seq == entries)).scalar() or ""


def holds(connection: Connection, table: Table, noted: Head) -> bool:
    """Whether the journal still goes through a head that was noted earlier."""
    return digest_at(connection, table, noted.entries) == noted.sha256


def check_holds(connection: Connection, table: Table, noted: Head, *, whose: str, noted_by: str) -> None:
    """Raises trust.rollback unless the journal still goes through a head that was noted earlier."""
    if not holds(connection, table, noted):
        raise rollback(noted, whose=whose, noted_by=noted_by)


def finding(noted: Head) -> str:
    """A finding as the detail of a journal entry."""
    return f"{noted.entries}:{noted.sha256}"


def found(detail: str) -> Head:
    """The head in such a detail."""
    entries, _, sha256 = detail.partition(":")
    return Head(entries=int(entries), sha256=sha256)


def rollback(noted: Head, *, whose: str, noted_by: str) -> SynthwardError:
    """The error that names a journal which was cut or replaced, and the first place that is known to differ."""
    return SynthwardError(
        "trust.rollback",
        f"{whose} does not hold entry {noted.entries} as {noted_by} noted it ({noted.sha256[:12]})",
        why="its end was cut off, or an older or another database was put in its place",
        do="keep both databases as they are and compare them with the last backup; see deploy/docs/airlock.md",
    )
