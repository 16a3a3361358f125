"""The demo's parties: each in its own processes, folder, keys and settings, driven only by the two command lines."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.demo.relay import Relay
from shared.errors import CODES, SynthwardError
from shared.supervise import Child

_BIN = Path(sys.executable).parent
_running: set[subprocess.Popen[str]] = set()
_lock = threading.Lock()
_stopping = threading.Event()


@dataclass(frozen=True)
class Party:
    """A coordinator or a site: its command line on its folder."""

    program: str
    home: Path

    def call(self, *arguments: str) -> dict[str, Any]:
        """Runs one command with --json; its object, and what it remarked. Raises the error that it ended with."""
        command = [str(_BIN / self.program), *arguments, "--home", str(self.home), "--json"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        with _lock:
            _running.add(process)
            if _stopping.is_set():
                process.terminate()
        try:
            stdout, stderr = process.communicate()
        finally:
            with _lock:
                _running.discard(process)
        if process.returncode != 0:
            raise _error(self.program, arguments, stderr)
        answer: dict[str, Any] = json.loads(stdout)
        return {**answer, "remarks": stderr.strip()}

    def background(self) -> Child:
        """`run`, as a process that is stopped with the demo."""
        command = [str(_BIN / self.program), "run", "--home", str(self.home)]
        return Child(self.home.name, command, self.home / "logs" / "run.log")


@dataclass(frozen=True)
class SiteParty(Party):
    """A site behind its three relays, the only ways out that it is told of."""

    name: str
    data: Path
    enrolment: Relay
    releases: Relay
    fleet: Relay
    node_port: int


def stop_commands() -> None:
    """Ends commands that threads wait for, or still start, when the demo is cut short."""
    with _lock:
        _stopping.set()
        for process in _running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()


def end_children() -> None:
    """Ends what is left below this process: an interruption may fall between a command's start and its being known."""
    left = psutil.Process().children(recursive=True)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in psutil.wait_procs(left, timeout=10.0)[1]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _error(program: str, arguments: tuple[str, ...], stderr: str) -> SynthwardError:
    last = stderr.strip().splitlines()[-1] if stderr.strip() else ""
    try:
        told = json.loads(last)["error"]
        code = told["code"] if told["code"] in CODES else "internal"
        return SynthwardError(code, f"{program} {arguments[0]}: {told['what']}", why=told["why"], do=told["do"])
    except (ValueError, KeyError, TypeError):
        return SynthwardError("internal", f"{program} {' '.join(arguments)} failed:\n{stderr.strip()[-4000:]}")
