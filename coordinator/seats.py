"""How many calls of one caller may be open at once, so that no caller can take the threads that all others need."""

from __future__ import annotations

import threading
from collections import Counter

from shared.errors import SynthwardError


class Seats:
    """Counts open calls by caller. Safe from many threads."""

    def __init__(self, most: int) -> None:
        """most: open calls of one caller, 1 or more."""
        self._most = most
        self._open: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, caller: str) -> None:
        """Before the work of a call. Raises unavailable.busy; then there is nothing to leave."""
        with self._lock:
            if self._open[caller] >= self._most:
                raise SynthwardError(
                    "unavailable.busy",
                    f"{caller} has {self._most} calls open",
                    why="each holds a thread of the service for as long as it lasts",
                    do="nothing: it is tried again; an honest site has two open at most",
                )
            self._open[caller] += 1

    def leave(self, caller: str) -> None:
        """When the call has ended, however it did."""
        with self._lock:
            self._open[caller] -= 1
            if not self._open[caller]:
                del self._open[caller]
