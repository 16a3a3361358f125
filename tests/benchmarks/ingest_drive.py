"""Starting the processes that play the sites, all of them at the same moment, and timing them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.benchmarks.ingest_service import SiteFiles

PROCESSES = 2  # many sites in each: the machine also runs what is measured


def send_all(kind: str, address: str, sites: Sequence[SiteFiles]) -> float:
    """Seconds from the moment at which all sites start until the last one is through. Their channels stand before."""
    shares = [sites[number::PROCESSES] for number in range(min(PROCESSES, len(sites)))]
    clients = [_start(kind, address, share) for share in shares]
    try:
        for client in clients:
            _expect_ready(client)
        start = time.monotonic()
        for client in clients:
            _tell(client, "go\n")
        ends = [json.loads(client.stdout.readline()) for client in clients if client.stdout]
        return float(max(ends)) - start  # one clock for all processes of a machine
    finally:
        for client in clients:
            _end(client)


@dataclass
class Beats:
    """Seconds of each call of a heartbeat; filled when it ends."""

    seconds: list[float] = field(default_factory=list)

    def percentile_ms(self, share: float) -> float:
        """The smallest time that so large a share of the calls kept to, in milliseconds."""
        ordered = sorted(self.seconds)
        return 1000.0 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextmanager
def heartbeat(address: str, site: SiteFiles) -> Iterator[Beats]:
    """A site that calls the service all the time, from a process of its own."""
    beats, client = Beats(), _start("heartbeat", address, [site])
    try:
        _expect_ready(client)
        _tell(client, "go\n")
        yield beats
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.close()
        beats.seconds = json.loads(client.stdout.readline())
    finally:
        _end(client)


def _start(kind: str, address: str, sites: Sequence[SiteFiles]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.benchmarks.ingest_sites", kind, address, str(sites[0].objects)]
    return subprocess.Popen(
        [*command, *(str(site.folder) for site in sites)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _expect_ready(client: subprocess.Popen[str]) -> None:
    assert client.stdout is not None
    assert client.stdout.readline() == "ready\n", "a client did not start"


def _tell(client: subprocess.Popen[str], line: str) -> None:
    assert client.stdin is not None
    client.stdin.write(line)
    client.stdin.flush()


def _end(client: subprocess.Popen[str]) -> None:
    for stream in (client.stdin, client.stdout):
        if stream is not None and not stream.closed:
            stream.close()
    client.terminate()
    client.wait(timeout=60)
