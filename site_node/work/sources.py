"""Where a release's samples come from: one generator a case, or one for the cohort, trained first and then drawn from.

Both are patient data, lie in private/generators, and are kept so that a job that was killed goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from shared.errors import SynthwardError
from shared.files import private_folder
from shared.pairs import LazyPairs, Pair
from shared.study import Study
from site_node.cases import Case, PrivateStore
from site_node.generators.cohort.generator import CohortGenerator
from site_node.generators.cohort.presets import COHORT_PRESETS, with_half_the_batch
from site_node.generators.cohort.training import train_cohort
from site_node.generators.per_case.presets import PRESETS
from site_node.generators.per_case.singan_seg import SinGanSeg
from site_node.generators.progress import Progress
from site_node.work.case_training import DEVICE, MEMORY, CaseToTrain, generator_file, of_the_machine
from site_node.work.machine import Workers, pick_device
from site_node.work.time_left import Estimate, TrainingProgress
from site_node.work.train_cases import remove_partials, train_cases

OnTraining = Callable[[TrainingProgress], None]
COHORT_FILE = "cohort.safetensors"
_SMALLEST_BATCH = 4
_ONE = "generator"
_log = structlog.get_logger("site.trainer")


@dataclass(frozen=True)
class Well:
    """A generator to draw from. wanted: how many pairs; own: the place of the case it was fitted to, None for all.

    draw: pairs from a key that tells attempts apart, and how many.
    """

    name: str
    wanted: int
    own: int | None
    draw: Callable[[str, int], list[Pair]]


class Source(Protocol):
    """A study's generators at one site."""

    def train(self, progress: OnTraining) -> Mapping[str, str]:
        """Fits what is not fitted yet; case id -> error code of the cases that were set aside. Raises training.*."""

    def wells(self) -> Iterator[Well]:
        """What to draw from, one generator in memory at a time."""

    def critic_scores(self, pairs: Sequence[Pair], /) -> list[float]:
        """How real a critic of the whole cohort takes each pair to be; empty where there is none."""


def estimate_of_one() -> Estimate:
    """Of the time that a single generator takes, which may go on from a checkpoint."""
    return Estimate({_ONE: 1.0}, workers=1, resumed={_ONE})


def teller(progress: OnTraining, estimate: Estimate, device: str) -> Callable[[Progress], None]:
    """Words of a single generator's training as the job's progress."""

    def told(said: Progress) -> None:
        estimate.moved(_ONE, said.done)
        progress(
            TrainingProgress(
                0, 1, case=1, scale=said.scale, scales=said.scales, step=said.step, steps=said.steps, device=device,
                seconds_left=estimate.seconds_left(),
            )
        )  # fmt: skip

    return told


def source(store: PrivateStore, study: Study, study_sha256: str, cases: Sequence[Case], workers: Workers) -> Source:
    """The study's kind of generator for training cases, in a folder of the study's own."""
    folder = private_folder(store.folder / "generators" / study_sha256[:16])
    kinds: dict[str, type[_PerCase] | type[_Cohort]] = {"per_case": _PerCase, "cohort": _Cohort}
    return kinds[study.generator.kind](store, study, study_sha256, cases, workers, folder)


@dataclass(frozen=True)
class _Generators:
    store: PrivateStore
    study: Study
    study_sha256: str
    cases: Sequence[Case]
    workers: Workers
    folder: Path

    def seed(self, *parts: str) -> int:
        return self.store.seed(*parts, self.study_sha256)


class _PerCase(_Generators):
    """One generator for each training case."""

    def train(self, progress: OnTraining) -> Mapping[str, str]:
        items = [
            CaseToTrain.of(case, self.study.image, seed=self.seed("train", case.case_id)) for case in self.cases
        ]  # fmt: skip
        preset = PRESETS[self.study.generator.preset]
        outcome = train_cases(items, preset, folder=self.folder, settings=self.workers, progress=progress)
        if not outcome.trained:
            reasons = ", ".join(sorted(set(outcome.set_aside.values())))
            raise SynthwardError(
                "training.none",
                f"none of {len(items)} training cases could be fitted ({reasons})",
                do="look at the cases: synthward-site status names the reasons",
            )
        return outcome.set_aside

    def critic_scores(self, _pairs: Sequence[Pair], /) -> list[float]:
        """No critic has seen the cohort: each knew one case."""
        return []

    def wells(self) -> Iterator[Well]:
        for place, case in enumerate(self.cases):
            path = generator_file(self.folder, case.case_id)
            if path.exists():
                yield Well(case.case_id, self.study.generator.samples_per_case, place, self._draw(path, case.case_id))

    def _draw(self, path: Path, case_id: str) -> Callable[[str, int], list[Pair]]:
        generator = SinGanSeg.load(path)
        return lambda key, count: [
            generator.sample(self.seed("sample", case_id, key, str(index))) for index in range(count)
        ]


class _Cohort(_Generators):
    """One generator for all training cases."""

    def train(self, progress: OnTraining) -> Mapping[str, str]:
        path, checkpoint = self.folder / COHORT_FILE, self.folder / "cohort.checkpoint.safetensors"
        remove_partials(self.folder)
        if path.exists():
            return {}
        device = pick_device(self.workers.device)
        estimate = estimate_of_one()
        preset = COHORT_PRESETS[self.study.generator.preset]
        while True:
            try:
                generator = train_cohort(
                    LazyPairs(self.cases, lambda case: case.load_for(self.study.image)),
                    preset,
                    seed=self.seed("train", "cohort"),
                    device=device,
                    checkpoint=checkpoint,
                    on_progress=teller(progress, estimate, device),
                )
                break
            except (MemoryError, RuntimeError) as error:
                ending = of_the_machine(error, device)
                if ending is None:
                    raise
                if ending.code == MEMORY and preset.layout.batch >= 2 * _SMALLEST_BATCH:
                    preset = with_half_the_batch(preset)
                elif ending.code == DEVICE and self.workers.device == "auto" and device != "cpu":
                    device = "cpu"
                else:
                    raise ending.error() from error
                _log.warning("training-goes-on", code=ending.code, batch=preset.layout.batch, device=device)
        generator.save(path)
        checkpoint.unlink(missing_ok=True)
        return {}

    def critic_scores(self, pairs: Sequence[Pair], /) -> list[float]:
        """By the layouts' critic."""
        return CohortGenerator.load(self.folder / COHORT_FILE).critic_scores(pairs)

    def wells(self) -> Iterator[Well]:
        generator = CohortGenerator.load(self.folder / COHORT_FILE)
        wanted = self.study.generator.samples_per_case * len(self.cases)
        yield Well("cohort", wanted, None, lambda key, count: generator.sample(self.seed("sample", key), count))
