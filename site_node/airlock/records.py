"""What is on record about a release: who opened it, whose votes stand, what was asked, which patients it rests on.

Openings and questions are read from the journal, which is chained: there is no second copy to be changed quietly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, Row, select

from shared.release import Action, State
from site_node.airlock.policies import Standing
from site_node.cases import asked_for, journal, releases, touched, votes
from site_node.cohort import Side, Split

VOTE = "vote"


@dataclass(frozen=True)
class Event:
    """One line of a release's history. at: UTC, ISO 8601; detail: a digest, a reason, a question or a code."""

    at: str
    actor: str
    action: str
    detail: str


@dataclass(frozen=True)
class Touch:
    """A release that rests on a patient, and on which side of the split the patient was when it was made."""

    release_id: str
    state: State
    side: Side


def events(connection: Connection, release_id: str, actions: Iterable[str] = ()) -> list[Event]:
    """A release's journal entries, oldest first; only of these actions where some are named.

    Without the entries' numbers: gaps in them would tell of votes that a reader is not to know of.
    """
    query = select(journal).where(journal.c.subject == release_id)
    if wanted := list(actions):
        query = query.where(journal.c.action.in_(wanted))
    rows = connection.execute(query.order_by(journal.c.seq))
    return [Event(row.at, row.actor, row.action, row.detail) for row in rows]


def standing(connection: Connection, row: Row[tuple[object, ...]]) -> Standing:
    """Everything that decides about a release's next step. row: of the table releases."""
    opened: set[str] = set()
    for event in events(connection, row.release_id, (Action.REVIEW.value, Action.ASK.value)):
        if event.action == Action.ASK.value:
            opened.clear()  # the question calls for a new look
        elif event.detail == row.bundle_sha256:
            opened.add(event.actor)
    given = (votes.c.release_id == row.release_id) & (votes.c.bundle_sha256 == row.bundle_sha256)
    asked = connection.execute(select(asked_for.c.person).where(asked_for.c.release_id == row.release_id)).scalar()
    return Standing(
        state=State(row.state),
        bundle_sha256=row.bundle_sha256,
        made_by=row.made_by,
        asked_by=asked or "",
        opened=frozenset(opened),
        votes=frozenset(connection.execute(select(votes.c.person).where(given)).scalars()),
    )


def note_patients(connection: Connection, release_id: str, split: Split) -> None:
    """Writes down which patients a release rests on. The keys stand in the private database and nowhere else."""
    sides: tuple[tuple[Side, frozenset[str]], ...] = (("training", split.training), ("holdout", split.holdout))
    lines = [{"release_id": release_id, "patient": patient, "side": side} for side, group in sides for patient in group]
    connection.execute(touched.insert(), lines)


def touches(connection: Connection, patient: str) -> list[Touch]:
    """The releases that rest on a patient, oldest first."""
    query = (
        select(releases.c.release_id, releases.c.state, touched.c.side)
        .join(touched, touched.c.release_id == releases.c.release_id)
        .where(touched.c.patient == patient)
        .order_by(releases.c.at)
    )
    return [Touch(row.release_id, State(row.state), row.side) for row in connection.execute(query)]


def without_patients(connection: Connection) -> list[str]:
    """Releases of which nobody wrote down whom they rest on: any patient may be behind them."""
    known = select(touched.c.release_id).distinct()
    query = select(releases.c.release_id).where(releases.c.release_id.not_in(known)).order_by(releases.c.at)
    return list(connection.execute(query).scalars())
