"""Worker processes on this machine: each trains one case at a time and gets the next when it is done.

Promise: a worker that dies is replaced and its case begun again by the schedule's rules, while the others go on; when
the pool ends, or its process is killed, no worker is left. A worker is a program of its own, started, not forked:
PyTorch's threads do not survive a fork. It has one pipe, to its parent, and no network.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import structlog

from shared.supervise import die_with_parent
from site_node.generators.progress import Progress
from site_node.work.case_training import Ending, Task, Train
from site_node.work.no_network import started
from site_node.work.schedule import Schedule

_STOP_S = 5.0
_log = structlog.get_logger("site.trainer")


class _Worker:
    """One process, and the case that it has in hand."""

    def __init__(self, threads: int) -> None:
        self.task: Task | None = None
        self.pipe, theirs = Pipe()
        self._process = subprocess.Popen(
            started("site_node.work.case_worker", str(theirs.fileno())),
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            preexec_fn=die_with_parent if sys.platform == "linux" else None,
        )
        theirs.close()  # so that the pipe ends when the worker does

    def hand(self, task: Task, train: Train) -> None:
        """Gives it a case. Its death shows when its answer is read."""
        self.task = task
        with contextlib.suppress(OSError):
            self.pipe.send((train, task))

    def heard(self) -> Progress | Ending | None:
        """What it says next; None when it died."""
        try:
            said: Progress | Ending = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return said

    def end(self) -> int:
        """Ends it, whatever it does; its exit code."""
        self.pipe.close()
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        return self._process.wait()


def train_in_processes(
    schedule: Schedule, train: Train, tell: Callable[[Task, Progress], None], *, workers: int, threads: int
) -> None:
    """Trains all cases of the schedule on at most `workers` processes of `threads` threads each.

    Raises what the schedule raises; the workers are gone then.
    """
    staff: list[_Worker] = []
    try:
        while not schedule.finished:
            _hand_out(schedule, train, staff, workers, threads)
            busy = {worker.pipe: worker for worker in staff if worker.task is not None}
            for pipe in wait(list(busy)):
                _hear(busy[_connection(pipe)], staff, schedule, tell)
    finally:
        for worker in staff:
            worker.end()


def _hand_out(schedule: Schedule, train: Train, staff: list[_Worker], workers: int, threads: int) -> None:
    """Gives every idle worker a case, and starts workers while there is room and work for them."""
    while True:
        idle = [worker for worker in staff if worker.task is None]
        if not idle and len(staff) == workers:
            return
        task = schedule.next()
        if task is None:
            return
        if task.alone:  # all memory to this case: an idle process still keeps what its last case took
            for worker in idle[1:]:
                staff.remove(worker)
                worker.end()
        if not idle:
            idle = [_Worker(threads)]
            staff.append(idle[0])
        idle[0].hand(task, train)


def _hear(worker: _Worker, staff: list[_Worker], schedule: Schedule, tell: Callable[[Task, Progress], None]) -> None:
    task, said = worker.task, worker.heard()
    if task is None:
        raise RuntimeError("a worker without a case has spoken")
    if isinstance(said, Progress):
        tell(task, said)
    elif said is not None:
        worker.task = None
        schedule.ended(task, said)
    else:
        staff.remove(worker)
        _log.error("worker-died", process="case_worker", exit=worker.end())
        schedule.killed(task)


def _connection(pipe: Any) -> Connection[Any, Any]:
    """The pipe, of which the types of `wait` say too little."""
    if not isinstance(pipe, Connection):
        raise TypeError("not a pipe")
    return pipe
