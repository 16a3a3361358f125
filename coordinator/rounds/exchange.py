"""Questions to sites over a Grid: one open at a node, and replies in whatever order they come, late ones too.

A reply belongs to the question whose message it names. What the SuperLink says in a node's place (the message has
expired, the node is away, its client has crashed) is no reply: the node has a rest, and may be asked again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from flwr.app import Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

_POLL_S = 0.3
_REST_S = 10.0  # of a node that could not answer: the question may bring much, which it would do again for nothing
Key = TypeVar("Key")


@dataclass(frozen=True)
class _Question(Generic[Key]):
    """What a node was asked. ends: when Flower forgets it, by the monotonic clock."""

    key: Key
    node_id: int
    ends: float


class Exchange(Generic[Key]):
    """The questions of one run. A key is the caller's name for one."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._open: dict[str, _Question[Key]] = {}
        self._resting: dict[int, float] = {}

    def free_nodes(self) -> set[int]:
        """Nodes that are connected and may be asked: the others are still at a question, or could not answer one."""
        now = time.monotonic()
        self._open = {name: question for name, question in self._open.items() if question.ends > now}
        self._resting = {node_id: until for node_id, until in self._resting.items() if until > now}
        busy = {question.node_id for question in self._open.values()}
        return set(self._grid.get_node_ids()) - busy - set(self._resting)

    def ask(
        self, questions: Sequence[tuple[Key, Message]], *, patience_s: float
    ) -> Iterator[tuple[Key, RecordDict | None]]:
        """Sends the questions; yields (key, content) for every reply, until these are answered or patience is over.

        Replies to earlier questions are yielded as they come, and not waited for. content: None where the node's
        client failed.
        """
        asked = self._send(questions)
        deadline = time.monotonic() + patience_s
        while True:
            replies = list(self._grid.pull_messages(list(self._open))) if self._open else []
            for reply in replies:
                question = self._open.pop(reply.metadata.reply_to_message_id, None)
                if question is None:
                    continue
                if _is_from(reply, question.node_id):
                    yield question.key, reply.content if reply.has_content() else None
                else:
                    self._resting[question.node_id] = time.monotonic() + _REST_S
            if asked.isdisjoint(self._open) or time.monotonic() >= deadline:
                return
            if not replies:
                time.sleep(_POLL_S)

    def _send(self, questions: Sequence[tuple[Key, Message]]) -> set[str]:
        if not questions:
            return set()
        now = time.monotonic()
        names = self._grid.push_messages([message for _, message in questions])
        # The SuperLink answers in their order, with nothing for a message that it did not take.
        sent = {
            name: _Question(key, message.metadata.dst_node_id, now + message.metadata.ttl)
            for name, (key, message) in zip(names, questions, strict=False)
            if name
        }
        self._open.update(sent)
        return set(sent)


def _is_from(reply: Message, node_id: int) -> bool:
    """Whether the node itself has answered, be it that its client failed."""
    if reply.has_error() and reply.error.code != ErrorCode.CLIENT_APP_RAISED_EXCEPTION:
        return False
    return bool(reply.metadata.src_node_id == node_id)
