"""`make bench NAME=screening`: what is found of what is planted, false alarms, and what the screening costs.

On a folder of real pairs (DATA=dir) or, without one, on drawn images. Limits come from the hold-out; false alarms are
counted on patients that neither set a limit nor stand in the bank. The distance that other tools ship, nearest
pixels, is reported beside the checks, with a limit set the same way.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from shared.pairs import Pair, resize_pair, with_channels
from shared.study import MaskLimits
from site_node.intake.folders import FoundCase, load_case, read_folder
from site_node.intake.opening import IntakeLimits
from site_node.phantoms.scenes import scene
from site_node.policy import ScreeningRules
from site_node.screening.controls import PARTS, PLANTED
from site_node.screening.reference import RealCase, Reference, build_reference
from site_node.screening.report import Share
from site_node.screening.screen import Screening
from site_node.work.screening import CONTROL_CASES, screening_pool
from tests.benchmarks.harness import Claim, Row, at_least, at_most, row

TRAINING, HOLDOUT, FRESH = 300, 200, 298
PLANTED_A_KIND = 60
GROWTH = (75, 150, 300)  # training cases
SAMPLES = 1000
RULES = ScreeningRules(0.95, 0.8, 40, "", 0.7, MaskLimits())


@dataclass(frozen=True)
class Options:
    """data: a folder of real pairs, or None for drawn ones."""

    data: Path | None
    sizes: tuple[int, ...]
    parts: tuple[str, ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    """DATA=dir SIZES=256,64 PARTS=controls,cost."""
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--sizes", default="256,128,64")
    parser.add_argument("--parts", default="controls,cost")


def options_of(parsed: argparse.Namespace) -> Options:
    """From the command line."""
    return Options(parsed.data, tuple(int(s) for s in parsed.sizes.split(",")), tuple(parsed.parts.split(",")))


def measure(options: Options) -> tuple[list[Row], list[Claim]]:
    """The parts that are asked for."""
    rows: list[Row] = []
    claims: list[Claim] = []
    parts: dict[str, Callable[[], tuple[list[Row], list[Claim]]]] = {
        "controls": lambda: _controls(options),
        "cost": lambda: _cost(options),
    }
    for name in options.parts:
        found, claimed = parts[name]()
        rows += found
        claims += claimed
    return rows, claims


def _controls(options: Options) -> tuple[list[Row], list[Claim]]:
    rows: list[Row] = []
    claims: list[Claim] = []
    for size in options.sizes:
        training, holdout, fresh = cohort(options.data, size)
        rng = np.random.default_rng(0)
        with screening_pool(0) as pool:
            reference = _reference(training, holdout, pool)

            def judged(pairs: list[Pair], reference: Reference = reference, pool: Any = pool) -> tuple[Share, Share]:
                found = list(pool.map(lambda pair: reference.flagged(reference.scores(pair)) is not None, pairs))
                pixels = [reference.pixels.nearness(pair.image) > reference.pixel_limit for pair in pairs]
                return Share.of(sum(found), len(found)), Share.of(sum(pixels), len(pixels))

            for kind, make in PLANTED.items():
                copies = []
                for place in range(PLANTED_A_KIND):
                    real = training[place * 7 % len(training)].load()
                    copies.append(make(real, holdout[place % len(holdout)].load(), rng))
                found, by_pixel = judged(copies)
                rows += [_share(f"{kind}, {size} px", found), _share(f"{kind}, {size} px, nearest pixel", by_pixel)]
                goal = 0.8 if kind in PARTS else 0.95
                claims.append(at_least(f"{kind} found at {size} px", goal, "", found.k / found.n))
            alarms, by_pixel = judged([case.load() for case in fresh])
            rows += [
                _share(f"false alarms on {len(fresh)} other cases, {size} px", alarms),
                _share(f"false alarms, {size} px, nearest pixel", by_pixel),
                _share(f"false alarms on the hold-out, by the others' limits, {size} px", reference.false_alarms),
            ]
            claims.append(at_most(f"false alarms at {size} px", 0.01, "", alarms.k / max(1, alarms.n)))
    return rows, claims


def _share(name: str, share: Share) -> Row:
    """A share with Wilson's interval in place of a spread over runs."""
    return Row(name, f"share of {share.n}", 1, round(share.k / max(1, share.n), 3), share.low, share.high)


