"""Who trains: this process, worker processes beside it, or the hospital's cluster. All keep to the same schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from site_node.generators.progress import Progress
from site_node.work.case_training import Task, Train
from site_node.work.machine import Workers, lay_out, pick_device
from site_node.work.pool import train_in_processes
from site_node.work.schedule import Schedule

Heard = Callable[[Task, Progress], None]


class Crew(Protocol):
    """device: where cases train; workers: how many at once."""

    device: str
    workers: int

    def train(self, schedule: Schedule, train: Train, heard: Heard) -> None:
        """Trains until the schedule is finished. Raises what the schedule raises."""


@dataclass
class Here:
    """This machine. One worker is this process itself: it starts nothing and needs no second PyTorch in memory."""

    device: str
    workers: int
    threads: int

    def train(self, schedule: Schedule, train: Train, heard: Heard) -> None:
        """See Crew."""
        if self.workers > 1:
            train_in_processes(schedule, train, heard, workers=self.workers, threads=self.threads)
            return
        while (task := schedule.next()) is not None:
            schedule.ended(task, train(task, partial(heard, task)))


@contextmanager
def hired(settings: Workers, *, case_bytes: int, cases: int) -> Iterator[Crew]:
    """Whoever the settings name, for so many cases of at most so many bytes each while they train.

    Raises training.device, training.ray-missing and unavailable.service before anything is trained.
    """
    if settings.ray_address:
        from site_node.work.ray_cluster import connected

        with connected(settings, case_bytes=case_bytes, cases=cases) as cluster:
            yield cluster
    else:
        device = pick_device(settings.device)
        room = lay_out(settings, device=device, case_bytes=case_bytes, cases=cases)
        yield Here(device, room.workers, room.threads)
