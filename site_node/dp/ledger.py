"""The ledger: every reading of private pixels, as a fact, written before the reading happens.

In audited mode no mechanism bounds what a reading reveals, so its epsilon is infinite and it stands here as "none". A
noised reading is reserved whole before its first step (site_node/dp/budget.py) and committed after its last; one that
was never committed counts as spent, because nobody can tell how much of it had happened when its process died. The
privacy statement of a release is made from these facts and from nothing else.

Each fact has an entry in the site's journal, written in the same transaction, with the fact's digest and the running
count of all facts: a row that was deleted or changed is noticed here, an older database in the place of this one by
`verify`, since the coordinator knows where the journal ended.

What a figure counts. A statement in mode dp is about one release: it composes every noised reading of the site, for
whatever it was, and claims nothing if a reading for this very release had no mechanism (`findings` excepted, which
change nothing in what leaves). Readings without noise for *other* releases or measurements do not enter its epsilon,
which would be infinite; they are named in it as not covered, and nothing bounds both together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import rfc8785
from sqlalchemy import Connection, func, select

from shared import journal
from shared.errors import SynthwardError
from shared.pairs import sha256_hex
from shared.privacy import (
    ACCESS_WORDS,
    DP_NOT_COVERED,
    STAYS_INSIDE,
    Access,
    AccessKind,
    DpClaim,
    NoisedAccess,
    PrivacyStatement,
)
from site_node.dp.events import (
    Event,
    GaussianRelease,
    Noised,
    PoissonSampledGaussian,
    Reading,
    Unaccounted,
    mechanism,
    rate,
    times,
)
from site_node.dp.schema import LedgerTables

NOTED = "ledger"  # the action of a fact's entry in the journal
RESERVED, COMMITTED = "reserved", "committed"


@dataclass(frozen=True)
class Fact:
    """One access. mechanism "none": nothing bounds it. patients: how many patients' pixels were read.

    noised: the reading, where it had a mechanism. seq, state: of a noised one, its number and whether it was committed.
    """

    at: str
    study_sha256: str
    kind: AccessKind
    mechanism: str
    patients: int
    subject: str
    noised: Reading | None = None
    seq: int = 0
    state: str = ""

    @property
    def event(self) -> Event:
        """What an accountant needs of it."""
        return Unaccounted(self.kind) if self.noised is None else self.noised.event

    @property
    def year(self) -> int:
        """The calendar year, UTC, in which it counts."""
        return datetime.fromisoformat(self.at).astimezone(UTC).year


def clock() -> datetime:
    """Now, by this machine's clock."""
    return datetime.now(UTC)


def record(
    connection: Connection, tables: LedgerTables, *, study_sha256: str, kind: AccessKind, patients: int, subject: str
) -> None:
    """Adds a reading without noise, within the caller's transaction. A resumed job adds its readings again: they
    happened again."""
    row = {
        "at": latest(connection, tables, clock()).isoformat(), "study_sha256": study_sha256, "kind": kind,
        "mechanism": "none", "patients": patients, "subject": subject,
    }  # fmt: skip
    connection.execute(tables.unbounded.insert().values(**row))
    _note(connection, tables, row, actor="trainer")


def add_reserved(connection: Connection, tables: LedgerTables, reading: Reading, now: datetime) -> int:
    """Adds a noised reading as reserved, within the caller's transaction, at an instant from `latest`; its number."""
    event = reading.event
    row = {
        "at": now.isoformat(), "study_sha256": reading.study_sha256, "kind": reading.kind,
        "mechanism": mechanism(event), "patients": reading.patients, "subject": reading.subject,
        "sigma": event.sigma, "q": rate(event), "steps": times(event), "clip": reading.clip, "delta": reading.delta,
        "unit": reading.unit, "relation": reading.relation, "who": reading.who,
    }  # fmt: skip
    seq = connection.execute(
        tables.noised.insert().values(**row, state=RESERVED).returning(tables.noised.c.seq)
    ).scalar_one()
    _note(connection, tables, row, actor=reading.who)
    return int(seq)


def mark_committed(connection: Connection, tables: LedgerTables, seq: int) -> None:
    """Says that a reserved reading has ended as planned. It changes no figure: reserved is spent already."""
    table = tables.noised
    changed = connection.execute(table.update().where(table.c.seq == seq).values(state=COMMITTED))
    if changed.rowcount != 1:
        raise ValueError(f"there is no reservation {seq}")


def facts(connection: Connection, tables: LedgerTables) -> list[Fact]:
    """All facts, oldest first."""
    found = [
        Fact(row.at, row.study_sha256, row.kind, row.mechanism, row.patients, row.subject)
        for row in connection.execute(select(tables.unbounded).order_by(tables.unbounded.c.seq))
    ]
    for row in connection.execute(select(tables.noised).order_by(tables.noised.c.seq)):
        event: Noised = (
            GaussianRelease(row.sigma, row.steps) if row.mechanism == "gaussian"
            else PoissonSampledGaussian(row.sigma, row.q, row.steps)
        )  # fmt: skip
        reading = Reading(
            event, row.kind, row.study_sha256, row.subject, row.who, row.clip, row.delta, row.patients, row.unit,
            row.relation,
        )  # fmt: skip
        found.append(
            Fact(row.at, row.study_sha256, row.kind, row.mechanism, row.patients, row.subject, reading, row.seq,
                 row.state)
        )  # fmt: skip
    return sorted(found, key=lambda fact: fact.at)


