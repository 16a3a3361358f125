"""`make bench NAME=federation`: what a site costs the coordinator, over a whole study with 3, 10 and 30 sites.

The coordinator runs as it does in use (SuperLink and service), each site has its Flower node; generators and scores are
stubs, since those are the hospitals' cost. One network is trained (two steps), and its weights go to every site.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from coordinator.enrolment import invite
from coordinator.reading import study_status
from coordinator.rounds.flower_run import online_nodes
from coordinator.running import initialise
from coordinator.service import superlink
from coordinator.settings import Home, Settings
from coordinator.store.store import Store
from shared.errors import SynthwardError
from shared.identity import CertificateAuthority
from tests.benchmarks.federation_sites import StubSite, running_sites
from tests.benchmarks.harness import Claim, Row, at_most, row
from tests.benchmarks.ingest_service import peak_mb
from tests.benchmarks.options import integers, read_into
from tests.helpers import HOST, free_port

_IDLE_S = 10.0
_PATIENCE_S = 900.0
_PARTS = {"coordinator.rounds.superlink": "SuperLink", "coordinator.service": "service"}
_GROWTH = 1.5


@dataclass(frozen=True)
class Options:
    """counts: how many sites, one federation after another; runs: of each."""

    counts: tuple[int, ...] = (3, 10, 30)
    runs: int = 1


@dataclass
class Spent:
    """What a federation took. seconds and processor: by stage; memory: by process, in MB, at its peak.

    evaluation_s: processor seconds of the command that trains the network, which is no service's.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    processor: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    evaluation_s: float = 0.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """SITES=3,10,30 RUNS=1."""
    parser.add_argument("--sites", type=integers, default=Options.counts, dest="counts")
    parser.add_argument("--runs", type=int, default=Options.runs)


def options_of(namespace: argparse.Namespace) -> Options:
    """The options as they were given."""
    return read_into(Options, namespace)


def measure(options: Options) -> tuple[list[Row], list[Claim]]:
    """Each number of sites, `runs` times."""
    Path("build").mkdir(exist_ok=True)
    found: dict[int, list[Spent]] = defaultdict(list)
    for _ in range(options.runs):
        for count in options.counts:
            with tempfile.TemporaryDirectory(dir="build") as folder:
                found[count].append(federation(Path(folder).resolve(), count))
            # A larger federation takes minutes, and may not fit: what is known by then is told.
            sys.stdout.write(f"{count} sites: {json.dumps(asdict(found[count][-1]))}\n")
            sys.stdout.flush()
    rows, per_site = [], {}
    for count, spent in found.items():
        for stage in spent[0].seconds:
            rows.append(row(f"{count} sites: {stage}", "s", [each.seconds[stage] for each in spent]))
            used = [each.processor[stage] / count for each in spent]
            rows.append(row(f"{count} sites: {stage}, the coordinator's processor time", "s a site", used))
        rows.append(row(f"{count} sites: the evaluation's own processor time", "s", [s.evaluation_s for s in spent]))
        for part in spent[0].memory:
            rows.append(row(f"{count} sites: memory of the {part}, at its peak", "MB", [s.memory[part] for s in spent]))
        per_site[count] = min(sum(each.processor.values()) / count for each in spent)
    least, most = min(per_site), max(per_site)
    share = per_site[most] / per_site[least]
    what = f"processor time of SuperLink and service for a site of {most}, of that for one of {least}"
    return rows, [at_most(what, _GROWTH, "times", share)]


