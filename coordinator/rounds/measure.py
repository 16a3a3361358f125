"""The measuring round: signed orders to the sites, with the weights or pairs that they bring; figures back.

A site queues the work and answers "queued" until it is done, so the same order is sent again until every site has an
answer or the time is over. Arrays go out once more with each repetition only to sites that have not confirmed them,
and are read when they are sent: one order's arrays are in memory at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from coordinator.rounds.exchange import exchange
from shared.errors import SynthwardError
from shared.messages import Answer, OrderKind, message_type, read_answer, request

_EXCHANGE_S = 120.0
_PAUSE_S = 0.5


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
    grid: Grid,
    orders: Iterable[Order | None],
    record: Callable[[Order, str, Answer], None],
    *,
    timeout_s: float,
) -> None:
    """Sends every order to its sites and records each final answer; a site that stays away gets unavailable.timeout.

    `orders` may train the next network while the sites work on the last one: each order is sent as soon as it is there,
    and for a None, which says that the next one is not, answers are collected.
    """
    open_orders: dict[tuple[str, str], Order] = {}
    confirmed: set[tuple[str, str]] = set()
    for order in orders:
        if order is None:
            _ask_all(grid, open_orders, confirmed, record)
            continue
        open_orders.update({(order.name, site): order for site in order.sites})
        _ask(grid, {key: o for key, o in open_orders.items() if key[0] == order.name}, open_orders, confirmed, record)
    deadline = time.monotonic() + timeout_s
    while open_orders and time.monotonic() < deadline:
        _ask_all(grid, open_orders, confirmed, record)
        if open_orders:
            time.sleep(_PAUSE_S)
    for (_, site), order in open_orders.items():
        record(order, site, Answer("failed", "unavailable.timeout", about=order.name))


def _ask_all(
    grid: Grid,
    open_orders: dict[tuple[str, str], Order],
    confirmed: set[tuple[str, str]],
    record: Callable[[Order, str, Answer], None],
) -> None:
    """Asks for what is open: first about orders that sites have, all at once, then what is missing, one at a time."""
    _ask(grid, {key: o for key, o in open_orders.items() if key in confirmed}, open_orders, confirmed, record)
    for name in dict.fromkeys(name for name, _ in open_orders):
        missing = {key: o for key, o in open_orders.items() if key[0] == name and key not in confirmed}
        _ask(grid, missing, open_orders, confirmed, record)


def _ask(
    grid: Grid,
    asked: Mapping[tuple[str, str], Order],
    open_orders: dict[tuple[str, str], Order],
    confirmed: set[tuple[str, str]],
    record: Callable[[Order, str, Answer], None],
) -> None:
    """Asks each site about one of its open orders; final answers close them."""
    present = set(grid.get_node_ids())
    by_node: dict[int, tuple[str, str]] = {}
    loaded: dict[str, Mapping[str, NDArray[Any]]] = {}
    messages = []
    for key, order in asked.items():
        node = order.sites[key[1]]
        if node in by_node or node not in present:
            continue
        by_node[node] = key
        arrays = None
        if order.arrays is not None and key not in confirmed:
            if order.name not in loaded:
                loaded[order.name] = order.arrays()
            arrays = loaded[order.name]
        content = request(order.document, order.signature, arrays)
        messages.append(Message(content, node, message_type(order.kind), ttl=_EXCHANGE_S))
    loaded.clear()
    for node, reply in exchange(grid, messages, timeout_s=_EXCHANGE_S):
        key = by_node[node]
        answer = _answer(reply, key[0])
        if answer.state == "queued":
            confirmed.add(key)
        elif key in open_orders:  # a second reply to one question is not news
            record(open_orders.pop(key), key[1], answer)


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
