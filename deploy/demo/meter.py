"""Time by stage and memory by process, sampled while the demo runs."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

_EVERY_S = 1.0


class Meter:
    """seconds: stage -> wall-clock seconds; peak_mb: process -> its peak resident size; total_mb: the peak of all
    together, where pages that processes share count once."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = defaultdict(float)
        self.total_mb = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times a stage."""
        print(f"· {name}", flush=True)
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)
        print(f"  {self.seconds[name]:.1f} s", flush=True)

    def close(self) -> None:
        """Ends the sampling."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        me = psutil.Process(os.getpid())
        while not self._stop.wait(_EVERY_S):
            held = 0.0
            for process in (me, *me.children(recursive=True)):
                try:
                    # Pages that many processes share (the same libraries) are counted once over all, as they are held.
                    size = process.memory_info().rss / 1e6
                    held += process.memory_full_info().pss / 1e6
                    name = _name(process.cmdline()) if process != me else "demo"
                except psutil.Error:
                    continue
                self.peak_mb[name] = max(self.peak_mb[name], round(size, 1))
            self.total_mb = max(self.total_mb, round(held, 1))


def _name(command: list[str]) -> str:
    """A process's name for people: which party, which part."""
    line = " ".join(command)
    party = next((part for part in line.split("/") if part.startswith(("site-", "coordinator"))), "").split(" ")[0]
    if "coordinator.rounds.superlink" in line:
        return "coordinator superlink"
    if "coordinator.service" in line:
        return "coordinator service"
    if " evaluate " in line:
        return "coordinator evaluate"
    parts = {"flower-supernode": "node", "site_node.link.service": "link", "site_node.work.worker": "trainer"}
    for marker, part in (*parts.items(), ("site_node.work.child", "job")):
        if marker in line:
            return f"{_site(line)} {part}"
    return f"{party or 'demo'} commands"


def _site(line: str) -> str:
    for part in line.replace(" ", "/").split("/"):
        if part.startswith("site-") and "." not in part:
            return part
    return "site"