def federation(folder: Path, count: int) -> Spent:
    """A whole study with so many sites, from enrolment to the last score."""
    home, spent = Home(folder / "coordinator"), Spent()
    names = ("enrolment_port", "releases_port", "fleet_port", "flower_port")
    initialise(home, Settings.model_validate({"name": "load", **{name: free_port() for name in names}}))
    with _running(home) as processes, contextlib.ExitStack() as stack:

        def timed(stage: str, work: Callable[[], object]) -> None:
            before, start = _processor_s(processes), time.monotonic()
            work()
            spent.seconds[stage] = time.monotonic() - start
            spent.processor[stage] = _processor_s(processes) - before

        sites: list[StubSite] = []
        timed("enrolment", lambda: sites.extend(_enrolled(home, folder, count)))
        timed("nodes connect", lambda: (stack.enter_context(running_sites(sites)), _until_connected(home, count)))
        timed(f"{_IDLE_S:.0f} s in which nothing happens", lambda: time.sleep(_IDLE_S))
        (folder / "study.toml").write_text(_study(), encoding="utf-8")
        timed("study out, releases in", lambda: (_call(home, "study", "publish", str(folder / "study.toml")),
                                                 _until(lambda: _accepted(home) == count)))  # fmt: skip
        timed("dataset", lambda: _call(home, "dataset", "build", "load"))
        timed("one network out, scores in", lambda: _scored(home, count, spent))
        spent.memory.update({part: peak_mb(process.pid) for part, process in processes.items()})
    return spent


def _scored(home: Home, count: int, spent: Spent) -> None:
    command = _command(home, "evaluate", "load", "--threads", "1", "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answers = json.loads(process.stdout.read())["answers"]
        # Before anybody else waits for it, who would not be told what it used.
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert sum(answer["metrics"] is not None for answer in answers) == count, "a site's scores are missing"
    spent.evaluation_s = used.ru_utime + used.ru_stime
    spent.memory["evaluation"] = used.ru_maxrss / 1000


def _enrolled(home: Home, folder: Path, count: int) -> list[StubSite]:
    store = Store(home.database_url())
    authority = CertificateAuthority.load(home.keys / "ca.key", home.keys / "ca.crt")
    address, hour = f"{HOST}:{home.settings().enrolment_port}", timedelta(hours=1)
    return [
        StubSite.join(
            folder / f"site-{number}",
            invite(store, authority, site=f"site-{number}", address=address, valid_for=hour, actor="operator"),
            number,
        )
        for number in range(count)
    ]


def _study() -> str:
    closes = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0).isoformat()
    return f"""\
study_id = "load"
title = "A study of noise"
closes = {closes}
image = {{size_px = 64}}
generator = {{preset = "demo", samples_per_case = 2}}
release = {{min_patients = 2}}
evaluation = {{arms = ["synthetic_pooled"], seeds = [0], steps = 2, batch_size = 4, distances = false}}
"""


def _accepted(home: Home) -> int:
    return sum(site["bundles"] for site in study_status(home, "load")["sites"])


def _until_connected(home: Home, count: int) -> None:
    _until(lambda: len(online_nodes(superlink(home))) == count)


@contextlib.contextmanager
def _running(home: Home) -> Iterator[dict[str, psutil.Process]]:
    """The coordinator as `run` starts it: its two processes, by name, once they answer."""
    with (home.logs / "run.log").open("wb") as log:
        process = subprocess.Popen(_command(home, "run"), stdout=log, stderr=log)
    try:
        _until(lambda: _answers(home))
        found = {
            name: child
            for child in psutil.Process(process.pid).children()
            for module, name in _PARTS.items()
            if module in child.cmdline()
        }
        assert set(found) == set(_PARTS.values()), "the coordinator did not start"
        yield found
    finally:
        process.terminate()
        process.wait(timeout=60)


def _answers(home: Home) -> bool:
    try:
        online_nodes(superlink(home))
    except SynthwardError:
        return False
    return any(c.laddr.port == home.settings().releases_port for c in psutil.net_connections("tcp"))


def _command(home: Home, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "coordinator.cli", *arguments, "--home", str(home.path)]


def _call(home: Home, *arguments: str) -> None:
    subprocess.run(_command(home, *arguments), check=True, stdout=subprocess.DEVNULL)


def _processor_s(processes: dict[str, psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes.values())


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        if time.monotonic() > deadline:
            raise SynthwardError("unavailable.timeout", "the federation came to a halt")
        time.sleep(0.2)
