"""What every benchmark writes: where it ran, what was measured how often, and which claims that meets or misses.

A claim that is missed stays in the file as missed. A median comes with its number of runs and its spread.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

PACKAGES = ("flwr", "torch", "opacus", "segmentation-models-pytorch", "grpcio", "numpy")


@dataclass(frozen=True)
class Row:
    """One measured figure: the median of `runs` runs, and the smallest and largest."""

    name: str
    unit: str
    runs: int
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Claim:
    """What was to be reached, and what was. met is computed, never stated."""

    name: str
    goal: str
    value: float
    met: bool


def row(name: str, unit: str, values: Sequence[float]) -> Row:
    """A row of at least one value."""
    return Row(name, unit, len(values), round(statistics.median(values), 3), min(values), max(values))


def at_most(name: str, limit: float, unit: str, value: float) -> Claim:
    """A claim that a figure stays at or under a limit."""
    return Claim(name, f"<= {limit:g} {unit}", round(value, 3), value <= limit)


def at_least(name: str, limit: float, unit: str, value: float) -> Claim:
    """A claim that a figure reaches a limit."""
    return Claim(name, f">= {limit:g} {unit}", round(value, 3), value >= limit)


def environment() -> dict[str, object]:
    """The machine, the versions, and the commit (with a mark when the tree differs from it)."""
    commit = _git("rev-parse", "--short=12", "HEAD") + ("+changes" if _git("status", "--porcelain") else "")
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "commit": commit,
    }


def write(name: str, rows: Sequence[Row], claims: Sequence[Claim], *, folder: Path = Path("build/bench")) -> Path:
    """Writes folder/NAME.json, prints the same as tables, and returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    content = {"environment": environment(), "rows": [asdict(r) for r in rows], "claims": [asdict(c) for c in claims]}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    console = Console()
    figures = Table("figure", "unit", "runs", "median", "low", "high", title=name, title_justify="left")
    for r in rows:
        figures.add_row(r.name, r.unit, str(r.runs), f"{r.median:g}", f"{r.low:g}", f"{r.high:g}")
    reached = Table("claim", "goal", "value", "", title="claims", title_justify="left")
    for c in claims:
        reached.add_row(c.name, c.goal, f"{c.value:g}", "met" if c.met else "MISSED")
    console.print(figures)
    console.print(reached)
    return path


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
