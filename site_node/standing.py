"""How this site stands with its coordinator, as the last answer about the site itself said: kept in the link's journal.

Being out of reach changes nothing here; being revoked, replaced or past the certificate's end does.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from shared.errors import public_text
from site_node import queue_schema as tables
from site_node.certificate import NEW_INVITATION, REJOIN
from site_node.jobs import Queue

_ACTION = "standing"
_GOOD = "good"
# Codes that are about the caller and not about what it sent, and what the site's administrator does about each.
WHAT_TO_DO = {
    "trust.revoked": f"ask the coordinator's operator why. Only a new invitation lets the site back in: {REJOIN}",
    "trust.certificate": f"this folder's certificate was replaced by a later enrolment; else {NEW_INVITATION}",
    "trust.certificate-expired": NEW_INVITATION,
    "trust.role": NEW_INVITATION,
    "site.unknown": NEW_INVITATION,
}


@dataclass(frozen=True)
class Standing:
    """code: empty while all is well; since: when that was first seen, ISO 8601, empty before any answer."""

    code: str
    since: str

    def plain(self) -> dict[str, str]:
        """For JSON and people."""
        meaning = public_text(self.code) if self.code else ""
        return {"code": self.code, "since": self.since, "meaning": meaning, "do": WHAT_TO_DO.get(self.code, "")}


def note_standing(queue: Queue, code: str) -> None:
    """Records what an answer says of this site, where that is news. code: of an error, or empty for a good answer."""
    about_the_site = code == "" or code in WHAT_TO_DO
    if about_the_site and code != read_standing(queue).code:
        queue.record("link", _ACTION, code or _GOOD)


def read_standing(queue: Queue) -> Standing:
    """How the site stands now."""
    table = tables.journal
    query = select(table).where(table.c.action == _ACTION).order_by(table.c.seq.desc()).limit(1)
    with queue.reading.begin() as connection:
        row = connection.execute(query).first()
    if row is None:
        return Standing("", "")
    return Standing("" if row.subject == _GOOD else row.subject, row.at)
