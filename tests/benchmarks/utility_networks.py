"""What each network of the utility benchmark is trained on. The training is the product's own, the same for all.

A network's checkpoint is chosen on a part of what it is trained on: real cases by patient, drawn pairs one by one. The
test cases choose nothing, and no generator saw a patient on whom its pairs are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from shared.augment import Augmentation
from shared.pairs import Pair
from shared.segmenter import Segmenter
from shared.segmenter_training import set_aside, train
from shared.study import EvaluationSpec, ImageSpec, StyleSpec
from tests.benchmarks.utility_data import SPLIT_SEED, Case, Hospital
from tests.benchmarks.utility_fedavg import Federation, federated
from tests.benchmarks.utility_pairs import FEW_SAMPLES, Drawn, drawn, styled
from tests.benchmarks.utility_parts import Parts, Settings

Part = Literal["main", "plain", "style", "per_case", "few", "fedavg"]
ALL = "all"  # trained on what every hospital has
STYLE_PER_CASE = 1
Halves = tuple[list[Pair], list[Pair]]  # to fit, and to validate


@dataclass(frozen=True)
class Network:
    """One network, for any seed. trained_on: a hospital, or ALL. n: cases of the few arms, or pairs a case."""

    part: Part
    label: str
    trained_on: str
    train: Callable[[int], Segmenter]
    n: int | None = None

    @property
    def name(self) -> str:
        """As a file may be called."""
        return "-".join([self.label.replace(" ", "_"), *([str(self.n)] if self.n else []), "of", self.trained_on])


@dataclass(frozen=True)
class Bench:
    """One fold: its hospitals, how networks are trained, and how pairs are drawn.

    resting: the settings that generators rest on. samples: most pairs a case. style_weights: a network's for `gatys`.
    """

    parts: Parts
    resting: Settings
    hospitals: Sequence[Hospital]
    spec: EvaluationSpec
    image: ImageSpec
    preset: str
    few_preset: str
    samples: int
    few_cases: Sequence[int]
    per_case: Sequence[int]
    styles: Sequence[StyleSpec]
    style_weights: Path | None
    federations: Sequence[Federation]
    _cached: dict[object, Segmenter] = field(default_factory=dict)

    def networks(self) -> list[Network]:
        """All of them."""
        found: list[Network] = []
        for hospital in self.hospitals:
            of = hospital.name
            real = partial(self._real, (hospital,))
            found += [
                Network("main", "real_own", of, real),
                Network("main", "synthetic_own", of, partial(self._synthetic, (hospital,), self.samples)),
                Network("main", "real_and_others", of, partial(self._real_and_others, hospital)),
                Network("main", "refined", of, partial(self._refined, hospital)),
                Network("plain", "real_plain", of, partial(self._real, (hospital,), augmentation="none")),
                Network("plain", "real_classical", of, partial(self._real, (hospital,), augmentation="classical")),
            ]
        found += [
            Network("main", "synthetic_pooled", ALL, partial(self._synthetic, self.hospitals, self.samples)),
            Network("main", "real_pooled", ALL, partial(self._real, self.hospitals)),
        ]
        found += [
            Network("fedavg", federation.label, ALL, partial(self._federated, federation))
            for federation in self.federations
        ]
        # What is compared with each other stands together, so that a benchmark that is cut short has whole comparisons.
        for n in self.per_case:
            found += [
                Network("per_case", "synthetic_own", h.name, partial(self._synthetic, (h,), n), n)
                for h in self.hospitals
            ]
        for style in self.styles:
            found += [
                Network("style", label_of(style), h.name, partial(self._styled, h, style)) for h in self.hospitals
            ]
        for n in self.few_cases:
            for hospital in (h for h in self.hospitals if len(h.training) >= n):
                real, synthetic = partial(self._real, (hospital,), few=n), partial(self._few_synthetic, hospital, n)
                found.append(Network("few", "few_real", hospital.name, real, n))
                found.append(Network("few", "few_synthetic", hospital.name, synthetic, n))
        return found

    def drawn(self, hospital: Hospital) -> Drawn:
        """The hospital's pairs."""
        return drawn(self.parts, self.resting, hospital, self.preset, self.samples, None)

    def _train(self, halves: Halves, seed: int, **options: object) -> Segmenter:
        fit, validation = halves
        return train(fit, self.spec, self.image, seed=seed, validation=validation, **options)  # type: ignore[arg-type]

    def _real(
        self,
        hospitals: Sequence[Hospital],
        seed: int,
        *,
        augmentation: Augmentation = "full",
        few: int | None = None,
    ) -> Segmenter:
        halves = joined([real_halves(hospital.training[:few]) for hospital in hospitals])
        return self._train(halves, seed, augmentation=augmentation)

    def _synthetic(self, hospitals: Sequence[Hospital], per_case: int, seed: int) -> Segmenter:
        return self._train(self._synthetic_halves(hospitals, per_case), seed)

    def _synthetic_halves(self, hospitals: Sequence[Hospital], per_case: int) -> Halves:
        return joined([apart_each(self.drawn(hospital).per_case(per_case)) for hospital in hospitals])

    def _real_and_others(self, own: Hospital, seed: int) -> Segmenter:
        others = [pair for h in self.hospitals if h != own for pair in self.drawn(h).per_case(self.samples)]
        return self._train(real_halves(own.training), seed, beside=others)

    def _refined(self, own: Hospital, seed: int) -> Segmenter:
        """HyFree-S3's protocol: all hospitals' synthetic pairs, then own real cases."""
        first = self.spec.steps // 2
        if seed not in self._cached:
            self._cached.clear()
            halves = self._synthetic_halves(self.hospitals, self.samples)
            self._cached[seed] = self._train(halves, seed, steps=first)
        return self._train(real_halves(own.training), seed, start=self._cached[seed], steps=self.spec.steps - first)

    def _styled(self, hospital: Hospital, style: StyleSpec, seed: int) -> Segmenter:
        raw = self.drawn(hospital).per_case(STYLE_PER_CASE)
        pairs = styled(self.parts, self.resting, hospital, raw, style, self.style_weights)
        return self._train(apart_each(pairs), seed)

    def _few_synthetic(self, hospital: Hospital, cases: int, seed: int) -> Segmenter:
        few = drawn(self.parts, self.resting, hospital, self.few_preset, FEW_SAMPLES, cases)
        return self._train(apart_each(few.per_case(FEW_SAMPLES)), seed)

    def _federated(self, federation: Federation, seed: int) -> Segmenter:
        cohorts = [[pair for _, pair in hospital.training] for hospital in self.hospitals]
        return federated(federation, cohorts, self.spec, self.image, seed=seed)


def label_of(style: StyleSpec) -> str:
    """What the arm of a style is called."""
    by = f"content:style {style.content_to_style:g}" if style.kind == "gatys" else f"{style.strength:g}"
    return f"synthetic_own {style.kind} {by}"


def real_halves(cases: Sequence[Case]) -> Halves:
    """(fit, validation) by patient; the same whatever the seed of the network."""
    fit, validation = set_aside(cases, [patient for patient, _ in cases], seed=SPLIT_SEED)
    return [pair for _, pair in fit], [pair for _, pair in validation]


def apart_each(pairs: Sequence[Pair]) -> Halves:
    """The same for drawn pairs, which have no patient."""
    return set_aside(pairs, [str(place) for place in range(len(pairs))], seed=SPLIT_SEED)


def joined(halves: Sequence[Halves]) -> Halves:
    """Those of several hospitals together."""
    return [pair for fit, _ in halves for pair in fit], [pair for _, validation in halves for pair in validation]
