"""The demo as a user runs it: time by stage and memory, over whole runs. Goals: six minutes and 4 GB on two cores."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.harness import Claim, Row, at_most, row

RUNS = 3
LIMIT_S = 360.0
LIMIT_MB = 4000.0


def measure() -> tuple[list[Row], list[Claim]]:
    """Runs the demo RUNS times from start to end."""
    seconds: dict[str, list[float]] = defaultdict(list)
    memory: list[float] = []
    for _ in range(RUNS):
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            subprocess.run([sys.executable, "-m", "deploy.demo", "--out", f"{folder}/demo"], check=True)
            seconds["whole"].append(round(time.monotonic() - start, 1))
            summary = json.loads(Path(folder, "demo", "summary.json").read_text(encoding="utf-8"))
        for stage, spent in summary["seconds"].items():
            seconds[stage].append(spent)
        memory.append(summary["peak_rss_mb"]["all together"])
    rows = [row(stage, "s", values) for stage, values in seconds.items()]
    rows.append(row("memory of all processes together, at its peak", "MB", memory))
    return rows, [
        at_most("the slowest demo", LIMIT_S, "s", max(seconds["whole"])),
        at_most("the largest demo", LIMIT_MB, "MB", max(memory)),
    ]
