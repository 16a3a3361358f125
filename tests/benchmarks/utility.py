"""Is it worth sharing? Every arm of an evaluation on two hospitals or more, each network tested at each of them.

It runs part by part. Generators, styled samples and each network's scores stay in build/bench/utility-parts, so that a
killed benchmark goes on, and what was measured before with the same settings is put together with it.

    main      own real; own synthetic; all synthetic; own real beside the others' synthetic; refined; all real
    plain     own real without augmentation, and with the seven classical ones
    style     own synthetic in style, of several kinds and strengths, against the same samples as they were
    per_case  own synthetic with fewer pairs a case
    few       the first N real cases, and 10 N pairs of a generator that saw those alone
    fedavg    Flower's federated averaging of the same network, with and without its central privacy
    memory    peak of a process that trains and scores one network, and three

With FOLDS=1 a third of each hospital's patients is held out, and a hospital has one generator; with FOLDS=3 or more
each patient is tested once, and each fold has generators of its own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch

from shared.errors import SynthwardError
from shared.metrics import Metrics, by_patient
from shared.pairs import LazyPairs, Pair
from shared.segmenter import case_scores
from shared.segmenter_training import set_aside, train
from shared.study import EvaluationSpec, ImageSpec, StyleSpec
from site_node.generators.cohort.presets import COHORT_PRESETS
from tests.benchmarks import utility_report as report
from tests.benchmarks.harness import Claim, Row, row
from tests.benchmarks.singan_arms import in_fresh_process, peak_mb
from tests.benchmarks.utility_data import FEWEST_PARTS, SPLIT_SEED, read_hospitals
from tests.benchmarks.utility_fedavg import DELTA, Federation
from tests.benchmarks.utility_networks import Bench, Network, Part
from tests.benchmarks.utility_parts import Parts
from tests.benchmarks.utility_report import Measured

MEMORY = "memory"
PARTS = (*get_args(Part), MEMORY)
MOST_SEEDS = 20  # that are looked for when parts are put together
# What noise, or a federation of two, can do to a network: reported as what it is, and the others go on.
_DROWNED = ("training.diverged", "metrics.range", "weights.mismatch")
_STYLES = (
    StyleSpec(kind="moments", source="cohort", strength=0.5),
    StyleSpec(kind="moments", source="cohort", strength=1.0),
    StyleSpec(kind="sliced", source="cohort", strength=0.5),
    StyleSpec(kind="sliced", source="cohort", strength=1.0),
)
# SinGAN-Seg's own ratios reach from 1 to 1e-6; it found that more style is better.
_GATYS = (1.0, 1e-3, 1e-6)
_MEMORY_STEPS, _MEMORY_NETWORKS = 20, (1, 3)


@dataclass(frozen=True)
class Options:
    """data: folders of hospitals, two or more, none for phantoms; sizes: the side in pixels; cases: most training cases
    of a hospital, test: most test cases; samples: pairs a case; seeds: of each network of the parts that are run; steps
    and batch: of every network; preset, few_preset: of the generators of all cases, and of a few; style_weights: of the
    network for `gatys`, which is left out without; few: the N; rounds: of a federation.
    """

    data: tuple[Path, ...] = ()
    sizes: int = 96
    cases: int = 250
    test: int = 150
    samples: int = 5
    seeds: int = 3
    folds: int = 1
    steps: int = 200
    batch: int = 8
    preset: str = "fast"
    few_preset: str = "demo"
    parts: tuple[str, ...] = PARTS
    few: tuple[int, ...] = (5, 10, 20, 50)
    per_case: tuple[int, ...] = (1, 2, 3)
    rounds: int = 5
    style_weights: Path | None = None
    style_steps: int = 50
    folder: Path = Path("build/bench")

    def image(self) -> ImageSpec:
        """What every pair looks like."""
        return ImageSpec(size_px=self.sizes, channels=3)

    def spec(self) -> EvaluationSpec:
        """How every network is trained."""
        return EvaluationSpec(steps=self.steps, batch_size=self.batch)

    def resting(self, fold: int) -> dict[str, object]:
        """What a fold's generators rest on."""
        names = [path.name for path in self.data]
        return {"data": names, "size": self.sizes, "fold": fold, "folds": self.folds, "training": self.cases}

    def scored(self, fold: int, part: str) -> dict[str, object]:
        """What the scores of a part's networks rest on besides."""
        drawn = {"samples": self.samples, "preset": self.preset}
        own = {
            "few": {"few_preset": self.few_preset},
            "style": {"style_steps": self.style_steps},
            "fedavg": {"rounds": self.rounds},
        }
        trained = {"test": self.test, "steps": self.steps, "batch": self.batch}
        return {**self.resting(fold), **drawn, **trained, **own.get(part, {})}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `make bench NAME=utility` passes on."""
    parser.add_argument(
        "--data", type=Path, nargs="+", default=(), help="folders of hospitals: images/, masks/, patients"
    )
    parser.add_argument("--parts", type=_parts, default=PARTS, help="some of " + ",".join(PARTS))
    for name in ("preset", "few-preset"):
        default = getattr(Options, name.replace("-", "_"))
        parser.add_argument(f"--{name}", choices=sorted(COHORT_PRESETS), default=default)
    parser.add_argument("--folds", type=_folds, default=Options.folds, help="1 for a fixed hold-out, or 3 and more")
    parser.add_argument("--style-weights", type=Path, help="safetensors of a network for style of kind gatys")
    for name in ("sizes", "cases", "test", "samples", "seeds", "steps", "batch", "rounds"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Options, name))


def options_of(namespace: argparse.Namespace) -> Options:
    """The options that were parsed. Raises ValueError for a single folder: nobody would be the other hospital."""
    names = {field.name for field in fields(Options)}
    options = {name: value for name, value in vars(namespace).items() if name in names}
    data = tuple(options.pop("data"))
    if len(data) == 1:
        raise ValueError("one folder of pairs: an evaluation across hospitals needs two or more")
    return Options(data=data, **options)


def _parts(text: str) -> tuple[str, ...]:
    named = tuple(text.replace(",", " ").split())
    if unknown := set(named) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not one of {', '.join(PARTS)}")
    return named


def _folds(text: str) -> int:
    folds = int(text)
    if folds != 1 and folds < FEWEST_PARTS:
        raise argparse.ArgumentTypeError(f"folds are 1, a fixed hold-out, or {FEWEST_PARTS} and more")
    return folds


def measure(options: Options) -> tuple[list[Row], list[Claim]]:
    """Runs the parts that are asked for, then reports on all that were measured with the same settings."""
    torch.set_num_threads(1)
    benches = [bench_of(options, fold) for fold in range(options.folds)]
    for part in options.parts:
        if part == MEMORY:
            _peaks(options, benches[0])
            continue
        for seed in range(options.seeds):
            for fold, bench in enumerate(benches):
                for network in bench.networks():
                    if network.part == part:
                        _scores(options, bench, fold, network, seed)
    measured = list(together(options, benches))
    peaks = _peaks(options, benches[0]) if MEMORY in options.parts else None
    report.plot(measured, options.folder / "utility.png")
    words = f"{options.sizes} px"
    spent = [
        row(f"{federation.label}: epsilon for a whole hospital, delta {DELTA:g}", "epsilon", [federation.epsilon])
        for federation in benches[0].federations
        if federation.noise is not None and any(found.label == federation.label for found in measured)
    ]
    return [*report.rows(words, measured, peaks), *spent], report.claims(words, measured, peaks)


def bench_of(options: Options, fold: int) -> Bench:
    """A fold's hospitals, and what its networks share."""
    gatys = [
        StyleSpec(kind="gatys", source="cohort", strength=1.0, content_to_style=ratio, steps=options.style_steps)
        for ratio in _GATYS
    ]
    return Bench(
        parts=Parts(options.folder / "utility-parts"),
        resting=options.resting(fold),
        hospitals=read_hospitals(
            options.data, size_px=options.sizes, fold=fold, folds=options.folds, most_training=options.cases,
            most_test=options.test,
        ),
        spec=options.spec(),
        image=options.image(),
        preset=options.preset,
        few_preset=options.few_preset,
        samples=options.samples,
        few_cases=options.few,
        per_case=options.per_case,
        styles=(*_STYLES, *(gatys if options.style_weights else ())),
        style_weights=options.style_weights,
        federations=[Federation(options.rounds, noise) for noise in (None, 0.001, 1.0)],
    )  # fmt: skip