def _cost(options: Options) -> tuple[list[Row], list[Claim]]:
    """Each point in a process of its own, whose peak of memory is its own."""
    size = options.sizes[0]
    rows: list[Row] = []
    for training in GROWTH:
        given = [str(options.data or ""), str(size), str(training)]
        command = [sys.executable, "-m", "tests.benchmarks.screening", *given]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows += [
            row(f"cohort and controls, {training} training cases, {size} px", "s", [told["prepared"]]),
            row(f"{told['samples']} samples against {training} training cases, {size} px", "s", [told["judged"]]),
            row(f"memory with {training} training cases, {size} px", "MB", [told["mb"]]),
        ]
    whole = told["prepared"] + told["judged"]
    return rows, [
        at_most(f"{SAMPLES} samples against {GROWTH[-1]} cases at {size} px", 600, "s", whole),
        at_most("memory", 2000, "MB", told["mb"]),
    ]


def _one_cost(data: Path | None, size: int, training: int) -> dict[str, float]:
    """A whole screening; the last point of GROWTH with all SAMPLES, the others with a tenth."""
    count = SAMPLES if training == GROWTH[-1] else SAMPLES // 10
    real, holdout, fresh = cohort(data, size)
    real = real[:training]
    samples = [fresh[place % len(fresh)] for place in range(count)]
    start = time.monotonic()
    with screening_pool(0) as pool:
        screening = Screening(_reference(real, holdout, pool), RULES, pool)
        planted = [case.load() for case in real[:CONTROL_CASES]]
        screening.plant(planted, [case.load() for case in holdout[:CONTROL_CASES]], 0)
        prepared = time.monotonic() - start
        start = time.monotonic()
        for place in range(0, count, 16):
            screening.judge([case.load() for case in samples[place : place + 16]])
    judged = time.monotonic() - start
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"prepared": round(prepared, 1), "judged": round(judged, 1), "samples": count, "mb": round(peak_mb)}


def _reference(training: list[RealCase], holdout: list[RealCase], pool: Any) -> Reference:
    return build_reference(
        training, holdout, max_correlation=0.95, weights=None, pool=pool, progress=lambda *_: None
    )  # fmt: skip


def cohort(data: Path | None, size: int) -> tuple[list[RealCase], list[RealCase], list[RealCase]]:
    """Training, hold-out and other cases, no patient in two of them."""
    if data is None:
        everything = [
            RealCase(f"drawn-{seed}", f"drawn-{seed}", lambda seed=seed: _drawn(seed, size))
            for seed in range(TRAINING + HOLDOUT + FRESH)
        ]
        return everything[:TRAINING], everything[TRAINING : TRAINING + HOLDOUT], everything[TRAINING + HOLDOUT :]
    found = read_folder(data, IntakeLimits()).cases
    by_patient: dict[str, list[FoundCase]] = {}
    for case in found:
        by_patient.setdefault(case.patient, []).append(case)
    patients = sorted(by_patient)
    random.Random(0).shuffle(patients)
    enough = len(found) >= TRAINING + HOLDOUT
    ends = [TRAINING, TRAINING + HOLDOUT] if enough else [len(found) // 2, len(found) * 4 // 5]
    sides: list[list[RealCase]] = [[], [], []]
    taken = 0
    for patient in patients:
        side = sum(taken >= end for end in ends)
        for case in by_patient[patient]:
            sides[side].append(RealCase(case.stem, patient, lambda case=case: _real(case, size)))
            taken += 1
    return sides[0], sides[1], sides[2]


@lru_cache(maxsize=1000)
def _drawn(seed: int, size: int) -> Pair:
    return scene("endoscopy_warm", seed, size)


@lru_cache(maxsize=1000)
def _real(case: FoundCase, size: int) -> Pair:
    pair = load_case(case, IntakeLimits())
    return resize_pair(Pair(with_channels(pair.image, 3), pair.mask), size)


if __name__ == "__main__":
    where, side, cases = sys.argv[1:]
    sys.stdout.write(json.dumps(_one_cost(Path(where) if where else None, int(side), int(cases))))
