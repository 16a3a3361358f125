"""Whether the site's journals, and the coordinator's, still hold what the other side noted of them.

The private half of checkpoints: it reads the private journal, and lets out nothing but its length and last digest.
"""

from __future__ import annotations

from shared import checkpoint
from site_node import queue_schema as tables
from site_node.cases import PrivateStore
from site_node.cases import journal as private_journal
from site_node.checkpoints import COMPARED, HELD, PUBLISHED, Whose, first_found, note, read_head, write_head
from site_node.jobs import Queue

# Whose journal it is, and who noted where it ended.
_WORDS: dict[Whose, tuple[str, str]] = {
    "link": ("the link's journal", "the coordinator"),
    "trainer": ("the private journal", "the coordinator"),
    "coordinator": ("the coordinator's journal", "this site"),
}


def publish(queue: Queue, store: PrivateStore) -> None:
    """Compares the private journal with what the coordinator holds of it, then publishes its head to the link."""
    with queue.reading.begin() as connection:
        held = read_head(connection, HELD["trainer"])
        known = (read_head(connection, PUBLISHED), read_head(connection, COMPARED))
    with store.reading.begin() as connection:
        now = checkpoint.head(connection, private_journal)
        whole = checkpoint.holds(connection, private_journal, held)
    if whole and known == (now, held):
        return  # asked twice a second: nothing is written where nothing is new
    with queue.engine.begin() as connection:
        if not whole:
            note(connection, "trainer", held)
        write_head(connection, PUBLISHED, now)
        write_head(connection, COMPARED, held)


def check_rollbacks(queue: Queue, store: PrivateStore) -> None:
    """Raises trust.rollback for the first journal, here or there, that does not hold what was noted of it."""
    with queue.reading.begin() as connection:
        found = first_found(connection, ("link", "trainer", "coordinator"))
        if found is not None:
            whose, noted_by = _WORDS[found[0]]
            raise checkpoint.rollback(found[1], whose=whose, noted_by=noted_by)
        # What was not compared since the coordinator last answered.
        link, trainer = (read_head(connection, HELD[name]) for name in ("link", "trainer"))
        whose, noted_by = _WORDS["link"]
        checkpoint.check_holds(connection, tables.journal, link, whose=whose, noted_by=noted_by)
    with store.reading.begin() as connection:
        whose, noted_by = _WORDS["trainer"]
        checkpoint.check_holds(connection, private_journal, trainer, whose=whose, noted_by=noted_by)
