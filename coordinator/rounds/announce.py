"""The announcing round: open studies go to the sites that have not answered finally, and their answers are recorded.

`announce` is the Flower server app's work: it knows a Grid and documents, no store and no network of its own, so a test
can hand it a Grid in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from coordinator.rounds.exchange import Exchange
from shared.errors import SynthwardError
from shared.messages import STUDY_MESSAGE, Answer, read_answer, request

# The code of a node that gave no answer of ours: not the site's word, and so not recorded as one.
NO_ANSWER = "unavailable.service"


@dataclass(frozen=True)
class Delivery:
    """A signed study for one site."""

    site: str
    node_id: int
    study_sha256: str
    document: bytes
    signature: bytes


def announce(
    grid: Grid, deliveries: Sequence[Delivery], record: Callable[[Delivery, Answer], None], *, timeout_s: float
) -> None:
    """Sends studies to the nodes that are there, and records each answer as it comes."""
    exchange: Exchange[Delivery] = Exchange(grid)
    present = exchange.free_nodes()
    # One study a site and round: a node answers one message at a time.
    waiting = {delivery.node_id: delivery for delivery in deliveries if delivery.node_id in present}
    questions = [
        (d, Message(request(d.document, d.signature), d.node_id, STUDY_MESSAGE, ttl=timeout_s))
        for d in waiting.values()
    ]
    for delivery, content in exchange.ask(questions, patience_s=timeout_s):
        record(delivery, _read(content))


def _read(content: RecordDict | None) -> Answer:
    if content is None:
        return Answer("failed", NO_ANSWER)
    try:
        return read_answer(content)
    except SynthwardError as error:
        return Answer("failed", error.code)
