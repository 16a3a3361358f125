"""Trains a study's cases, each its own generator, and remembers which of them it set aside.

Promise: what was trained stays trained, and what was set aside stays set aside, whatever is killed and started again;
one case that cannot be trained does not stop the others; a case's weights do not depend on who trained it, as long as
that was on one thread of the same kind of device. Nothing here leaves the site.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from shared.errors import SynthwardError
from shared.files import private_folder, write_private
from site_node.generators.per_case.plan import CasePlan, plan_case
from site_node.generators.per_case.presets import Preset
from site_node.generators.progress import Progress
from site_node.work.case_training import CaseToTrain, Task, Train, checkpoint_file, generator_file, train_one
from site_node.work.crew import hired
from site_node.work.machine import Workers
from site_node.work.schedule import Schedule
from site_node.work.time_left import Estimate, TrainingProgress

SET_ASIDE_FILE = "set_aside.json"
_TELL_EVERY_S = 1.0
_MASKS = 1  # a study has one lesion class


@dataclass(frozen=True)
class TrainingOutcome:
    """Case ids that have a generator, in the order given, and those that have none, each with the error code why.

    Of this run and earlier ones. device: where the last case of this run trained, empty where there was none to train;
    fell_back: whether a card failed, and the rest went on on the CPU.
    """

    trained: tuple[str, ...]
    set_aside: Mapping[str, str]
    device: str = ""
    fell_back: bool = False


def train_cases(
    items: Sequence[CaseToTrain],
    preset: Preset,
    *,
    folder: Path,
    settings: Workers,
    progress: Callable[[TrainingProgress], None],
    train: Train = train_one,
) -> TrainingOutcome:
    """Trains every case that has no generator in `folder` yet; which have one then.

    Cases that were set aside are tried again when set_aside.json is deleted from the folder. Raises training.device
    where a device is asked for and not there, before it starts or in the middle; training.ray-missing,
    unavailable.service, storage.full. train: how one case is trained; another one is for tests.
    """
    private_folder(folder)
    remove_partials(folder)
    book = _Book(items, folder, progress)
    plans = book.plans(preset)
    if not plans:
        return book.outcome()
    with hired(settings, case_bytes=max(plan.memory_bytes for plan in plans.values()), cases=len(plans)) as crew:
        book.open({case_id: sum(plan.work) for case_id, plan in plans.items()}, crew.workers)
        schedule = Schedule(
            [item for item in items if item.case_id in plans], preset, folder,
            device=crew.device, may_fall_back=settings.device == "auto", on_end=book.on_end,
        )  # fmt: skip
        crew.train(schedule, train, book.heard)
    remove_partials(folder)
    return replace(book.outcome(), device=schedule.device, fell_back=schedule.device != crew.device)


def remove_partials(folder: Path) -> None:
    """Removes what processes left that were killed while they wrote: it holds patients as the whole file would."""
    for partial in folder.glob(".*.partial"):
        partial.unlink()


class _Book:
    """Which case stands where: on the disk for the next run, and told to whoever shows progress."""

    def __init__(
        self, items: Sequence[CaseToTrain], folder: Path, progress: Callable[[TrainingProgress], None]
    ) -> None:
        self._items = items
        self._number = {item.case_id: number for number, item in enumerate(items, start=1)}
        self._folder = folder
        self._file = folder / SET_ASIDE_FILE
        self._progress = progress
        known: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}
        self._trained = {item.case_id for item in items if generator_file(folder, item.case_id).exists()}
        self._set_aside = {case_id: code for case_id, code in known.items() if case_id not in self._trained}
        self._now = TrainingProgress(0, len(items))
        self._estimate = Estimate({}, workers=1)
        self._told_at = float("-inf")

    def plans(self, preset: Preset) -> dict[str, CasePlan]:
        """Case id -> plan of what is still to train; sets aside what cannot be planned."""
        plans: dict[str, CasePlan] = {}
        for item in self._items:
            if item.case_id in self._trained or item.case_id in self._set_aside:
                continue
            try:
                plans[item.case_id] = plan_case(item.size, item.image.channels + _MASKS, preset)
            except SynthwardError as error:
                self._put_aside(item.case_id, error.code)
        return plans

    def open(self, work: Mapping[str, float], workers: int) -> None:
        """Training begins."""
        resumed = {case_id for case_id in work if checkpoint_file(self._folder, case_id).exists()}
        self._estimate = Estimate(work, workers=workers, resumed=resumed)
        self._tell(replace(self._now, workers=workers))

    def heard(self, task: Task, said: Progress) -> None:
        """A case has moved on. Told at most once a second: progress is a file, flushed to the disk."""
        self._estimate.moved(task.case.case_id, said.done)
        if time.monotonic() - self._told_at >= _TELL_EVERY_S:
            self._told_at = time.monotonic()
            self._tell(
                replace(
                    self._now, case=self._number[task.case.case_id], device=task.device,
                    scale=said.scale, scales=said.scales, step=said.step, steps=said.steps,
                )
            )  # fmt: skip

    def on_end(self, case_id: str, code: str) -> None:
        """A case has ended for good."""
        if code:
            self._put_aside(case_id, code)
        else:
            self._trained.add(case_id)
        self._estimate.settled(case_id, trained=not code)
        self._tell(self._now)

    def outcome(self) -> TrainingOutcome:
        """As it stands."""
        ids = [item.case_id for item in self._items]
        return TrainingOutcome(
            tuple(case_id for case_id in ids if case_id in self._trained),
            {case_id: self._set_aside[case_id] for case_id in ids if case_id in self._set_aside},
        )

    def _put_aside(self, case_id: str, code: str) -> None:
        self._set_aside[case_id] = code
        write_private(self._file, json.dumps(self._set_aside, sort_keys=True).encode())

    def _tell(self, now: TrainingProgress) -> None:
        set_aside = sum(item.case_id in self._set_aside for item in self._items)
        self._now = replace(
            now, done=len(self._trained) + set_aside, set_aside=set_aside, seconds_left=self._estimate.seconds_left()
        )
        self._progress(self._now)
