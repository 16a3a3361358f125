"""The link's loop towards the release service: revocations first, then bundles, then a checkpoint where one is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import grpc

from site_node.jobs import Queue
from site_node.link.checkpoint_call import CheckpointCall
from site_node.link.outbox import Outbox
from site_node.link.take_back import TakeBack
from site_node.settings import Home

_POLL_S = 0.5
_LONGEST_PAUSE_S = 60.0
_CHECKPOINT_EVERY_S = 3600.0


class Sender:
    """Sends what waits in the queue. channel: to the release service, with the site's certificate."""

    def __init__(self, home: Home, queue: Queue, channel: grpc.Channel) -> None:
        self._queue = queue
        self._outbox = Outbox(home, queue, channel)
        self._take_back = TakeBack(home, queue, channel)
        self._checkpoints = CheckpointCall(home, queue, channel)
        self._exchanged_s = time.monotonic()
        self._checkpoint_due = True  # at each start: an older database may have been put in place meanwhile

    def run(self, stop: threading.Event, reopen: Callable[[], bool] = lambda: False) -> None:
        """Until stop is set, or reopen says that the channel is to be opened afresh, which it is asked at each turn.

        What cannot be sent now is tried again, after a growing pause.
        """
        failures = 0
        while not stop.is_set() and not reopen():
            failures = 0 if self.send_all() else failures + 1
            stop.wait(min(_LONGEST_PAUSE_S, _POLL_S * 2.0**failures))

    def send_all(self) -> bool:
        """Everything that waits, once; False when something must be tried again."""
        confirmed, whole = self._take_back.send_all()
        sent = [self._outbox.send(row.bundle_sha256) for row in self._queue.offered("waiting", "sending")]
        # Also when nothing happens: the site learns that it was revoked, and both sides that nothing was rolled back.
        long_ago = time.monotonic() - self._exchanged_s >= _CHECKPOINT_EVERY_S
        self._checkpoint_due = self._checkpoint_due or long_ago or confirmed > 0 or any(sent)
        if self._checkpoint_due:
            self._exchanged_s = time.monotonic()
            self._checkpoint_due = not self._checkpoints.exchange()
        return whole and all(sent) and not self._checkpoint_due
