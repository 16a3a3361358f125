"""One exchange over a Grid: messages out, replies as they come, up to a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

_POLL_S = 0.3


def exchange(grid: Grid, messages: Sequence[Message], *, timeout_s: float) -> Iterator[tuple[int, RecordDict | None]]:
    """Yields (node id, content) for each reply; content None where the node's client failed. Late ones are left."""
    if not messages:
        return
    waiting = {message_id for message_id in grid.push_messages(messages) if message_id}
    deadline = time.monotonic() + timeout_s
    while waiting and time.monotonic() < deadline:
        replies = list(grid.pull_messages(list(waiting)))
        for reply in replies:
            waiting.discard(reply.metadata.reply_to_message_id)
            content = reply.content if reply.has_content() else None
            yield reply.metadata.src_node_id, content
        if not replies:
            time.sleep(_POLL_S)
