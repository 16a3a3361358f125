"""Generators against each other: what they cost, how good their samples are, and what training on them is worth.

It runs part by part. Each part's figures of one size stay in build/bench/singan-parts and are put together at the end,
so that a long benchmark can be run in pieces. A part that was made with other options is left out, and named.

    timing    core-seconds and memory: the authors' loop, `faithful`, the short preset
    worker    memory of a worker at 250 px, and whether time grows as the number of cases does
    real      UNet++ trained on the real pairs
    per_case  one pyramid a case
    cohort    one generator for all cases, with the labeller's masks and with its own
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from shared.pairs import Pair
from site_node.generators.cohort.presets import COHORT_PRESETS
from site_node.generators.per_case.presets import FAITHFUL, PRESETS
from tests.benchmarks import singan_arms as arms
from tests.benchmarks import singan_quality as quality
from tests.benchmarks import singan_report as report
from tests.benchmarks import singan_timing as timing
from tests.benchmarks.harness import Claim, Row, environment
from tests.benchmarks.options import integers, read_into, some_of
from tests.benchmarks.singan_report import Figure, Figures

PARTS = ("timing", "worker", "real", "per_case", "cohort")
SAMPLES_A_CASE = 10
REPEATS = 3
WORKER_PX = 250
PEAK_ITERATIONS = 2
LINEAR_PX = 64
LINEAR_CASES = (2, 6)
_FEWEST_FOR_HALVES = 4


@dataclass(frozen=True)
class Options:
    """data: a folder with images/ and masks/, None for phantoms; cases: of the training part; seeds: of generators and
    of segmenters, paired; few: cases that get a pyramid each; compared: those of them that `faithful` gets too; share:
    of its iterations, at 64 px, and at other sizes so many that it costs about as much; timed: iterations a scale in
    `timing`; steps: of the segmenter; samples: of a cohort's generator; preset: of both kinds, in place of `fast`.
    """

    data: Path | None = None
    cases: int = 200
    seeds: int = 3
    sizes: tuple[int, ...] = (64, 128)
    parts: tuple[str, ...] = PARTS
    few: int = 10
    compared: int = 2
    share: float = 0.05
    timed: int = 6
    samples: int = 1000
    steps: int = 200
    preset: str = "fast"
    folder: Path = Path("build/bench")

    def shared_iterations(self, size_px: int) -> int:
        """Iterations a scale of `faithful` where its samples are judged."""
        return max(1, round(FAITHFUL.iterations[0] * self.share * (64 / size_px) ** 2))

    def settings(self) -> dict[str, object]:
        """What parts must agree on to be put together."""
        free = ("seeds", "sizes", "parts", "folder")
        values = {name: value for name, value in asdict(self).items() if name not in free}
        return values | {"data": None if self.data is None else self.data.name}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `make bench NAME=singan` passes on."""
    parser.add_argument("--data", type=Path, help="folder with images/, masks/ and perhaps patients.csv or index.csv")
    parser.add_argument("--sizes", type=integers, default=Options.sizes, help="sides in pixels, as 64,128")
    parser.add_argument("--parts", type=some_of(PARTS), default=PARTS, help="some of " + ",".join(PARTS))
    parser.add_argument("--preset", choices=sorted(PRESETS.keys() & COHORT_PRESETS.keys()), default=Options.preset)
    parser.add_argument("--share", type=float, default=Options.share, help="of faithful's iterations, at 64 px")
    for name in ("cases", "seeds", "few", "compared", "timed", "samples", "steps"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Options, name))


def options_of(namespace: argparse.Namespace) -> Options:
    """The options that were parsed."""
    return read_into(Options, namespace)


def measure(options: Options) -> tuple[list[Row], list[Claim]]:
    """Runs the parts that are asked for, then reports on all parts that are there."""
    torch.set_num_threads(1)
    cases = arms.read_cases(options.data, options.cases)
    for part in options.parts:
        for size in (WORKER_PX,) if part == "worker" else options.sizes:
            start = time.monotonic()
            _save(options, part, size, _RUN[part](options, size, cases))
            _say(f"{part} at {size} px: {time.monotonic() - start:.0f} s")
    figures = together(options)
    report.plot(figures, options.folder / "singan.png")
    return report.rows(figures), report.claims(figures)


