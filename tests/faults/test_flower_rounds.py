"""Messages that Flower forgets or loses, with the real SuperLink, node and executor: they are asked again."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.task_identity import TaskIdentity
from structlog.testing import capture_logs

from coordinator.rounds.exchange import Exchange
from coordinator.rounds.flower_run import flower_run, online_nodes
from coordinator.service import superlink
from coordinator.settings import Home
from shared.errors import SynthwardError
from shared.flower_environment import flower_environment
from site_node.jobs import Queue
from site_node.link import executor as module
from site_node.link.executor import Executor
from site_node.link.node import node_command
from site_node.settings import Home as SiteHome
from tests.helpers import until
from tests.superlink import connected_site, running_superlink

KIND = "query.study"
PATIENCE_S = 60.0


def client(message: Message, context: Context) -> Message:
    """Answers at once."""
    return Message(RecordDict({"answer": ConfigRecord({"state": "queued"})}), reply_to=message)


@dataclass(frozen=True)
class Federation:
    """A coordinator's SuperLink and a site with a node."""

    coordinator: Home
    node_id: int
    working: threading.Thread

    @contextmanager
    def round(self) -> Iterator[Exchange[str]]:
        with flower_run(superlink(self.coordinator)) as (grid, _):
            yield Exchange(grid)

    def ask(self, exchange: Exchange[str], ttl_s: float) -> list[tuple[str, bool]]:
        """(key, whether the client answered) of one question, once it is answered or given up."""
        # flwr keeps a process's identity in a class; here the site's executor is a thread of the round's process.
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        content = RecordDict({"request": ConfigRecord({"document": b"study"})})
        questions = [("study", Message(content, self.node_id, KIND, ttl=ttl_s))]
        return [(key, reply is not None) for key, reply in exchange.ask(questions, patience_s=PATIENCE_S)]


@pytest.fixture(scope="module")
def connected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, SiteHome, int]]:
    """(the coordinator, a site whose node is connected, the node's id)."""
    folder = tmp_path_factory.mktemp("federation")
    with running_superlink(folder / "coordinator") as coordinator:
        site, node_id = connected_site(folder / "site", coordinator)
        log, environment = (site.logs / "node.log").open("wb"), flower_environment(site.flower)
        with log, subprocess.Popen(node_command(site), env=environment, stdout=log, stderr=log) as node:
            try:
                until(lambda: node_id in online_nodes(superlink(coordinator)))
                yield coordinator, site, node_id
            finally:
                node.terminate()


@pytest.fixture
def federation(connected: tuple[Home, SiteHome, int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Federation]:
    """With an executor of the test's own."""
    coordinator, site, node_id = connected
    monkeypatch.setattr("coordinator.rounds.exchange._REST_S", 0.0)
    secret, stop = (site.link_keys / "executor.secret").read_bytes(), threading.Event()
    executor = Executor(client, Queue(site.exchange), port=site.settings().node_port, secret=secret)  # type: ignore[arg-type]
    working = threading.Thread(target=executor.run, args=(stop,), daemon=True)
    working.start()
    yield Federation(coordinator, node_id, working)
    stop.set()
    working.join(timeout=PATIENCE_S)


def test_a_reply_that_the_node_does_not_take_at_first_is_pushed_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, 2)
    with federation.round() as exchange:
        assert federation.ask(exchange, PATIENCE_S) == [("study", True)]
    assert federation.working.is_alive()


def refuse(monkeypatch: pytest.MonkeyPatch, refusals: int) -> None:
    """The node refuses so many replies."""
    pushes, left = module.push_message, [ObjectPushError("0" * 64, 1, "polyp_017.png")] * refusals

    def push(*arguments: Any) -> None:
        if left:
            raise left.pop()
        pushes(*arguments)

    monkeypatch.setattr(module, "push_message", push)


def test_a_site_that_could_not_write_its_answer_down_says_so_and_is_asked_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts, failures = Queue.count_egress, [SynthwardError("storage.full", "no room in polyp_017.png")]

    def count(queue: Queue, kind: str, size: int) -> None:
        if failures:
            raise failures.pop()
        counts(queue, kind, size)

    monkeypatch.setattr(Queue, "count_egress", count)
    with federation.round() as exchange:
        assert federation.ask(exchange, PATIENCE_S) == []
        assert exchange.free_nodes() == {federation.node_id}
        assert federation.ask(exchange, PATIENCE_S) == [("study", True)]
    assert federation.working.is_alive()


def test_a_question_that_flower_forgets_is_dropped_and_asked_again(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with federation.round() as exchange:
        # A node asks for messages every few seconds: this one is forgotten before, or while the node has it.
        assert federation.ask(exchange, 0.2) == []
        assert exchange.free_nodes() == {federation.node_id}
        assert federation.ask(exchange, PATIENCE_S) == [("study", True)]
    assert federation.working.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_reply_that_the_node_never_takes_ends_the_link_so_that_both_start_afresh(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, 3)
    with capture_logs() as logs:
        with federation.round() as exchange:
            assert federation.ask(exchange, 4.0) == []
        until(lambda: not federation.working.is_alive())  # the link's process ends with its executor
    assert [line for line in logs if line["event"] == "reply-not-taken"] == [
        {"event": "reply-not-taken", "log_level": "error", "error": "ObjectPushError"}
    ]
