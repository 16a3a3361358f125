"""A coordinator's SuperLink as a real process, for tests."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.rounds.flower_run import online_nodes
from coordinator.running import initialise
from coordinator.service import superlink
from coordinator.settings import Home, Settings
from shared.errors import SynthwardError
from shared.flower_environment import flower_environment


def free_ports(count: int) -> list[int]:
    """Ports that nobody has now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def running_superlink(folder: Path) -> Iterator[Home]:
    """A coordinator's folder whose SuperLink answers."""
    home = Home(folder)
    enrolment, releases, fleet, flower = free_ports(4)
    initialise(
        home,
        Settings(name="trial", enrolment_port=enrolment, releases_port=releases, fleet_port=fleet, flower_port=flower),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "coordinator.rounds.superlink", str(home.path)],
        env=flower_environment(home.flower), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not _answers(home):
            assert process.poll() is None, "the SuperLink ended"
            assert time.monotonic() < deadline, "the SuperLink did not start"
            time.sleep(0.1)
        yield home
    finally:
        process.terminate()
        process.wait(timeout=20)


def _answers(home: Home) -> bool:
    try:
        online_nodes(superlink(home))
    except SynthwardError:
        return False
    return True
