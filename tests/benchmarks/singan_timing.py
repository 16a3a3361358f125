"""What training costs: process-CPU seconds of the authors' loop, `faithful` and a short preset, and memory.

The loops are timed by a share of their iterations at every scale, on networks with their first weights, and scaled up:
an iteration's work depends on sizes alone. Short presets are timed over whole cases. The sides take turns, so that a
machine that gets slower in between is slower for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F

from shared.pairs import Pair
from site_node.generators.inputs import arrays_of, as_tensor
from site_node.generators.per_case.plan import plan_case
from site_node.generators.per_case.presets import FAITHFUL, Preset
from site_node.generators.per_case.pyramid import BlockConfig, Critic, Norm, Scale, ScaleGenerator, draw, folded, pad
from site_node.generators.per_case.singan_seg import train_case
from site_node.generators.per_case.training import ScaleTraining, Target
from site_node.generators.scaling import upscale
from tests import reference_singan as reference
from tests.benchmarks.singan_arms import peak_mb

_CHANNELS = 4
_AMPLITUDE = 0.1


@dataclass(frozen=True)
class Timings:
    """Process-CPU seconds a case, one value a repeat; a repeat's values belong together."""

    reference: list[float]
    faithful: list[float]
    short: list[float]


def time_sides(pairs: Sequence[Pair], short: Preset, *, iterations: int, repeats: int) -> Timings:
    """Both loops on the first pair, and a whole training with `short` of one pair after the other, by turns."""
    found = Timings([], [], [])
    up = FAITHFUL.iterations[0] / iterations
    for repeat in range(repeats):
        spent = {"reference": 0.0, "faithful": 0.0}
        for stage in stages(pairs[0], FAITHFUL):
            sides = {"reference": stage.reference_steps(), "faithful": stage.steps(iterations + 1)}
            for name in sorted(sides, reverse=bool(repeat % 2)):
                sides[name](1)  # buffers, and the optimiser's moments
                spent[name] += _cpu_s(partial(sides[name], iterations))
        found.reference.append(up * spent["reference"])
        found.faithful.append(up * spent["faithful"])
        pair = pairs[repeat % len(pairs)]
        found.short.append(_cpu_s(partial(train_case, pair, short, seed=repeat)))
    return found


def over_cases(pairs: Sequence[Pair], preset: Preset, counts: tuple[int, int]) -> tuple[float, float]:
    """Process-CPU seconds of a few whole cases and of more, one after the other."""

    def train(count: int) -> None:
        for index in range(count):
            train_case(pairs[index % len(pairs)], preset, seed=index)

    few, more = (_cpu_s(partial(train, count)) for count in counts)
    return few, more


def peak_of_training(pair: Pair, preset: Preset | None, iterations: int) -> float:
    """Peak of this process in MB after `iterations` at every scale of a preset, or of the authors' loop for None."""
    for stage in stages(pair, preset or FAITHFUL):
        (stage.reference_steps() if preset is None else stage.steps(iterations))(iterations)
    return peak_mb()


def _cpu_s(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


@dataclass(frozen=True)
class Stage:
    """One scale, with coarser generators of first weights under it. real: [1, C, h, w]."""

    real: torch.Tensor
    preset: Preset
    coarser: tuple[ScaleGenerator, ...]
    sizes: tuple[tuple[int, int], ...]  # of the coarser scales and of this one

    def steps(self, at_most: int) -> Callable[[int], None]:
        """Runs that many iterations of the product's training; all runs together at most `at_most`."""
        random = torch.Generator().manual_seed(0)
        frozen = [Scale(size, folded(g), _AMPLITUDE) for size, g in zip(self.sizes, self.coarser, strict=False)]
        base = upscale(draw(frozen, 1, random=random), self.sizes[-1]) if frozen else torch.zeros_like(self.real)
        training = ScaleTraining(
            ScaleGenerator(self._block(self.preset.generator_norm), random),
            Critic(self._block(self.preset.critic_norm), random),
            Target(self.real, pad(base), base, _AMPLITUDE),
            frozen,
            replace(self.preset, iterations=(at_most,)),
            random,
        )

        def run(count: int) -> None:
            for _ in range(count):
                training.advance()

        return run

    def reference_steps(self) -> Callable[[int], None]:
        """Runs that many iterations of the authors' loop."""
        random = torch.Generator().manual_seed(0)
        block = self._block("batch")
        generator, critic = (
            reference.copied(network.state_dict()) for network in (ScaleGenerator(block, random), Critic(block, random))
        )
        done = reference.Trained(
            [reference.copied(g.state_dict()) for g in self.coarser], [_AMPLITUDE] * len(self.coarser)
        )
        previous = reference.chain(done, self.sizes, random, None) if self.coarser else torch.zeros_like(self.real)
        rebuilding = (previous, torch.zeros_like(pad(self.real)), _AMPLITUDE)

        def run(count: int) -> None:
            schedule = reference.Schedule(iterations=count)
            reference.train_scale(self.real, generator, critic, done, self.sizes, rebuilding, random, schedule)

        return run

    def _block(self, norm: Norm) -> BlockConfig:
        return BlockConfig(_CHANNELS, self.preset.width_of(len(self.coarser)), norm)


def stages(pair: Pair, preset: Preset) -> list[Stage]:
    """All scales of a pair, coarsest first."""
    whole = as_tensor(*arrays_of(pair))
    sizes = plan_case((pair.mask.shape[0], pair.mask.shape[1]), _CHANNELS, preset).scales
    random = torch.Generator().manual_seed(0)
    found: list[Stage] = []
    coarser: list[ScaleGenerator] = []
    for index, size in enumerate(sizes):
        real = F.interpolate(whole, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)
        found.append(Stage(real, preset, tuple(coarser), sizes[: index + 1]))
        block = BlockConfig(_CHANNELS, preset.width_of(index), preset.generator_norm)
        coarser.append(ScaleGenerator(block, random).eval())
    return found
