"""The record of what import did about text: a row a case in private/site.db. It never holds what was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Float, Integer, MetaData, String, Table, func, select

from site_node.intake.text_choice import ACTIONS, TextAction


@dataclass(frozen=True)
class TextRecord:
    """Of one case. lines: found before anything was done; share_painted: of the image's pixels, in [0, 1]."""

    lines: int
    action: TextAction
    share_painted: float


def text_table(metadata: MetaData) -> Table:
    """The record's table, declared into the site's private database."""
    return Table(
        "case_texts",
        metadata,
        Column("case_id", String, primary_key=True),
        Column("lines", Integer, nullable=False),
        Column("action", String, nullable=False),
        Column("share_painted", Float, nullable=False),
    )


def replace_texts(connection: Connection, table: Table, case_ids: Sequence[str], found: Sequence[TextRecord]) -> None:
    """Puts the cases' records in place of all that stood there, within the caller's transaction.

    found: in the order of case_ids, or empty where nobody looked.
    """
    connection.execute(table.delete())
    if found:
        rows = [{"case_id": case_id, **vars(line)} for case_id, line in zip(case_ids, found, strict=True)]
        connection.execute(table.insert(), rows)


def text_counts(connection: Connection, table: Table) -> dict[str, int]:
    """action -> number of cases, for every action; and "with_text": cases in which text was found."""
    counted = select(table.c.action, func.count()).group_by(table.c.action)
    with_text = connection.execute(select(func.count()).where(table.c.lines > 0)).scalar_one()
    found = {action: int(count) for action, count in connection.execute(counted)}
    return {"with_text": int(with_text), **{action: found.get(action, 0) for action in ACTIONS}}


def summary(found: Sequence[TextRecord], because: str) -> str:
    """For the journal: counts alone, and the administrator's reason for keeping text where one was given."""
    with_text = sum(line.lines > 0 for line in found)
    done = ", ".join(f"{a} {sum(line.action == a for line in found)}" for a in ACTIONS if a != "none")
    return f"text in {with_text} of {len(found)} images: {done}" + (f"; because: {because}" if because else "")
