"""`make bench NAME=ingest`: what the coordinator's service takes in, against a plain gRPC server with the same bytes.

throughput   SITES sites at once send CASES pairs in all: on SQLite and PostgreSQL, and the same messages to a server
             that sends them back (echo) or drops them (sink); alternated, RUNS times. A heartbeat beside each.
memory       one site sends bundles of 100, 1,000 and 4,000 pairs, each to a service of its own.
sites        the same pairs from 1, 3, 10, 30 and 100 sites.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.bundle import PairEntry
from tests.benchmarks.harness import Claim, Row, at_least, at_most, row
from tests.benchmarks.ingest_drive import Beats, heartbeat, send_all
from tests.benchmarks.ingest_pairs import prepare
from tests.benchmarks.ingest_plain import running_plain
from tests.benchmarks.ingest_service import Service, SiteFiles, enrolled, peak_mb, running_service
from tests.benchmarks.options import integers, read_into, some_of
from tests.postgres_server import postgres_server

PARTS = ("throughput", "memory", "sites")
MEMORY_PAIRS, MEMORY_SIZE_PX = (100, 1000, 4000), 64
GROWING_SITES, GROWING_PAIRS = (1, 3, 10, 30, 100), 120
KEPT = Path("build/bench/ingest-pairs")
_SHARE_OF_ECHO, _HEARTBEAT_MS, _GROWTH_MB = 0.6, 1000.0, 32.0
_IDLE_S = 3.0


@dataclass(frozen=True)
class Options:
    """cases: pairs in all; sizes: their side in pixels; runs: of each kind."""

    sites: int = 100
    cases: int = 400
    sizes: tuple[int, ...] = (256,)
    runs: int = 3
    parts: tuple[str, ...] = PARTS


def add_options(parser: argparse.ArgumentParser) -> None:
    """SITES=100 CASES=10000 SIZES=256 RUNS=3 PARTS=throughput,memory,sites."""
    for name in ("sites", "cases", "runs"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Options, name))
    parser.add_argument("--sizes", type=integers, default=Options.sizes)
    parser.add_argument("--parts", type=some_of(PARTS), default=PARTS)


def options_of(namespace: argparse.Namespace) -> Options:
    """The options as they were given."""
    return read_into(Options, namespace)


def measure(options: Options) -> tuple[list[Row], list[Claim]]:
    """Runs the parts that were asked for."""
    rows: list[Row] = []
    claims: list[Claim] = []
    with tempfile.TemporaryDirectory(dir=_build()) as folder:
        for number, part in enumerate(options.parts):
            place = Path(folder) / str(number)
            place.mkdir()
            measured = {"throughput": throughput, "memory": memory, "sites": growth}[part](options, place)
            rows += measured[0]
            claims += measured[1]
    return rows, claims


def throughput(options: Options, folder: Path) -> tuple[list[Row], list[Claim]]:
    """Pairs and bytes a second, on both databases, against echo and sink, and a heartbeat's times beside them."""
    size_px = options.sizes[0]
    entries = prepare(KEPT / str(size_px), options.cases, size_px)
    figures: dict[str, list[float]] = defaultdict(list)
    beats: dict[str, list[Beats]] = defaultdict(list)
    with postgres_server(durable=True) as server:
        for run in range(options.runs):
            for kind in ("sqlite", "postgres") if run % 2 == 0 else ("postgres", "sqlite"):
                place = folder / f"{run}-{kind}"
                url = server.new_database() if kind == "postgres" else ""
                with running_service(place / "home", size_px, url) as service:
                    sites = _sites(service, place, options.sites, entries, size_px)
                    idle = enrolled(service, place / "idle", "idle", (), place)
                    with heartbeat(service.address, idle) as alone:
                        time.sleep(_IDLE_S)
                    before = service.processor_s()
                    with heartbeat(service.address, idle) as loaded:
                        figures[kind].append(send_all("upload", service.address, sites))
                    figures[f"{kind} processor"].append(service.processor_s() - before)
                    assert service.accepted() == len(sites), "a bundle was not accepted"
                    beats[f"{kind}, alone"].append(alone)
                    beats[f"{kind}, under load"].append(loaded)
                    with running_plain(service.home.keys) as address:
                        for plain in ("echo", "sink"):
                            figures[plain].append(send_all(plain, address, sites))
                shutil.rmtree(place, ignore_errors=True)
    return _throughput_rows(options, entries, figures, beats)