def _timing(options: Options, size: int, cases: arms.Cases) -> list[Figure]:
    pairs = [pair for _, pair in arms.at(cases.training[:REPEATS], size)]
    short = PRESETS[options.preset]
    timed = timing.time_sides(pairs, short, iterations=options.timed, repeats=REPEATS)
    share = f"{options.timed} of {FAITHFUL.iterations[0]} iterations a scale, scaled up"
    found = []
    for arm, preset, words, seconds in (
        ("reference", None, f"reference, {share}", timed.reference),
        ("faithful", FAITHFUL, f"faithful, {share}", timed.faithful),
        ("fast", short, f"{short.name}, whole cases", timed.short),
    ):
        found.append(Figure(size, arm, words, "timed_s", seconds))
        found.append(_peak(size, arm, arm if preset is None else preset.name, pairs[0], preset))
    return found


def _peak(size: int, arm: str, name: str, pair: Pair, preset: object) -> Figure:
    peak = arms.in_fresh_process(timing.peak_of_training, pair, preset, PEAK_ITERATIONS)
    return Figure(size, arm, f"{name}, {PEAK_ITERATIONS} iterations a scale", "short_peak_mb", [peak])


def _worker(options: Options, size: int, cases: arms.Cases) -> list[Figure]:
    short = PRESETS[options.preset]
    pair = arms.at(cases.training[:1], size)[0][1]
    found = [_peak(size, arm, preset.name, pair, preset) for arm, preset in (("faithful", FAITHFUL), ("fast", short))]
    small = [pair for _, pair in arms.at(cases.training[: max(LINEAR_CASES)], LINEAR_PX)]
    for count, seconds in zip(LINEAR_CASES, timing.over_cases(small, short, LINEAR_CASES), strict=True):
        words = f"{short.name}, {count} whole cases in a row"
        found.append(Figure(LINEAR_PX, f"fast {count}", words, "timed_s", [seconds / count]))
    return found


def _real(options: Options, size: int, cases: arms.Cases) -> list[Figure]:
    training, test = [pair for _, pair in arms.at(cases.training, size)], arms.at(cases.test, size)
    found = []
    for arm, at_most in (("real", len(training)), ("real few", options.few), ("real compared", options.compared)):
        pairs = training[:at_most]
        words = f"{len(pairs)} real pairs"
        found.append(_use(options, size, arm, words, [pairs] * options.seeds, test))
        if len(pairs) >= _FEWEST_FOR_HALVES:
            halves = [_halves(pairs, seed) for seed in range(options.seeds)]
            found.append(Figure(size, arm, words, "halves", halves))
    return found


def _halves(pairs: Sequence[Pair], seed: int) -> float:
    shuffled = random.Random(seed).sample(pairs, len(pairs))
    middle = len(pairs) // 2
    return quality.patch_distance(shuffled[:middle], shuffled[middle : 2 * middle], seed=seed)


def _per_case(options: Options, size: int, cases: arms.Cases) -> list[Figure]:
    few = replace(cases, training=cases.training[: options.few])
    compared = replace(cases, training=cases.training[: options.compared])
    short, iterations = PRESETS[options.preset], options.shared_iterations(size)
    shared = replace(FAITHFUL, iterations=(iterations,))
    words = {
        "fast": f"{short.name}, {len(few.training)} cases x {SAMPLES_A_CASE} samples",
        "fast compared": f"{short.name}, {len(compared.training)} cases x {SAMPLES_A_CASE} samples",
        "faithful share": f"reference by way of faithful, {iterations} of {FAITHFUL.iterations[0]} iterations a scale, "
        f"{len(compared.training)} cases x {SAMPLES_A_CASE} samples",
    }
    found = []
    for arm, preset, part in (("fast", short, few), ("faithful share", shared, compared)):
        pairs = [pair for _, pair in arms.at(part.training, size)]
        drawn = []
        for seed in range(options.seeds):
            drawn.append(arms.in_fresh_process(arms.per_case, preset, pairs, seed, SAMPLES_A_CASE))
            _say(f"{arm} at {size} px, seed {seed}: {drawn[-1].train_s:.0f} core-seconds")
        found += _judge(options, size, arm, words[arm], drawn, part)
        kept = [len(set(one.sources)) / len(pairs) for one in drawn]
        found.append(Figure(size, arm, words[arm], "kept", kept))
        if arm == "fast":
            firsts = [
                [pair for pair, source in zip(one.pairs, one.sources, strict=True) if source < options.compared]
                for one in drawn
            ]
            test = arms.at(cases.test, size)
            found.append(_use(options, size, "fast compared", words["fast compared"], firsts, test))
    return found