def latest(connection: Connection, tables: LedgerTables, now: datetime) -> datetime:
    """The larger of now and the newest fact or journal entry: a clock that was set back opens no new budget.

    A clock that was set forward and back leaves the ledger in the later year, whose budget is then the one that counts.
    """
    newest = [
        connection.execute(select(func.max(table.c.at))).scalar()
        for table in (tables.unbounded, tables.noised, tables.journal)
    ]
    return max([now, *(datetime.fromisoformat(at) for at in newest if at)])


def check_whole(connection: Connection, tables: LedgerTables) -> int:
    """How many facts there are. Raises trust.ledger where one that the journal counted is gone or was changed.

    Facts of a version before the journal counted them have no entry of their own, but are in the count.
    """
    table = tables.journal
    entries = connection.execute(select(table).where(table.c.action == NOTED).order_by(table.c.seq)).all()
    rows = [
        dict(row._mapping) for half in (tables.unbounded, tables.noised) for row in connection.execute(select(half))
    ]
    there = Counter(_digest(row) for row in rows)
    counted = 0
    for entry in entries:
        count, _, sha256 = entry.detail.partition(":")
        counted = max(counted, int(count))
        there[sha256] -= 1
        if there[sha256] < 0:
            raise _broken(f"journal entry {entry.seq} is about a fact that is not there, or not as it was written")
    if len(rows) < counted:
        raise _broken(f"it has {len(rows)} facts, and the journal counted {counted}")
    return len(rows)


def statement(found: Sequence[Fact], subject: str) -> PrivacyStatement:
    """The privacy statement of one release, from all facts of the site.

    Mode dp where every reading for it was noised or stays inside, at the smallest delta of its readings; else audited.
    """
    own = [fact for fact in found if fact.subject == subject]
    bounded = [fact.noised for fact in own if fact.noised is not None]
    unbounded = {fact.kind for fact in own if fact.noised is None}
    if not bounded or not unbounded <= set(STAYS_INSIDE):
        noised = {reading.kind for reading in bounded} - unbounded
        return PrivacyStatement(
            accesses=tuple(
                Access(kind=kind, mechanism="noised" if kind in noised else "none")
                for kind in ACCESS_WORDS if kind in unbounded | noised
            )
        )  # fmt: skip
    return PrivacyStatement(
        mode="dp",
        accesses=tuple(Access(kind=kind) for kind in ACCESS_WORDS if kind in unbounded),
        not_covered=DP_NOT_COVERED,
        dp=_claim(found, bounded, subject),
    )


def _claim(found: Sequence[Fact], own: Sequence[Reading], subject: str) -> DpClaim:
    from site_node.dp.accountant import epsilon  # brings torch, which `status` must not wait for

    delta = min(reading.delta for reading in own)
    everything = [fact.noised for fact in found if fact.noised is not None]
    alone, together = (epsilon([reading.event for reading in some], delta) for some in (own, everything))
    others = {fact.kind for fact in found if fact.noised is None and fact.subject != subject} - set(STAYS_INSIDE)
    return DpClaim(
        delta=delta,
        epsilon_prv=alone.prv,
        epsilon_rdp=alone.rdp,
        site_epsilon_prv=max(alone.prv, together.prv),
        site_epsilon_rdp=max(alone.rdp, together.rdp),
        noised=tuple(
            NoisedAccess(
                kind=reading.kind, mechanism="gaussian" if isinstance(reading.event, GaussianRelease)
                else "poisson-sampled-gaussian", sigma=reading.event.sigma, q=rate(reading.event),
                steps=times(reading.event), clip=reading.clip,
            )
            for reading in own
        ),
        other_noised=len(everything) - len(own),
        other_unaccounted=tuple(kind for kind in ACCESS_WORDS if kind in others),
    )  # fmt: skip


def _note(connection: Connection, tables: LedgerTables, row: Mapping[str, Any], *, actor: str) -> None:
    count = sum(
        int(connection.execute(select(func.count()).select_from(half)).scalar_one())
        for half in (tables.unbounded, tables.noised)
    )
    detail = f"{count}:{_digest(row)}"
    journal.append(connection, tables.journal, actor=actor, action=NOTED, subject=str(row["subject"]), detail=detail)


def _digest(row: Mapping[str, Any]) -> str:
    """SHA-256 over all that never changes of a fact."""
    return sha256_hex(rfc8785.dumps({name: value for name, value in row.items() if name not in ("seq", "state")}))


def _broken(what: str) -> SynthwardError:
    return SynthwardError(
        "trust.ledger",
        f"the ledger is not what the journal says: {what}",
        why="a ledger that has forgotten a reading would let more be spent than the hospital allows",
        do="keep the database as it is, restore the last backup beside it, and compare; see deploy/docs/airlock.md",
    )
