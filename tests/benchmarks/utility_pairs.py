"""The synthetic pairs of the utility benchmark: a generator for each hospital and fold, and for its first N cases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.pairs import Pair
from shared.study import ImageSpec, StyleSpec
from site_node.generators.cohort.presets import COHORT_PRESETS
from site_node.generators.cohort.training import train_cohort
from site_node.style.interface import another, prepare
from tests.benchmarks.singan_quality import usable
from tests.benchmarks.utility_data import Hospital
from tests.benchmarks.utility_parts import Parts, Settings

GENERATOR_SEED = 0
FEW_SAMPLES = 10  # for each of the few cases, as in SinGAN-Seg's evaluation
_STYLE_BATCH = 32


@dataclass(frozen=True)
class Drawn:
    """A generator's samples, and how many cases it was trained on."""

    samples: tuple[Pair, ...]
    cases: int

    def per_case(self, count: int) -> list[Pair]:
        """`count` samples for each training case, less those that are not usable."""
        return usable(self.samples[: count * self.cases])


def drawn(parts: Parts, settings: Settings, hospital: Hospital, preset: str, count: int, few: int | None) -> Drawn:
    """`count` samples a case of a generator that saw the hospital's training cases, or the first `few` alone."""
    cases = hospital.training[:few]
    name = f"pairs-{hospital.name}" if few is None else f"pairs-{hospital.name}-few{few}"
    resting = {**settings, "hospital": hospital.name, "few": few, "preset": preset, "count": count}
    checkpoint = parts.path(name, resting, "checkpoint")

    def make() -> Sequence[Pair]:
        start = time.process_time()
        generator = train_cohort(
            [pair for _, pair in cases], COHORT_PRESETS[preset], seed=GENERATOR_SEED, checkpoint=checkpoint
        )
        made = generator.sample(GENERATOR_SEED, count * len(cases))
        checkpoint.unlink(missing_ok=True)
        seconds = {"core_s": time.process_time() - start, "cases": len(cases), "samples": len(made)}
        parts.json(f"cost-{name}", resting, lambda: seconds)
        return made

    return Drawn(tuple(parts.pairs(name, resting, make)), len(cases))


def styled(
    parts: Parts, settings: Settings, hospital: Hospital, raw: Sequence[Pair], style: StyleSpec, weights: Path | None
) -> list[Pair]:
    """The samples in the style of training cases of their hospital, drawn for each; masks as they were."""
    name = f"styled-{hospital.name}-{style.kind}-{style.strength:g}-{style.content_to_style:g}"
    resting = {**settings, "hospital": hospital.name, "style": style.model_dump(), "samples": len(raw)}

    def make() -> Sequence[Pair]:
        start = time.process_time()
        image = ImageSpec(size_px=raw[0].mask.shape[0], channels=3)
        method = prepare(style, image, weights=weights, public=None, stored=None, seed=GENERATOR_SEED)
        references = [
            hospital.training[another(len(hospital.training), None, seed)][1].image for seed in range(len(raw))
        ]
        made: list[Pair] = []
        for first in range(0, len(raw), _STYLE_BATCH):
            part = slice(first, first + _STYLE_BATCH)
            made += method.apply(raw[part], references[part], first)
        moved = float(np.mean([np.abs(a.image.astype(float) - b.image).mean() for a, b in zip(raw, made, strict=True)]))
        figures = {"core_s": time.process_time() - start, "samples": len(made), "mean_change": moved}
        parts.json(f"cost-{name}", resting, lambda: figures)
        return made

    return parts.pairs(name, resting, make)
