"""The measuring round: one arm's signed order, with its network's weights if it has any, to the sites; metrics back.

A site queues the work and answers "queued" until it is done, so the same order is sent again until every site has an
answer or the time is over. Weights go out once more with each repetition only to sites that have not confirmed them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, Message
from flwr.serverapp import Grid
from numpy.typing import NDArray

from coordinator.rounds.exchange import exchange
from shared.errors import SynthwardError
from shared.messages import MEASUREMENT_MESSAGE, Answer, read_answer, request

_EXCHANGE_S = 120.0
_PAUSE_S = 0.5


@dataclass(frozen=True)
class Order:
    """A signed MeasurementRequest, the weights it names (none for real_own), and the sites to ask: name -> node id."""

    name: str
    document: bytes
    signature: bytes
    weights: Mapping[str, NDArray[Any]] | None
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
            _ask(grid, dict(open_orders), open_orders, confirmed, record)
            continue
        open_orders.update({(order.name, site): order for site in order.sites})
        _ask(grid, {key: o for key, o in open_orders.items() if key[0] == order.name}, open_orders, confirmed, record)
    deadline = time.monotonic() + timeout_s
    while open_orders and time.monotonic() < deadline:
        _ask(grid, dict(open_orders), open_orders, confirmed, record)
        if open_orders:
            time.sleep(_PAUSE_S)
    for (_, site), order in open_orders.items():
        record(order, site, Answer("failed", "unavailable.timeout"))


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
    messages = []
    for key, order in asked.items():
        node = order.sites[key[1]]
        if node in by_node or node not in present:
            continue
        by_node[node] = key
        content = request(order.document, order.signature)
        if order.weights is not None and key not in confirmed:
            content["weights"] = ArrayRecord({name: Array(value) for name, value in order.weights.items()})
        messages.append(Message(content, node, MEASUREMENT_MESSAGE, ttl=_EXCHANGE_S))
    for node, reply in exchange(grid, messages, timeout_s=_EXCHANGE_S):
        key = by_node[node]
        try:
            answer = Answer("failed", "internal") if reply is None else read_answer(reply)
        except SynthwardError as error:
            answer = Answer("failed", error.code)
        if answer.state == "done" and answer.metrics is None:
            answer = Answer("failed", "document.malformed")
        if answer.state == "queued":
            confirmed.add(key)
        else:
            record(open_orders.pop(key), key[1], answer)
