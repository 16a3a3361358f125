"""The hospital's own Ray cluster as a crew: each case is one task, which trains where Ray finds a free core or card.

Needs the extra `synthward[ray]`, on every node the same versions, and the site's folder under one path on all of them:
cases are read and generators written there, and what crosses the hospital's network is a case id, a seed and a path.
Ray lets whoever reaches its ports run code: it belongs inside the hospital's network. The tasks need nothing of it.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
import torch

from shared.errors import SynthwardError
from site_node.generators.progress import Progress
from site_node.work.case_training import Ending, Task, Train
from site_node.work.case_worker import answer
from site_node.work.machine import PROCESS_BYTES, Workers, at_once
from site_node.work.schedule import Schedule

_TELL_EVERY_S = 2.0
_LISTEN_EVERY_S = 1.0
_KNOCK_S = 10.0
_log = structlog.get_logger("site.trainer")


@dataclass
class Cluster:
    """A connected cluster. device: as every node understands it; workers: tasks at once; case_bytes: memory of each."""

    ray: Any
    device: str
    workers: int
    case_bytes: int

    def train(self, schedule: Schedule, train: Train, heard: Callable[[Task, Progress], None]) -> None:
        """Trains until the schedule is finished. Raises what the schedule raises; no task of ours runs then."""
        errors = importlib.import_module("ray.exceptions")
        words = importlib.import_module("ray.util.queue").Queue(actor_options={"num_cpus": 0})
        running: dict[Any, Task] = {}
        try:
            while not schedule.finished:
                while len(running) < self.workers and (task := schedule.next()) is not None:
                    running[self._remote(task.device).remote(train, task, words.actor)] = task
                done, _ = self.ray.wait(list(running), timeout=_LISTEN_EVERY_S)
                with contextlib.suppress(errors.RayError):  # without its queue's node, training goes on untold
                    for task, progress in words.get_nowait_batch(words.qsize()):
                        heard(task, progress)
                for answered in done:
                    self._take(answered, running.pop(answered), schedule)
        finally:
            for unfinished in running:
                self.ray.cancel(unfinished, force=True)
            words.shutdown()

    def _take(self, answered: Any, task: Task, schedule: Schedule) -> None:
        errors = importlib.import_module("ray.exceptions")
        try:
            ending: Ending = self.ray.get(answered)
        except errors.RayTaskError:
            raise  # the task could not even begin: another version on that node, or none
        except errors.RayError as error:
            _log.error("task-died", error=type(error).__name__)
            schedule.killed(task)
        else:
            schedule.ended(task, ending)

    def _remote(self, device: str) -> Any:
        # Ray starts no task that asks for more memory than a whole node has, and would wait for ever.
        largest = max((node["Resources"].get("memory", 0) for node in self.ray.nodes() if node["Alive"]), default=0)
        return self.ray.remote(
            num_cpus=1,
            num_gpus=0 if device == "cpu" else 1,
            memory=int(min(self.case_bytes, largest)),
            max_retries=0,  # the schedule's rules hold, not Ray's
        )(_train_there)


def _train_there(train: Train, task: Task, words: Any) -> Ending:
    """Runs on a node. words: the actor of the queue to which progress goes; nobody waits for it."""
    torch.set_num_threads(1)
    if not task.folder.is_dir():
        return Ending(
            "settings.invalid",
            f"a node of the Ray cluster has no folder {task.folder}",
            why="cases are read and generators written there, by every node",
            do="share the site's folder with every node, under the same path",
        )
    last = 0.0

    def tell(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last >= _TELL_EVERY_S:
            last = time.monotonic()
            words.put_nowait.remote((task, progress))

    return answer(train, task, tell)


@contextmanager
def connected(settings: Workers, *, case_bytes: int, cases: int) -> Iterator[Cluster]:
    """The cluster at settings.ray_address, `auto` for the one of which this machine is a node.

    Raises training.ray-missing, unavailable.service, and training.device where no node has the card that is asked for.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = importlib.import_module("ray")
    except ModuleNotFoundError as error:
        raise SynthwardError(
            "training.ray-missing",
            "settings.toml names a Ray cluster, and Ray is not installed",
            do='run: pip install "synthward[ray]", or empty ray_address in settings.toml',
        ) from error
    try:
        _knock(settings.ray_address)
        ray.init(address=settings.ray_address, log_to_driver=False, configure_logging=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise SynthwardError(
            "unavailable.service",
            f"no Ray cluster answers at {settings.ray_address} ({type(error).__name__})",
            why="this machine must be a node of the cluster that it uses",
            do="run `ray start` on it as on the others, or correct ray_address in settings.toml",
        ) from error
    try:
        has = ray.cluster_resources()
        device = _pick_device(settings.device, cards=int(has.get("GPU", 0)))
        slots = int(has.get("CPU" if device == "cpu" else "GPU", 0))
        each = PROCESS_BYTES + case_bytes
        yield Cluster(ray, device, at_once(settings.workers or slots, cases, int(has["memory"]), each), each)
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises OSError where nobody listens: Ray itself waits there for ever."""
    host, _, port = address.rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def _pick_device(setting: str, *, cards: int) -> str:
    """`auto` takes the cluster's cards where it has any. Ray gives each task one, which is the only one it sees."""
    if setting == "auto":
        return "cuda" if cards else "cpu"
    if setting != "cpu" and not cards:
        raise SynthwardError(
            "training.device",
            f"settings.toml asks for {setting}, and no node of the Ray cluster has a card",
            do='start Ray on a node with a card, or set device = "auto" or "cpu"',
        )
    return setting.partition(":")[0]
