"""Questions and replies over a Grid that answers late, twice, in another order, in others' names, or not at all."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.rounds import exchange as module
from coordinator.rounds.announce import Delivery, announce
from coordinator.rounds.exchange import Exchange
from coordinator.rounds.measure import Order, measure
from shared.messages import Answer
from shared.metrics import NAMES, Metrics
from tests.memory_grid import MemoryGrid

FIGURES = Metrics(**dict.fromkeys(NAMES, 0.5))
IN_A_NODES_PLACE = [
    ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE,
    ErrorCode.CLIENT_APP_CRASHED,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLL_S", 0.0)
    monkeypatch.setattr(module, "_REST_S", 0.0)
    monkeypatch.setattr("coordinator.rounds.measure._PAUSE_S", 0.0)


class Site:
    """Says "queued" to the first word of an order, and gives its figures to the next."""

    def __init__(self) -> None:
        self.heard: dict[bytes, int] = {}

    def __call__(self, message: Message, context: object) -> Message:
        document = message.content.config_records["request"]["document"]
        assert isinstance(document, bytes)
        self.heard[document] = self.heard.get(document, 0) + 1
        about = document.decode()
        answer = Answer("queued", about=about) if self.heard[document] == 1 else done(about)
        return Message(answer.to_content(), reply_to=message)


class Unreliable(MemoryGrid):
    """A Grid that hands replies on late, out of order, twice, or loses a message and says so as the SuperLink does."""

    def __init__(self, nodes: Iterable[int], chance: random.Random) -> None:
        super().__init__({node: Site() for node in nodes})  # type: ignore[dict-item]
        self._chance = chance
        self._held: list[Message] = []

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        asked = list(message_ids)
        for reply in super().pull_messages(asked):
            if self._chance.random() < 0.2:
                reply = from_superlink(reply, self._chance.choice(IN_A_NODES_PLACE))
            self._held += [reply] * self._chance.choice([1, 1, 2])
        self._chance.shuffle(self._held)
        count = self._chance.randint(0, len(self._held))
        given_now, self._held = self._held[:count], self._held[count:]
        return given_now


def from_superlink(reply: Message, code: int) -> Message:
    """What the SuperLink answers in the place of a node: from itself, and about the same message."""
    error = Message(Error(code, "no reply"), reply_to=reply)
    error.metadata.__dict__["_src_node_id"] = 1
    error.metadata.__dict__["_reply_to_message_id"] = reply.metadata.reply_to_message_id
    return error


def done(about: str) -> Answer:
    return Answer("done", "", FIGURES, 9, about)


def order(name: str, sites: dict[str, int]) -> Order:
    return Order(name, "measurement", name.encode(), b"s" * 64, lambda: {"a": np.ones(3, np.float32)}, sites)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 4))
def test_every_order_gets_one_final_answer_a_site_and_it_is_its_own(seed: int, nodes: int, orders: int) -> None:
    sites = {f"site-{number}": 10 + number for number in range(nodes)}
    asked = [order(f"m-{number}", sites) for number in range(orders)]
    found: list[tuple[str, str, Answer]] = []
    grid = Unreliable(sites.values(), random.Random(seed))
    measure(grid, asked, lambda o, site, answer: found.append((o.name, site, answer)), timeout_s=60.0, turn_s=0.0)
    assert sorted(found, key=str) == sorted(((o.name, site, done(o.name)) for o in asked for site in sites), key=str)


@pytest.mark.parametrize("code", IN_A_NODES_PLACE)
def test_what_the_superlink_says_for_a_node_ends_nothing(code: int) -> None:
    class Once(MemoryGrid):
        failures = 1

        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            for reply in super().pull_messages(message_ids):
                self.failures -= 1
                yield from_superlink(reply, code) if self.failures == 0 else reply

    found: list[Answer] = []
    measure(Once({7: Site()}), [order("m-1", {"north": 7})], lambda *a: found.append(a[2]), timeout_s=60.0)  # type: ignore[dict-item]
    assert found == [done("m-1")]


def test_a_node_that_could_not_answer_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    def crashes(message: Message, context: object) -> Message:
        return Message(Error(ErrorCode.CLIENT_APP_CRASHED, "storage.full"), reply_to=message)

    monkeypatch.setattr(module, "_REST_S", 3600.0)
    grid, found = MemoryGrid({7: crashes, 8: Site()}), []  # type: ignore[dict-item, var-annotated]
    asked = [order(f"m-{number}", {"full": 7, "north": 8}) for number in range(3)]
    measure(grid, asked, lambda o, site, a: found.append((o.name, site, a.state)), timeout_s=0.2)
    assert [name for name, site, state in found if (site, state) == ("north", "done")] == ["m-0", "m-1", "m-2"]
    assert [name for name, site, state in found if (site, state) == ("full", "failed")] == ["m-0", "m-1", "m-2"]
    assert sum(message.metadata.dst_node_id == 7 for message in grid.sent) == 1


def test_a_client_that_failed_is_told_as_that() -> None:
    def fails(message: Message, context: object) -> Message:
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "polyp_017.png"), reply_to=message)

    found: list[Answer] = []
    measure(MemoryGrid({7: fails}), [order("m-1", {"north": 7})], lambda *a: found.append(a[2]), timeout_s=60.0)  # type: ignore[dict-item]
    assert found == [Answer("failed", "internal", about="m-1")]


def test_a_reply_in_another_nodes_name_is_none() -> None:
    grid = MemoryGrid({7: Site()})  # type: ignore[dict-item]
    exchange: Exchange[str] = Exchange(grid)
    message = Message(RecordDict({"request": ConfigRecord({"document": b"m-1"})}), 7, "query.study")
    grid.push_messages = forged(grid)  # type: ignore[method-assign]
    assert list(exchange.ask([("m-1", message)], patience_s=0.0)) == []
    assert exchange.free_nodes() == {7}, "it may be asked again"


def forged(grid: MemoryGrid) -> object:
    pushes = grid.push_messages

    def push(messages: Iterable[Message]) -> Iterable[str]:
        names = pushes(messages)
        for reply in grid._replies.values():
            reply.metadata.__dict__["_src_node_id"] = 8
        return names

    return push


def test_a_site_that_stays_silent_is_not_waited_for_twice() -> None:
    """The silent one has its question until Flower forgets it; the other gets all of its orders meanwhile."""
    grid, answered = MemoryGrid({7: Site(), 8: None}), []  # type: ignore[dict-item]
    sites = {"north": 7, "silent": 8}
    orders = [order(f"m-{number}", sites) for number in range(3)]
    measure(grid, orders, lambda o, site, a: answered.append((o.name, site, a.state)), timeout_s=0.2, turn_s=0.05)
    assert answered == [
        *(("m-0", "north", "done"), ("m-1", "north", "done"), ("m-2", "north", "done")),
        *(("m-0", "silent", "failed"), ("m-1", "silent", "failed"), ("m-2", "silent", "failed")),
    ]
    assert sum(message.metadata.dst_node_id == 8 for message in grid.sent) == 1


def test_an_order_lives_as_long_as_its_arrays_travel_over_a_slow_line() -> None:
    grid = MemoryGrid({7: None})
    network = {"weights": np.zeros(15_000_000, np.float32)}  # 60 MB: eight minutes at 1 Mbit/s
    large = Order("m-1", "measurement", b"m-1", b"s" * 64, lambda: network, {"north": 7})
    measure(grid, [large], lambda *_: None, timeout_s=0.0, turn_s=0.0)
    assert grid.sent[0].metadata.ttl > 480


def test_sites_share_one_record_of_an_orders_arrays() -> None:
    grid = MemoryGrid({7: None, 8: None})
    measure(grid, [order("m-1", {"north": 7, "harbour": 8})], lambda *_: None, timeout_s=0.0, turn_s=0.0)
    first, second = (message.content["arrays"] for message in grid.sent)
    assert first is second


def test_a_message_that_the_superlink_did_not_take_is_no_question(tmp_path: Path) -> None:
    class Refuses(MemoryGrid):
        def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
            return [None for _ in super().push_messages(messages)]  # type: ignore[misc]

    answered: list[Delivery] = []
    delivery = Delivery("north", 7, "0" * 64, b"study", b"s" * 64)
    announce(Refuses({7: Site()}), [delivery], lambda d, _: answered.append(d), timeout_s=60.0)  # type: ignore[dict-item]
    assert answered == []
