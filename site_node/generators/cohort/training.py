"""Fits a generator to a whole cohort: scale after scale, then the segmenter that draws its masks.

Promise: the same pairs, preset and seed give the same generator on one thread of one kind of machine, whether or not
the training was killed between two steps and taken up again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.generators.checkpoint_file import CheckpointFile
from site_node.generators.cohort.adversarial import Problem, Training
from site_node.generators.cohort.generator import CohortGenerator
from site_node.generators.cohort.labeller import train_labeller
from site_node.generators.cohort.networks import DetailCritic, DetailGenerator, LayoutCritic, LayoutGenerator
from site_node.generators.cohort.presets import CohortPreset
from site_node.generators.cohort.scales import DetailProblem, LayoutProblem, Reals, sizes_of
from site_node.generators.inputs import digest, stream
from site_node.generators.progress import Progress
from site_node.generators.scaling import Size
from site_node.generators.tensor_file import below

ATTEMPTS = 3  # each at half the rate of the one before
FEWEST_PAIRS = 4
SMALLEST_PX = 16
_CRITIC = "critic."  # before the names of the layouts' critic among the first scale's weights
_TOLD_EVERY = 25
_LAYOUT_SHARE = 6.0  # of the time that a finer scale takes
OnProgress = Callable[[Progress], None]


def train_cohort(
    pairs: Sequence[Pair],
    preset: CohortPreset,
    *,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_progress: OnProgress | None = None,
) -> CohortGenerator:
    """Fits a generator to pairs of one size, and gives it back on the CPU.

    checkpoint: a file that is written while training; one that is there is gone on from. The caller removes it once the
    generator is saved: removed any sooner, a kill in between would cost the whole training.
    on_progress is called every 25 steps. Raises training.too-few, training.too-small, and training.diverged where half
    and a quarter of the preset's rate diverged too.
    """
    size = check_cohort(pairs)
    file = CheckpointFile(checkpoint, _fingerprint(pairs, preset, seed))
    saved = file.read()
    first = int(saved[0]["attempt"]) if saved else 0
    for attempt in range(first, ATTEMPTS):
        run = _Run(pairs, preset, seed, attempt, sizes_of(size, preset.layout_px), device, file, on_progress)
        try:
            return run.train(saved)
        except SynthwardError as error:
            if error.code != "training.diverged" or attempt == ATTEMPTS - 1:
                raise
            saved = None
    raise AssertionError("the last attempt returns or raises")


def check_cohort(pairs: Sequence[Pair]) -> Size:
    """The size (height_px, width_px) of the pairs, the first one's. Raises training.too-few, training.too-small."""
    if len(pairs) < FEWEST_PAIRS:
        raise SynthwardError(
            "training.too-few",
            f"{len(pairs)} training cases; a generator of the cohort needs {FEWEST_PAIRS}",
            why="with fewer it would learn each by heart",
            do="import more patients",
        )
    size: Size = (pairs[0].mask.shape[0], pairs[0].mask.shape[1])
    if min(size) < SMALLEST_PX:
        raise SynthwardError(
            "training.too-small",
            f"cases of {size[0]} x {size[1]} px; a side needs {SMALLEST_PX} px",
            do="use larger images",
        )
    return size


