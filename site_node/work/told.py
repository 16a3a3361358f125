"""What the trainer tells the people at its site: how far a job is, why it ended, what keeps it off the network.

None of these files ever leaves.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from shared.files import write_private
from site_node.settings import Home
from site_node.work.no_network import Wall
from site_node.work.time_left import TrainingProgress, in_words

PROGRESS_FILE = "progress.json"
LAST_ERROR_FILE = "last_error.json"
WALL_FILE = "network"


def write_wall(home: Home, wall: Wall) -> None:
    """Says what keeps the trainer that has just started off the network."""
    write_private(home.private / WALL_FILE, wall.value.encode())


def read_wall(home: Home) -> str:
    """What keeps the trainer that was started last off the network: kernel, python or none; empty before the first."""
    path = home.private / WALL_FILE
    return path.read_text(encoding="ascii") if path.exists() else ""


def write_progress(
    home: Home, job_id: str, stage: str, done: int, of: int, training: TrainingProgress | None = None
) -> None:
    """Says how far a job is: at a stage of its own, or in its training, whose cases are then what is counted."""
    told = {"job": job_id, "stage": stage, "done": done, "of": of} | (asdict(training) if training else {})
    write_private(home.private / PROGRESS_FILE, json.dumps(told).encode())


def read_progress(home: Home, running: set[str]) -> dict[str, Any] | None:
    """How far the running job is, with the time left in words where it is known; None where none runs."""
    path = home.private / PROGRESS_FILE
    if not path.exists():
        return None
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if told["job"] not in running:
        return None
    if told.get("seconds_left") is not None:
        since_s = max(0.0, time.time() - path.stat().st_mtime)
        told["seconds_left"] = round(max(0.0, told["seconds_left"] - since_s))
        told["left"] = in_words(told["seconds_left"])
    return told
