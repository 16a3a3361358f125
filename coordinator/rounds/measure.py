"""The measuring round: signed orders to the sites, with the weights or pairs that they bring; figures back.

A site queues the work and answers "queued" until it is done, so the same order is sent again until every site has an
answer or the time is over. Arrays go out once more with each repetition only to sites that have not confirmed them,
and are read when they are sent: one order's arrays are in memory at a time. A site whose line is slow, or whose node
stays silent, is not waited for: the others go on, and its reply is taken when it comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import ArrayRecord, Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from coordinator.rounds.exchange import Exchange
from shared.errors import SynthwardError
from shared.messages import Answer, OrderKind, array_record, message_type, read_answer, request

_EXCHANGE_S = 120.0  # until Flower forgets an order without arrays
_SLOWEST_LINE_BYTES_S = 125_000.0  # 1 Mbit/s: over a slower one, an order's arrays would never arrive in time
_TURN_S = 30.0  # that the round waits for sites which it has just asked
_PAUSE_S = 0.5
Key = tuple[str, str]  # an order's name, and the site's
Record = Callable[["Order", str, Answer], None]


@dataclass(frozen=True)
class Order:
    """A signed order, how to get the arrays that it names (None: none), and the sites to ask: name -> node id."""

    name: str
    kind: OrderKind
    document: bytes
    signature: bytes
    arrays: Callable[[], Mapping[str, NDArray[Any]]] | None
    sites: Mapping[str, int]


def measure(
    grid: Grid, orders: Iterable[Order | None], record: Record, *, timeout_s: float, turn_s: float = _TURN_S
) -> None:
    """Sends every order to its sites and records each final answer; a site that stays away gets unavailable.timeout.

    `orders` may train the next network while the sites work on the last one: each order is sent as soon as it is there,
    and for a None, which says that the next one is not, answers are collected. timeout_s: from the last order on.
    """
    round_ = _Round(grid, record, turn_s)
    for order in orders:
        if order is None:
            round_.ask_all()
        else:
            round_.add(order)
    deadline = time.monotonic() + timeout_s
    while round_.open and time.monotonic() < deadline:
        round_.ask_all()
        if round_.open:
            time.sleep(_PAUSE_S)
    for (_, site), order in round_.open.items():
        record(order, site, Answer("failed", "unavailable.timeout", about=order.name))


class _Round:
    """open: orders without a final answer, by order and site."""

    def __init__(self, grid: Grid, record: Record, turn_s: float) -> None:
        self.open: dict[Key, Order] = {}
        self._exchange: Exchange[Key] = Exchange(grid)
        self._record = record
        self._turn_s = turn_s
        self._confirmed: set[Key] = set()

    def add(self, order: Order) -> None:
        """Opens an order and asks its sites."""
        self.open.update({(order.name, site): order for site in order.sites})
        self._ask([key for key in self.open if key[0] == order.name])

    def ask_all(self) -> None:
        """Asks for what is open: first about orders that sites have, all at once, then what is missing, one by one."""
        self._ask([key for key in self.open if key in self._confirmed])
        for name in dict.fromkeys(name for name, _ in self.open):
            missing = [key for key in self.open if key[0] == name and key not in self._confirmed]
            if missing:
                self._ask(missing)

    def _ask(self, keys: Iterable[Key]) -> None:
        """Asks each site that is free about one of its open orders; final answers close them."""
        free = self._exchange.free_nodes()
        loaded: dict[str, ArrayRecord] = {}
        questions = []
        for key in keys:
            order = self.open[key]
            node = order.sites[key[1]]
            if node not in free:
                continue
            free.discard(node)
            arrays = None
            if order.arrays is not None and key not in self._confirmed:
                if order.name not in loaded:
                    loaded[order.name] = array_record(order.arrays())  # one for all sites
                arrays = loaded[order.name]
            content, ttl = request(order.document, order.signature, arrays), _EXCHANGE_S + _travel_s(arrays)
            questions.append((key, Message(content, node, message_type(order.kind), ttl=ttl)))
        loaded.clear()
        for key, reply in self._exchange.ask(questions, patience_s=self._turn_s):
            answer = _answer(reply, key[0])
            if answer.state == "queued":
                self._confirmed.add(key)
            elif key in self.open:  # a second reply to one order is not news
                self._record(self.open.pop(key), key[1], answer)


def _travel_s(arrays: ArrayRecord | None) -> float:
    """Seconds that arrays take over the slowest line."""
    return sum(len(array.data) for array in (arrays or {}).values()) / _SLOWEST_LINE_BYTES_S


def _answer(reply: Any, name: str) -> Answer:
    """A reply as an answer to the order of that name; whatever else it is, is a failure with a code."""
    if reply is None:
        return Answer("failed", "internal", about=name)
    try:
        answer = read_answer(reply)
    except SynthwardError as error:
        return Answer("failed", error.code, about=name)
    if answer.state in ("queued", "done") and answer.about != name:
        return Answer("failed", "document.malformed", about=name)  # figures of another order
    if answer.state == "done" and answer.metrics is None and not answer.document:
        return Answer("failed", "document.malformed", about=name)
    return answer
