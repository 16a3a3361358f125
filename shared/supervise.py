"""Child processes: started with a log, watched, restarted when they die, and never left behind.

On Linux a child also gets SIGTERM from the kernel when its parent dies, so that even kill -9 of a supervisor leaves no
process.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

_PR_SET_PDEATHSIG = 1
_STOP_S = 10.0
_log = structlog.get_logger("supervise")


@dataclass
class Child:
    """One process. command is a fixed argv, never a shell line. follows: a child that it is started afresh with."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] | None = None
    follows: str = ""
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        """Starts it; its output is appended to its log."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if self.environment is None else dict(self.environment),
                preexec_fn=die_with_parent if sys.platform == "linux" else None,
                # A Ctrl-C at the terminal reaches the supervisor, which stops its children in order.
                start_new_session=True,
            )

    def running(self) -> bool:
        """Whether it is alive."""
        return self.process is not None and self.process.poll() is None

    def stop(self) -> None:
        """SIGTERM to its whole group, then SIGKILL to whatever is left after ten seconds."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            _log.warning("killed", process=self.name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Supervisor:
    """Keeps children alive until told to stop. A child that dies is started again after a growing pause."""

    def __init__(self, children: Sequence[Child]) -> None:
        self._children = list(children)
        self._stopping = False
        self._deaths: dict[str, int] = {}

    def run(self) -> None:
        """Until SIGTERM or SIGINT; then stops every child, in the opposite order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        try:
            for child in self._children:
                child.start()
            while not self._stopping:
                time.sleep(0.3)
                for child in self._children:
                    if not self._stopping and not child.running():
                        self._restart(child)
        finally:
            for child in reversed(self._children):
                child.stop()

    def _restart(self, child: Child) -> None:
        deaths = self._deaths[child.name] = self._deaths.get(child.name, 0) + 1
        code = child.process.returncode if child.process else None
        _log.error("child-died", process=child.name, exit=code, attempt=deaths)
        deadline = time.monotonic() + min(30.0, 0.5 * 2.0 ** min(deaths, 6))
        while not self._stopping and time.monotonic() < deadline:
            time.sleep(0.1)
        if self._stopping:
            return
        followers = [other for other in self._children if other.follows == child.name]
        for follower in followers:
            follower.stop()
        for each in (child, *followers):
            each.start()

    def _stop(self, *_: object) -> None:
        self._stopping = True


def die_with_parent() -> None:
    """Asks the Linux kernel for SIGTERM when the parent ends. Runs in the child, between fork and exec."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
