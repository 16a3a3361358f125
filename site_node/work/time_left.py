"""How far a study's training is, and how long it will still take.

Pure arithmetic over a clock. Nothing here leaves the site: how long a case trains says something of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

_ENOUGH_S = 30.0  # of workers: starting one takes a second or two, in which it does no work
_ENOUGH_CASES = 0.05


@dataclass(frozen=True)
class TrainingProgress:
    """Cases that ended (done, of them set_aside) of all; the case that spoke last, from 1 on, with its scale and step.

    seconds_left: of all cases together; None until there is something to judge by.
    """

    done: int
    of: int
    set_aside: int = 0
    case: int = 0
    scale: int = 0
    scales: int = 0
    step: int = 0
    steps: int = 0
    workers: int = 1
    device: str = "cpu"
    seconds_left: float | None = None


class Estimate:
    """Time left, from the work that this run has done itself: a case that goes on from a checkpoint counts from there.

    work: case id -> how much work it is, in any unit; of the cases still to train. The time is the longer of two: what
    is left, shared among the workers; and the rest of the longest case, which only one of them can train.
    """

    def __init__(
        self,
        work: Mapping[str, float],
        *,
        workers: int,
        resumed: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """resumed: cases with a checkpoint; the first word of one says where it goes on from."""
        self._whole = dict(work)
        self._left = dict(work)
        self._share = {case_id: 0.0 for case_id in work if case_id not in resumed}
        self._workers = workers
        self._clock = clock
        self._last = clock()
        self._busy_s = 0.0  # summed over workers
        self._done = 0.0
        self._cases = 0.0

    def moved(self, case_id: str, share: float) -> None:
        """The case is this far, in [0, 1]."""
        self._tick()
        self._count(case_id, share - self._share.get(case_id, share))
        self._share[case_id] = share
        self._left[case_id] = self._whole[case_id] * (1.0 - share)

    def settled(self, case_id: str, *, trained: bool) -> None:
        """The case needs no more work."""
        self._tick()
        if trained:
            self._count(case_id, 1.0 - self._share.get(case_id, 0.0))
        self._left.pop(case_id, None)

    def seconds_left(self) -> float | None:
        """None until workers have been at it for 30 s in all and have done a twentieth of a case."""
        self._tick()
        if self._busy_s < _ENOUGH_S or self._cases < _ENOUGH_CASES:
            return None
        if not self._left:
            return 0.0
        pace = self._done / self._busy_s  # of one worker
        return max(sum(self._left.values()) / self._workers, max(self._left.values())) / pace

    def _count(self, case_id: str, share: float) -> None:
        self._cases += max(0.0, share)
        self._done += max(0.0, share) * self._whole[case_id]

    def _tick(self) -> None:
        now = self._clock()
        # Cases are handed out one by one, so no worker is idle while there are as many cases as workers.
        self._busy_s += (now - self._last) * min(self._workers, len(self._left))
        self._last = now


def in_words(seconds: float) -> str:
    """For people, no finer than it can be known: "about 3 h 20 min left"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute left"
    if minutes < 60:
        return f"about {minutes} min left"
    hours, minutes = divmod(5 * round(minutes / 5), 60)
    if hours < 24:
        return f"about {hours} h {minutes} min left"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"about {days} d {hours} h left"