def _scores(options: Options, bench: Bench, fold: int, network: Network, seed: int) -> None:
    """Trains a network and scores it on the test cases of every hospital, unless that is there already."""

    def make() -> dict[str, Any]:
        start = time.process_time()
        try:
            model = network.train(seed)
            scores = {
                hospital.name: {
                    patient: metrics.model_dump()
                    for patient, metrics in by_patient(case_scores(model, hospital.test)).items()
                }
                for hospital in bench.hospitals
            }
        except SynthwardError as error:
            if error.code not in _DROWNED:
                raise
            return {"failed": error.code}
        _say(f"{network.name}, seed {seed}, fold {fold}: {time.process_time() - start:.0f} core-seconds")
        return {"scores": scores, "core_s": time.process_time() - start}

    bench.parts.json(f"network-{network.name}-seed{seed}", options.scored(fold, network.part), make)


def together(options: Options, benches: Sequence[Bench]) -> Iterator[Measured]:
    """What was measured of each network, by seed; a seed counts where every fold has it."""
    for network in benches[0].networks():
        found = Measured(network.part, network.label, network.trained_on, network.n)
        for seed in range(MOST_SEEDS):
            paths = [
                bench.parts.path(f"network-{network.name}-seed{seed}", options.scored(fold, network.part), "json")
                for fold, bench in enumerate(benches)
            ]
            if all(path.exists() for path in paths):
                parts = [Parts.read(path) for path in paths]
                if any("failed" in part for part in parts):
                    found.failed.append(next(part["failed"] for part in parts if "failed" in part))
                    continue
                for hospital in benches[0].hospitals:
                    # Folds share no patient, so their scores stand side by side.
                    found.scores.setdefault(hospital.name, {})[seed] = {
                        patient: Metrics.model_validate(metrics)
                        for part in parts
                        for patient, metrics in part["scores"][hospital.name].items()
                    }
        if found.scores or found.failed:
            yield found


def _peaks(options: Options, bench: Bench) -> dict[int, float]:
    """Number of networks in a row -> peak of the process, MB of 10^6 bytes."""
    pairs = [pair for _, pair in bench.hospitals[0].training]

    def make() -> dict[str, Any]:
        return {
            str(count): in_fresh_process(peak_of_networks, count, pairs, options.spec(), options.image())
            for count in _MEMORY_NETWORKS
        }

    found = bench.parts.json("memory", options.scored(0, MEMORY), make)
    return {int(count): float(peak) for count, peak in found.items()}


def peak_of_networks(count: int, pairs: Sequence[Pair], spec: EvaluationSpec, image: ImageSpec) -> float:
    """Peak resident memory of this process after it has trained and scored `count` networks, each dropped in turn."""
    for seed in range(count):
        places = range(len(pairs))
        # Read when they are asked for, as the coordinator reads a dataset's.
        fit, validation = (
            LazyPairs(part, pairs.__getitem__)
            for part in set_aside(places, [str(place) for place in places], seed=SPLIT_SEED)
        )
        model = train(fit, spec, image, seed=seed, steps=min(_MEMORY_STEPS, spec.steps), validation=validation)
        case_scores(model, [("patient", pair) for pair in validation])
    return peak_mb()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
