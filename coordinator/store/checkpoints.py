"""Where sites' journals ended when they last said so, and what was found to have been rolled back, on either side."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from coordinator.store import schema
from coordinator.store.store import Site, Store
from shared import checkpoint, journal
from shared.checkpoint import EMPTY, FOUND, Checkpoint, Head
from shared.errors import SynthwardError


@dataclass(frozen=True)
class Heads:
    """Where the two journals of a site end."""

    link: Head = EMPTY
    trainer: Head = EMPTY


@dataclass(frozen=True)
class Told:
    """What a site says. last: the last checkpoint that it holds of ours; rolled_back: what we noted, it lacks."""

    heads: Heads
    last: Checkpoint | None
    rolled_back: bool


@dataclass(frozen=True)
class Kept:
    """What we answer. own: where our journal ends; held: the site's heads; at_last: our digest now where last ends."""

    own: Head
    held: Heads
    at_last: str


def exchange(store: Store, site: Site, told: Told) -> Kept:
    """Takes in what a site says and answers with what is kept, in one transaction.

    New heads are kept only from a site that repeats those that were held and lacks nothing of them; a site that was
    rolled back therefore cannot write over the trace of it, however many entries it has added since.
    """
    with store.engine.begin() as connection:
        held, at_last = _held(connection, site), ""
        if told.last is not None:
            at_last = checkpoint.digest_at(connection, schema.journal, told.last.coordinator.entries)
            if at_last != told.last.coordinator.sha256:
                _note(connection, site, "coordinator", told.last.coordinator)
        if told.rolled_back:
            _note(connection, site, "site", held.link)
        elif _confirms(told, held) and told.heads != held:
            held = told.heads
            _keep(connection, site, held)
        return Kept(checkpoint.head(connection, schema.journal), held, at_last)


def check_rollbacks(store: Store) -> None:
    """Raises trust.rollback for the first journal that was found to have been rolled back.

    What was found at a site ends with its next enrolment: a new folder has new journals.
    """
    with store.reading.begin() as connection:
        chain = journal.entries(connection, schema.journal)
    enrolled = {entry.subject: entry.seq for entry in chain if entry.action == "enrol"}
    for entry in chain:
        if entry.action != FOUND:
            continue
        name, _, whose = entry.subject.partition("/")
        if entry.seq > enrolled.get(name, 0):
            raise _error(name, whose, checkpoint.found(entry.detail))


def _error(site: str, whose: str, noted: Head) -> SynthwardError:
    if whose == "coordinator":
        return checkpoint.rollback(noted, whose="this coordinator's journal", noted_by=f"site {site}")
    return checkpoint.rollback(noted, whose=f"a journal of site {site}", noted_by="this coordinator")


def _confirms(told: Told, held: Heads) -> bool:
    shown = Heads() if told.last is None else Heads(told.last.link, told.last.trainer)
    longer = told.heads.link.entries >= held.link.entries and told.heads.trainer.entries >= held.trainer.entries
    return shown == held and longer


def _held(connection: Connection, site: Site) -> Heads:
    table = schema.checkpoints
    mine = (table.c.site == site.name) & (table.c.certificate_serial == site.certificate_serial)
    row = connection.execute(select(table).where(mine)).first()
    if row is None:
        return Heads()
    return Heads(
        Head(entries=row.link_entries, sha256=row.link_sha256),
        Head(entries=row.trainer_entries, sha256=row.trainer_sha256),
    )


def _keep(connection: Connection, site: Site, heads: Heads) -> None:
    table = schema.checkpoints
    mine = (table.c.site == site.name) & (table.c.certificate_serial == site.certificate_serial)
    connection.execute(table.delete().where(mine))
    connection.execute(
        table.insert().values(
            site=site.name,
            certificate_serial=site.certificate_serial,
            link_entries=heads.link.entries,
            link_sha256=heads.link.sha256,
            trainer_entries=heads.trainer.entries,
            trainer_sha256=heads.trainer.sha256,
            at=datetime.now(UTC).isoformat(),
        )
    )
    journal.append(
        connection, schema.journal, actor=f"site:{site.name}", action="checkpoint", subject=site.name,
        detail=f"{checkpoint.finding(heads.link)} {checkpoint.finding(heads.trainer)}",
    )  # fmt: skip


def _note(connection: Connection, site: Site, whose: str, noted: Head) -> None:
    """Writes a finding down, once."""
    table = schema.journal
    subject, detail = f"{site.name}/{whose}", checkpoint.finding(noted)
    same = (table.c.action == FOUND) & (table.c.subject == subject) & (table.c.detail == detail)
    if connection.execute(select(table.c.seq).where(same)).first() is None:
        journal.append(connection, table, actor=f"site:{site.name}", action=FOUND, subject=subject, detail=detail)