@dataclass
class _Run:
    """One attempt at training all scales."""

    pairs: Sequence[Pair]
    preset: CohortPreset
    seed: int
    attempt: int
    sizes: tuple[Size, ...]
    device: str
    file: CheckpointFile
    on_progress: OnProgress | None

    def train(self, saved: tuple[dict[str, Any], dict[str, Tensor]] | None) -> CohortGenerator:
        """All scales, from where `saved` leaves off, then the labeller."""
        description, tensors = saved or ({"scale": 0, "step": 0}, {})
        begun, step = int(description["scale"]), int(description["step"])
        finished = [below(tensors, f"finished{index}") for index in range(begun)]
        channels = self.pairs[0].channels + 1
        for index in range(begun, len(self.sizes)):
            finished.append(self._scale(index, channels, finished, below(tensors, "training"), step))
            tensors, step = {}, 0  # of the scale that was cut short alone
        labeller = None
        if self.preset.labeller_steps:
            labeller = train_labeller(
                self.pairs, self.sizes[-1], steps=self.preset.labeller_steps, seed=self.seed % 2**31,
                on_step=lambda done, of: self._tell(len(self.sizes), done, of),
            )  # fmt: skip
        detail_widths = [self.preset.detail_width] * (len(self.sizes) - 1)
        return CohortGenerator.of(
            self.preset.name, self.pairs[0].channels, self.sizes, self.preset.layout_widths, detail_widths,
            [{name: t for name, t in weights.items() if not name.startswith(_CRITIC)} for weights in finished],
            labeller, self.preset.layout_critic_widths, below(finished[0], _CRITIC.rstrip(".")),
        )  # fmt: skip

    def _scale(
        self, index: int, channels: int, finished: list[dict[str, Tensor]], state: dict[str, Tensor], step: int
    ) -> dict[str, Tensor]:
        """Trains one scale to its end; its generator's averaged weights, and those of the layouts' critic."""
        random = stream("train-cohort", self.seed, f"{index}:{self.attempt}".encode())
        generator, critic = self._networks(index, channels, random)
        schedule = self.preset.layout if index == 0 else self.preset.detail
        rate = schedule.learning_rate * 0.5**self.attempt
        training = Training(generator, critic, replace(schedule, learning_rate=rate), device=self.device)
        if state:
            random.set_state(state.pop("random"))
            training.restore(state, step)
        problem = self._problem(index)
        while training.done < schedule.steps:
            training.step(problem, random)
            if training.done % _TOLD_EVERY == 0 or training.done == schedule.steps:
                self._tell(index, training.done, schedule.steps)
            if self.file.due() and training.done < schedule.steps:
                self._save(index, training.done, finished, training.state() | {"random": random.get_state()})
        weights = {name: tensor.cpu() for name, tensor in training.average.items()}
        if index == 0:
            weights |= {f"{_CRITIC}{name}": tensor.cpu() for name, tensor in critic.state_dict().items()}
        self._save(index + 1, 0, [*finished, weights], {})
        return weights

    def _problem(self, index: int) -> Problem:
        reals, device = Reals(self.pairs, self.sizes[index]), torch.device(self.device)
        if index == 0:
            return LayoutProblem(reals, self.sizes[0], device)
        return DetailProblem(reals, self.sizes[index], self.sizes[index - 1], self.preset.crop_px, device)

    def _networks(self, index: int, channels: int, random: torch.Generator) -> tuple[nn.Module, nn.Module]:
        """A scale's generator and critic, untrained."""
        preset, size = self.preset, self.sizes[index]
        if index == 0:
            layout = LayoutGenerator(channels, size, preset.layout_widths, random)
            return layout, LayoutCritic(channels, size, preset.layout_critic_widths, random)
        detail = DetailGenerator(channels, preset.detail_width, random)
        return detail, DetailCritic(channels, preset.detail_critic_widths, random)

    def _save(self, scale: int, step: int, finished: list[dict[str, Tensor]], training: dict[str, Tensor]) -> None:
        tensors = {f"finished{i}.{name}": t for i, weights in enumerate(finished) for name, t in weights.items()}
        tensors |= {f"training.{name}": tensor for name, tensor in training.items()}
        self.file.write({"attempt": self.attempt, "scale": scale, "step": step}, tensors)

    def _tell(self, scale: int, step: int, steps: int) -> None:
        if self.on_progress is None:
            return
        # The labeller counts as one more scale; shares of the whole as measured at 64 px.
        work = [_LAYOUT_SHARE, *[1.0] * (len(self.sizes) - 1)] + ([1.0] if self.preset.labeller_steps else [])
        done = (sum(work[:scale]) + work[scale] * step / steps) / sum(work)
        self.on_progress(Progress(scale, len(work), step, steps, min(1.0, done)))


def _fingerprint(pairs: Sequence[Pair], preset: CohortPreset, seed: int) -> str:
    """Of the cases' bytes, the preset and the seed."""
    hashed = hashlib.sha256(digest("cohort", seed, repr(preset).encode()))
    for pair in pairs:
        hashed.update(hashlib.sha256(pair.image.tobytes() + pair.mask.tobytes()).digest())
    return hashed.hexdigest()
