"""A Flower Grid in memory: hands each message to a site's ClientApp in this process, and keeps the replies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity


class MemoryGrid(Grid):
    """nodes: node id -> the site's app, or None for a node that is connected and never answers."""

    def __init__(self, nodes: Mapping[int, ClientApp | None]) -> None:
        # flwr takes a message's run from its process's identity, as in a real round.
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        self._nodes = dict(nodes)
        self._replies: dict[str, Message] = {}
        self.sent: list[Message] = []
        super().__init__()

    def set_run(self, run: Run) -> None:
        raise AssertionError("a memory grid has one run")

    @property
    def run(self) -> Run:
        raise AssertionError("a memory grid has no run to show")

    def create_message(self, *_: object, **__: object) -> Message:
        raise AssertionError("messages are made with Message()")

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def get_nodes(self) -> Iterable[object]:
        raise AssertionError("rounds ask for ids alone")

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = f"m{len(self.sent)}"
            self.sent.append(message)
            ids.append(message.metadata.message_id)
            app = self._nodes[message.metadata.dst_node_id]
            if app is not None:
                context = Context(1, message.metadata.dst_node_id, {}, RecordDict(), {})
                self._replies[message.metadata.message_id] = app(message=message, context=context)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(i) for i in message_ids if i in self._replies]

    def send_and_receive(self, *_: object, **__: object) -> Iterable[Message]:
        raise AssertionError("rounds push and pull by themselves")
