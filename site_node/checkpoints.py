"""The site's side of checkpoints: what the coordinator holds of our journals, and what we hold of its.

The link compares its own journal here; the trainer, who alone can read the private one, does so in rollback.py. What
they find stays in the link's journal, and goes to the coordinator as one bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, select

from shared import checkpoint, journal
from shared.checkpoint import EMPTY, FOUND, Checkpoint, Head
from shared.documents import parse
from site_node import queue_schema as tables
from site_node.jobs import Queue

Whose = Literal["link", "trainer", "coordinator"]
# Names of rows: what the coordinator holds of ours, the trainer's head as published, and what it compared last.
HELD: dict[Whose, str] = {"link": "held-link", "trainer": "held-trainer", "coordinator": "coordinator"}
PUBLISHED, COMPARED = "trainer", "compared-trainer"


@dataclass(frozen=True)
class Said:
    """What the link tells the coordinator. last, signature: its last checkpoint as it was signed, or empty."""

    link: Head
    trainer: Head
    last: bytes
    signature: bytes
    rolled_back: bool


class Checkpoints:
    """The heads in the queue's database."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def to_say(self) -> Said:
        """What is to be told now.

        The trainer's newest head only once the trainer has compared its journal with what the coordinator holds of it;
        until then the held one is repeated, so that the coordinator keeps what there is to compare with.
        """
        with self._queue.reading.begin() as connection:
            held = read_head(connection, HELD["trainer"])
            compared = read_head(connection, COMPARED) == held
            row = connection.execute(select(tables.heads).where(tables.heads.c.name == HELD["coordinator"])).first()
            return Said(
                link=checkpoint.head(connection, tables.journal),
                trainer=read_head(connection, PUBLISHED) if compared else held,
                last=bytes(row.payload) if row else b"",
                signature=bytes(row.signature) if row else b"",
                rolled_back=first_found(connection, ("link", "trainer")) is not None,
            )

    def take_in(self, said: Said, payload: bytes, signature: bytes, at_last: str) -> Checkpoint:
        """Compares the coordinator's verified answer with what is here, notes what disagrees, and keeps it.

        at_last: the digest that the coordinator's journal has now where the checkpoint that we repeated ends.
        """
        told = parse(Checkpoint, payload)
        before = parse(Checkpoint, said.last).coordinator if said.last else EMPTY
        with self._queue.engine.begin() as connection:
            if not checkpoint.holds(connection, tables.journal, told.link):
                note(connection, "link", told.link)
            if said.last and (at_last != before.sha256 or told.coordinator.entries < before.entries):
                note(connection, "coordinator", before)
            write_head(connection, HELD["link"], told.link)
            write_head(connection, HELD["trainer"], told.trainer)
            write_head(connection, HELD["coordinator"], told.coordinator, payload, signature)
        return told

    def held(self, whose: Whose) -> Head:
        """The head that the coordinator holds of one of our journals, or that we hold of its own."""
        with self._queue.reading.begin() as connection:
            return read_head(connection, HELD[whose])


def read_head(connection: Connection, name: str) -> Head:
    """The head under a name, or that of an empty journal."""
    row = connection.execute(select(tables.heads).where(tables.heads.c.name == name)).first()
    return EMPTY if row is None else Head(entries=row.entries, sha256=row.sha256)


def write_head(connection: Connection, name: str, head: Head, payload: bytes = b"", signature: bytes = b"") -> None:
    """Puts a head under a name."""
    connection.execute(tables.heads.delete().where(tables.heads.c.name == name))
    connection.execute(
        tables.heads.insert().values(
            name=name, entries=head.entries, sha256=head.sha256, payload=payload, signature=signature
        )
    )


def note(connection: Connection, whose: Whose, noted: Head) -> None:
    """Writes a finding into the link's journal, once."""
    table, detail = tables.journal, checkpoint.finding(noted)
    same = (table.c.action == FOUND) & (table.c.subject == whose) & (table.c.detail == detail)
    if connection.execute(select(table.c.seq).where(same)).first() is None:
        journal.append(connection, table, actor="link", action=FOUND, subject=whose, detail=detail)


def first_found(connection: Connection, of: tuple[Whose, ...]) -> tuple[Whose, Head] | None:
    """The first finding about one of these journals."""
    table = tables.journal
    query = select(table).where(table.c.action == FOUND, table.c.subject.in_(of)).order_by(table.c.seq).limit(1)
    row = connection.execute(query).first()
    if row is None:
        return None
    whose: Whose = next(name for name in of if name == row.subject)
    return whose, checkpoint.found(row.detail)