def _throughput_rows(
    options: Options, entries: Sequence[PairEntry], figures: dict[str, list[float]], beats: dict[str, list[Beats]]
) -> tuple[list[Row], list[Claim]]:
    pairs, sent_mb = len(entries), sum(line.image_bytes + line.mask_bytes for line in entries) / 1e6
    what = f"{options.sites} sites, {pairs} pairs of {options.sizes[0]} px"
    rows = [row(f"{what}: bytes of a pair, on average", "kB", [1000 * sent_mb / pairs])]
    for kind in ("sqlite", "postgres"):
        rows.append(row(f"{what}: taken in on {kind}", "pairs/s", [pairs / s for s in figures[kind]]))
        spent = [1000 * s / pairs for s in figures[f"{kind} processor"]]
        rows.append(row(f"{what}: the service's processor time on {kind}", "ms a pair", spent))
    for kind in ("sqlite", "postgres", "echo", "sink"):
        rows.append(row(f"{what}: {kind}", "MB/s", [sent_mb / s for s in figures[kind]]))
    claims = []
    for kind, measured in beats.items():
        for share in (0.5, 0.99):
            values = [each.percentile_ms(share) for each in measured]
            rows.append(row(f"a heartbeat, {kind}, p{share * 100:.0f}", "ms", values))
            if share == 0.99 and kind.endswith("load"):
                claims.append(at_most(f"a heartbeat, {kind}, p99", _HEARTBEAT_MS, "ms", statistics.median(values)))
    for kind in ("sqlite", "postgres"):
        share = statistics.median(figures["echo"]) / statistics.median(figures[kind])
        claims.append(at_least(f"bytes a second on {kind}, of a plain gRPC echo", _SHARE_OF_ECHO, "", share))
    return rows, claims


def memory(options: Options, folder: Path) -> tuple[list[Row], list[Claim]]:
    """The most memory that a fresh service had for one bundle, by its number of pairs."""
    entries = prepare(KEPT / str(MEMORY_SIZE_PX), max(MEMORY_PAIRS), MEMORY_SIZE_PX)
    peaks: dict[int, list[float]] = {}
    for pairs in MEMORY_PAIRS:
        place = folder / str(pairs)
        with running_service(place / "home", MEMORY_SIZE_PX) as service:
            send_all("upload", service.address, _sites(service, place, 1, entries[:pairs], MEMORY_SIZE_PX))
            peaks[pairs] = [peak_mb(service.process.pid)]
        shutil.rmtree(place, ignore_errors=True)
    least, most = peaks[min(MEMORY_PAIRS)][0], peaks[max(MEMORY_PAIRS)][0]
    return [row(f"the service's memory at its peak, a bundle of {n} pairs", "MB", peak) for n, peak in peaks.items()], [
        at_most(
            f"memory that {max(MEMORY_PAIRS)} pairs need more than {min(MEMORY_PAIRS)}", _GROWTH_MB, "MB", most - least
        )
    ]


def growth(options: Options, folder: Path) -> tuple[list[Row], list[Claim]]:
    """Seconds for the same pairs from ever more sites."""
    size_px = options.sizes[0]
    entries = prepare(KEPT / str(size_px), GROWING_PAIRS, size_px)
    seconds: dict[int, list[float]] = defaultdict(list)
    for run in range(2):
        for count in GROWING_SITES if run % 2 == 0 else GROWING_SITES[::-1]:
            place = folder / f"{run}-{count}"
            with running_service(place / "home", size_px) as service:
                sites = _sites(service, place, count, entries, size_px)
                seconds[count].append(send_all("upload", service.address, sites))
            shutil.rmtree(place, ignore_errors=True)
    least, most = (statistics.median(seconds[count]) for count in (GROWING_SITES[0], GROWING_SITES[-1]))
    rows = [row(f"{GROWING_PAIRS} pairs from {count} sites on sqlite", "s", seconds[count]) for count in GROWING_SITES]
    return rows, [at_most(f"{GROWING_SITES[-1]} sites take as long as one, times", 1.5, "", most / least)]


def _sites(service: Service, folder: Path, count: int, entries: Sequence[PairEntry], size_px: int) -> list[SiteFiles]:
    """So many sites, each with its share of the pairs."""
    objects = KEPT / str(size_px) / "objects"
    return [
        enrolled(service, folder / f"site-{number}", f"site-{number}", entries[number::count], objects)
        for number in range(count)
    ]


def _build() -> Path:
    """On the disk that the repository is on: /tmp may be memory, where a flush costs nothing."""
    Path("build").mkdir(exist_ok=True)
    return Path("build")
