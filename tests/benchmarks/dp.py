"""Private training against its prior: what a segmenter learns from pairs at epsilon 1, 3 and 8, and what a step costs.

It runs part by part, seed by seed; each figure is kept in build/bench/dp-parts as soon as it is known, and a run that
was ended, or asks for one seed more, goes on from there. All are put together at the end. A part that was made with
other options is left out, and named.

    step      core-seconds of a private critic step over those of a plain one
    audit     planted canaries in one run, without noise and with it
    real      UNet++ trained on the real pairs
    prior     on scenes of nobody: epsilon 0
    cohort    on the cohort generator's pairs, without differential privacy
    private   on the private generator's pairs
    scratch   on those of a generator from scratch with the same private critic
    moments   on scenes whose colours have the real ones' pooled moments, noised: nine numbers
    votes     on scenes of those groups that patients voted for, noised
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from shared.pairs import Pair
from site_node.generators.cohort.presets import COHORT_PRESETS
from site_node.generators.cohort.training import train_cohort
from site_node.generators.private_cohort.presets import PRIVATE_PRESETS
from tests.benchmarks import dp_arms as arms
from tests.benchmarks import dp_audit as audit
from tests.benchmarks import dp_releases as releases
from tests.benchmarks import dp_report as report
from tests.benchmarks import singan_quality
from tests.benchmarks.dp_report import Figure
from tests.benchmarks.harness import Claim, Row, environment
from tests.benchmarks.options import integers, numbers, read_into, some_of
from tests.benchmarks.singan_arms import Case

PARTS = ("step", "audit", "real", "prior", "cohort", "private", "scratch", "moments", "votes")
EPSILONS = (1.0, 3.0, 8.0)
CANARIES = 150
_AUDITED_STEPS, _AUDITED_Q, _DELTA = 60, 0.2, 1e-4
_STEP_REPEATS = 30


@dataclass(frozen=True)
class Options:
    """data: a folder with images/ and masks/, None for phantoms; cases: sizes of the training part, each of which is
    measured; seeds: of generators and of segmenters, paired; samples: of each generator; steps: of the segmenter;
    private_steps: of the critic; preset: of both kinds of generator.
    """

    data: Path | None = None
    cases: tuple[int, ...] = (100, 200, 400)
    seeds: int = 3
    sizes: tuple[int, ...] = (96,)
    parts: tuple[str, ...] = PARTS
    epsilons: tuple[float, ...] = EPSILONS
    samples: int = 1000
    steps: int = 200
    private_steps: int = 600
    preset: str = "fast"
    folder: Path = Path("build/bench")

    def settings(self) -> dict[str, object]:
        """What parts must agree on to be put together."""
        kept = ("samples", "steps", "private_steps", "preset")
        data = None if self.data is None else self.data.name
        return {name: value for name, value in asdict(self).items() if name in kept} | {"data": data}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that `make bench NAME=dp` passes on."""
    parser.add_argument("--data", type=Path, help="folder with images/, masks/ and perhaps patients.csv or index.csv")
    parser.add_argument("--cases", type=integers, default=Options.cases, help="sizes of a cohort, as 100,200,400")
    parser.add_argument("--sizes", type=integers, default=Options.sizes, help="sides in pixels, as 96")
    parser.add_argument("--epsilons", type=numbers, default=EPSILONS, help="as 1,3,8")
    parser.add_argument("--parts", type=some_of(PARTS), default=PARTS, help="some of " + ",".join(PARTS))
    parser.add_argument("--preset", choices=sorted(PRIVATE_PRESETS.keys() & COHORT_PRESETS.keys()), default="fast")
    parser.add_argument("--private-steps", type=int, default=Options.private_steps)
    for name in ("seeds", "samples", "steps"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Options, name))


def options_of(namespace: argparse.Namespace) -> Options:
    """The options that were parsed."""
    return read_into(Options, namespace)


def measure(options: Options) -> tuple[list[Row], list[Claim]]:
    """Runs the parts that are asked for, then reports on all parts that are there."""
    torch.set_num_threads(1)
    for part in options.parts:
        if part in _OF_NOBODY:
            _save(options, part, _OF_NOBODY[part](options))
            continue
        for size in options.sizes:
            for count in options.cases:
                start = time.monotonic()
                training, test = arms.read_cases(options.data, count, size)
                _Run(options, size, training, test).part(part)
                _say(f"{part}, {count} cases at {size} px: {time.monotonic() - start:.0f} s")
    figures = together(options)
    report.plot(figures, options.folder / "dp.png")
    return report.rows(figures), report.claims(figures)


def _step(options: Options) -> list[Figure]:
    private, plain = arms.step_seconds(PRIVATE_PRESETS[options.preset], _STEP_REPEATS)
    return [Figure(0, 0, "step private", 0.0, "step_s", private), Figure(0, 0, "step plain", 0.0, "step_s", plain)]


