"""Which case is trained next, and what becomes of a case whose training ended. It trains nothing and knows no process.

Promise, whatever ends how and when: each case ends once, trained or set aside; a case is begun again at most once for
want of memory or a killed process, and then alone; a case that fails by its own pixels is set aside at once; everything
else stops the job.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path

import structlog

from site_node.generators.per_case.presets import Preset
from site_node.work.case_training import DEVICE, KILLED, MEMORY, CaseToTrain, Ending, Task

_OF_THE_CASE = "training."
_log = structlog.get_logger("site.trainer")


class Schedule:
    """The cases that wait, and the rules of the second chance.

    device: where cases train; may_fall_back: whether cases go on on the CPU when it fails. on_end is called once for
    each case, with an empty code when it was trained and with the reason when it is set aside.
    """

    def __init__(
        self,
        cases: Iterable[CaseToTrain],
        preset: Preset,
        folder: Path,
        *,
        device: str,
        may_fall_back: bool,
        on_end: Callable[[str, str], None],
    ) -> None:
        self.device = device
        self._preset = preset
        self._folder = folder
        self._may_fall_back = may_fall_back
        self._on_end = on_end
        self._waiting = deque(cases)
        self._again: deque[CaseToTrain] = deque()
        self._running: dict[str, Task] = {}

    @property
    def finished(self) -> bool:
        """Whether every case has ended."""
        return not (self._waiting or self._again or self._running)

    def next(self) -> Task | None:
        """The next case to train; None while there is none, or the next must wait until nothing else runs."""
        if any(task.alone for task in self._running.values()):
            return None
        if self._waiting:
            case, alone = self._waiting.popleft(), False
        elif self._again and not self._running:
            case, alone = self._again.popleft(), True
        else:
            return None
        task = Task(case, self._preset, self._folder, self.device, alone)
        self._running[case.case_id] = task
        return task

    def ended(self, task: Task, ending: Ending) -> None:
        """Takes note of an ending. Raises the SynthwardError of one after which the job cannot go on."""
        del self._running[task.case.case_id]
        if ending.code == DEVICE and self._may_fall_back and task.device != "cpu":
            _log.warning("device-lost", code=ending.code)
            self.device = "cpu"
            # Its checkpoint is there. On the CPU it counts as neither a first nor a second try.
            (self._again if task.alone else self._waiting).appendleft(task.case)
        elif ending.code in (MEMORY, KILLED) and not task.alone:
            # A process is mostly killed for want of memory; so the second try is alone, when all others have ended.
            _log.warning("case-again", code=ending.code)
            self._again.append(task.case)
        elif ending.code == "":
            self._on_end(task.case.case_id, "")
        elif ending.code.startswith(_OF_THE_CASE) and ending.code != DEVICE:
            _log.warning("case-set-aside", code=ending.code)
            task.checkpoint.unlink(missing_ok=True)
            self._on_end(task.case.case_id, ending.code)
        else:
            raise ending.error()

    def killed(self, task: Task) -> None:
        """Takes note that whoever trained a case died over it."""
        self.ended(task, Ending(KILLED, "the process that trained a case was killed"))
