"""Training workers that die: the outcome is as if they had not, and nothing outlives the process that started them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from shared.errors import SynthwardError
from site_node.work.case_training import Ending, Task, Tell, Train
from site_node.work.machine import Workers
from site_node.work.pool import train_in_processes
from site_node.work.schedule import Schedule
from site_node.work.time_left import TrainingProgress
from site_node.work.train_cases import train_cases
from tests.helpers import until
from tests.training_cases import TINY, generators, write_cases


def case_workers(parent: int) -> list[psutil.Process]:
    """The training workers that a process has started and that still run."""
    found = []
    for process in psutil.Process(parent).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "site_node.work.case_worker" in process.cmdline():
                found.append(process)
    return found


def test_kill_9_of_a_worker_changes_no_generator_and_one_flat_image_stops_nobody(tmp_path: Path) -> None:
    items = write_cases(tmp_path / "cases", "a", "flat", "b")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    one = Workers(workers=1, device="cpu")
    train_cases(items, TINY, folder=tmp_path / "calm", settings=one, progress=lambda _: None)
    torch.set_num_threads(before)
    killed: list[int] = []
    connections: list[object] = []

    def kill_one(now: TrainingProgress) -> None:
        if now.scales and not killed:  # somebody is in the middle of a case
            workers = case_workers(os.getpid())
            for worker in workers:
                connections.extend(worker.net_connections("inet"))
            workers[0].kill()
            killed.append(workers[0].pid)

    two = Workers(workers=2, threads=2, device="cpu")
    outcome = train_cases(items, TINY, folder=tmp_path / "out", settings=two, progress=kill_one)
    assert killed
    assert connections == [], "a worker has no network"
    assert outcome.trained == ("a", "b")
    assert outcome.set_aside == {"flat": "training.constant-image"}
    assert generators(tmp_path / "out") == generators(tmp_path / "calm")
    assert not list((tmp_path / "out").glob("*.checkpoint.*"))
    assert case_workers(os.getpid()) == []


def pooled(folder: Path, train: Train, ends: dict[str, str]) -> None:
    """Two cases through a pool of one worker."""
    items = write_cases(folder / "cases", "a", "b")
    schedule = Schedule(items, TINY, folder, device="cpu", may_fall_back=False, on_end=ends.__setitem__)
    train_in_processes(schedule, train, lambda *_: None, workers=1, threads=1)


def dies_over_a(task: Task, tell: Tell) -> Ending:
    """A training whose process is killed by case "a", as for want of memory, and done with any other at once."""
    if task.case.case_id == "a":
        os.kill(os.getpid(), signal.SIGKILL)
    return Ending()


def test_a_case_that_kills_every_worker_is_set_aside(tmp_path: Path) -> None:
    ends: dict[str, str] = {}
    pooled(tmp_path, dies_over_a, ends)
    assert ends == {"b": "", "a": "training.killed"}
    assert case_workers(os.getpid()) == []


def stumbles(task: Task, tell: Tell) -> Ending:
    """A training with a mistake in it."""
    raise ZeroDivisionError(task.case.case_id)


def test_a_mistake_in_a_worker_ends_the_job_with_its_trace_and_leaves_no_worker(tmp_path: Path) -> None:
    ends: dict[str, str] = {}
    with pytest.raises(SynthwardError) as caught:
        pooled(tmp_path, stumbles, ends)
    assert caught.value.code == "internal"
    assert "in stumbles" in caught.value.what
    assert ends == {}
    assert case_workers(os.getpid()) == []


def waits_for_ever(task: Task, tell: Tell) -> Ending:
    """A training that says nothing more once it has begun, so that its pipe cannot tell it that the job is gone."""
    task.folder.joinpath(f"{task.case.case_id}.begun").touch()
    while True:
        signal.pause()


PARENT = """
import sys
from pathlib import Path
from site_node.work.machine import Workers
from site_node.work.train_cases import train_cases
from tests.faults.test_training_workers import waits_for_ever
from tests.training_cases import TINY, write_cases
folder = Path(sys.argv[1])
items = write_cases(folder / "cases", "a", "b")
train_cases(items, TINY, folder=folder, settings=Workers(workers=2, threads=2, device="cpu"),
            progress=lambda _: None, train=waits_for_ever)
"""


def test_kill_9_of_the_job_leaves_no_worker(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)])
    try:
        until(lambda: len(list(tmp_path.glob("*.begun"))) == 2)
        workers = case_workers(parent.pid)
        assert len(workers) == 2
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not any(worker.is_running() for worker in workers))