def _audit(options: Options) -> list[Figure]:
    found = []
    for epsilon in (float("inf"), EPSILONS[-1], EPSILONS[0]):
        sigma = 0.0 if epsilon == float("inf") else arms.sigma_for(
            epsilon, _DELTA, q=_AUDITED_Q, steps=_AUDITED_STEPS
        )  # fmt: skip
        one = audit.run(
            CANARIES, sigma=sigma, clip=arms.CLIP, q=_AUDITED_Q, steps=_AUDITED_STEPS, delta=_DELTA
        )  # fmt: skip
        claimed = -1.0 if sigma == 0.0 else epsilon  # JSON has no infinity
        found.append(Figure(0, one.canaries, "audit", claimed, "certified", [one.lower_bound]))
        found.append(Figure(0, one.canaries, "audit", claimed, "certifiable", [one.most]))
    return found


_OF_NOBODY: dict[str, Callable[[Options], list[Figure]]] = {"step": _step, "audit": _audit}


@dataclass(frozen=True)
class _Run:
    """One cohort at one size."""

    options: Options
    size: int
    training: Sequence[Case]
    test: Sequence[Case]

    def part(self, part: str) -> None:
        """Its figures, one an epsilon where it has one."""
        pairs = [pair for _, pair in self.training]
        if part == "real":
            self._use(part, -1.0, lambda _: pairs)
        elif part == "prior":
            self._use(part, 0.0, lambda seed: arms.prior_alone(self.size, self.options.samples, seed))
        elif part == "cohort":
            preset, samples = COHORT_PRESETS[self.options.preset], self.options.samples
            self._use(part, -1.0, lambda seed: train_cohort(pairs, preset, seed=seed).sample(seed, samples))
        else:
            for epsilon in self.options.epsilons:
                self._use(part, epsilon, self._drawn(part, epsilon))

    def _drawn(self, part: str, epsilon: float) -> Callable[[int], Sequence[Pair]]:
        patients = arms.by_patient(self.training)
        if part in ("moments", "votes"):
            make = releases.with_moments_of if part == "moments" else releases.voted_for
            sigma = releases.sigma_of(epsilon, len(patients))
            return lambda seed: make(patients, sigma, self.size, self.options.samples, seed)
        privacy = arms.privacy_of(epsilon, len(patients), self.options.private_steps)
        draw = arms.private_pairs if part == "private" else arms.scratch_pairs
        preset = PRIVATE_PRESETS[self.options.preset]
        return lambda seed: draw(self.training, preset, privacy, self.size, self.options.samples, seed)

    def _use(self, arm: str, epsilon: float, drawn: Callable[[int], Sequence[Pair]]) -> None:
        """Adds the seeds that are not known yet, one by one."""
        count, name = len(self.training), f"{arm}-{self.size}-{len(self.training)}"
        # Scenes of nobody know no cohort, and the test cases are the same for every count.
        from_file = f"{arm}-{self.size}-*" if arm == "prior" else name
        known = [figure for figure in _known(self.options, from_file) if figure.epsilon == epsilon]
        values = max((list(figure.values) for figure in known), key=len, default=[])
        for seed in range(len(values), self.options.seeds):
            values.append(singan_quality.iou_of_use(drawn(seed), self.test, steps=self.options.steps, seed=seed))
            _say(f"{arm}, epsilon {epsilon:g}, {count} cases at {self.size} px, seed {seed}: IoU {values[-1]:.3f}")
            self._keep(name, Figure(self.size, count, arm, epsilon, "iou", values))
        self._keep(name, Figure(self.size, count, arm, epsilon, "iou", values))

    def _keep(self, name: str, figure: Figure) -> None:
        others = [other for other in _known(self.options, name) if other.epsilon != figure.epsilon]
        _save(self.options, name, sorted([*others, figure], key=lambda one: one.epsilon))


def _save(options: Options, name: str, found: Sequence[Figure]) -> None:
    folder = options.folder / "dp-parts"
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "settings": options.settings(),
        "environment": environment(),
        "figures": [asdict(figure) for figure in found],
    }
    (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def together(options: Options) -> list[Figure]:
    """The figures of all parts that were made with these options, whenever that was; of nobody's parts with any."""
    return _known(options, "*")


def _known(options: Options, name: str) -> list[Figure]:
    """The figures of the parts of that name, which may be a pattern."""
    found: list[Figure] = []
    for path in sorted((options.folder / "dp-parts").glob(f"{name}.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.stem in _OF_NOBODY or content["settings"] == options.settings():
            found += [Figure(**figure) for figure in content["figures"]]
        else:
            _say(f"{path.name} was made with other options and is left out")
    return found


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