def _cohort(options: Options, size: int, cases: arms.Cases) -> list[Figure]:
    preset = COHORT_PRESETS[options.preset]
    pairs = [pair for _, pair in arms.at(cases.training, size)]
    both = []
    for seed in range(options.seeds):
        both.append(arms.in_fresh_process(arms.cohort, preset, pairs, seed, options.samples))
        _say(f"cohort at {size} px, seed {seed}: {both[-1][0].train_s:.0f} core-seconds")
    of = f"{len(pairs)} cases, {options.samples} samples"
    found = []
    for arm, words, which in (("cohort", "cohort", 0), ("cohort own", "cohort with own masks", 1)):
        found += _judge(options, size, arm, f"{words}, {of}", [one[which] for one in both], cases)
    return found


def _judge(
    options: Options, size: int, arm: str, words: str, drawn: Sequence[arms.Drawn], cases: arms.Cases
) -> list[Figure]:
    """All columns of an arm; drawn: by seed; cases: those that it was trained on, and the others. Writes its sheet."""
    training, holdout = ([pair for _, pair in arms.at(part, size)] for part in (cases.training, cases.validation))
    report.sheet(drawn[0].pairs, training, options.folder / "sheets" / f"{arm.replace(' ', '-')}-{size}.png")
    reals, others = [pair.image for pair in training], [pair.image for pair in holdout]
    copying = [quality.copying([pair.image for pair in one.pairs], reals, others) for one in drawn]
    columns = {
        "core_s": [one.train_s / len(training) for one in drawn],
        "sample_s": [one.sample_s for one in drawn],
        "peak_mb": [one.peak_mb for one in drawn],
        "patch": [quality.patch_distance(one.pairs, training, seed=seed) for seed, one in enumerate(drawn)],
        "diversity": [quality.diversity(one.pairs, training) for one in drawn],
        "binary": [one.binarity for one in drawn],
        "usable": [len(quality.usable(one.pairs)) / len(one.pairs) for one in drawn],
        "nearest": [nearest for nearest, _ in copying],
        "q5": [q5 for _, q5 in copying],
    }
    found = [Figure(size, arm, words, column, values) for column, values in columns.items()]
    return [*found, _use(options, size, arm, words, [one.pairs for one in drawn], arms.at(cases.test, size))]


def _use(
    options: Options,
    size: int,
    arm: str,
    words: str,
    sets: Sequence[Sequence[Pair]],
    test: Sequence[tuple[str, Pair]],
) -> Figure:
    """IoU on the test cases; sets: what the segmenter of each seed is trained on."""
    values = [quality.iou_of_use(pairs, test, steps=options.steps, seed=seed) for seed, pairs in enumerate(sets)]
    _say(f"{arm} at {size} px: IoU {', '.join(f'{value:.3f}' for value in values)}")
    return Figure(size, arm, f"{words}, {len(test)} test cases", "iou", values)


_RUN: dict[str, Callable[[Options, int, arms.Cases], list[Figure]]] = {
    "timing": _timing,
    "worker": _worker,
    "real": _real,
    "per_case": _per_case,
    "cohort": _cohort,
}


def _save(options: Options, part: str, size: int, found: Sequence[Figure]) -> None:
    folder = options.folder / "singan-parts"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": options.settings(),
        "environment": environment(),
        "figures": [asdict(figure) for figure in found],
    }
    (folder / f"{part}-{size}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def together(options: Options) -> Figures:
    """The figures of all parts that were made with these options, whenever that was."""
    found: list[Figure] = []
    for path in sorted((options.folder / "singan-parts").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["settings"] == json.loads(json.dumps(options.settings())):
            found += [Figure(**figure) for figure in content["figures"]]
        else:
            _say(f"{path.name} was made with other options and is left out")
    return Figures(tuple(found))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
