"""The hospitals of the utility benchmark: real pairs of each, parted by patient into training and test cases."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from shared.pairs import Pair, resize_pair, with_channels
from site_node.intake.folders import IntakeLimits, load_case, read_folder
from site_node.phantoms.scenes import Look, write_site

SPLIT_SEED = 0
FEWEST_PARTS = 3  # a third of the patients is for testing, also where there is one fold alone
_PHANTOMS: tuple[Look, ...] = ("endoscopy_warm", "endoscopy_cool")
_FRAMES_A_PATIENT = 2

Case = tuple[str, Pair]  # with its patient key
Item = TypeVar("Item")


@dataclass(frozen=True)
class Hospital:
    """One fold of a hospital's cases, RGB squares of one size, in a fixed random order. No patient is in both parts."""

    name: str
    training: tuple[Case, ...]
    test: tuple[Case, ...]


def read_hospitals(
    folders: Sequence[Path], *, size_px: int, fold: int, folds: int, most_training: int, most_test: int
) -> list[Hospital]:
    """Fold `fold` of `folds` of each folder; phantoms of two hospitals without a folder.

    With one fold a third of the patients is held out; with K folds each patient is tested once. Beyond most_training
    and most_test, cases are left out evenly over the patients. Raises SynthwardError of the intake, and ValueError
    where a hospital has too few patients.
    """
    if not folders:
        with tempfile.TemporaryDirectory() as drawn:
            made = [Path(drawn) / look.replace("_", "-") for look in _PHANTOMS]
            patients = -(-(most_training + most_test) // _FRAMES_A_PATIENT)
            for look, folder in zip(_PHANTOMS, made, strict=True):
                write_site(
                    folder, look, patients=patients, cases_per_patient=_FRAMES_A_PATIENT, size_px=size_px,
                    seed=SPLIT_SEED,
                )  # fmt: skip
            return read_hospitals(
                made, size_px=size_px, fold=fold, folds=folds, most_training=most_training, most_test=most_test
            )
    limits = IntakeLimits()
    hospitals = []
    for folder in folders:
        found = sorted(read_folder(folder, limits).cases, key=lambda case: (case.patient, case.image.name))
        tested = fold_of([case.patient for case in found], max(folds, FEWEST_PARTS))
        training = thinned([case for case in found if tested[case.patient] != fold], most_training)
        test = thinned([case for case in found if tested[case.patient] == fold], most_test)
        # "The first N" of the few arms shall be N of them all, not the frames of one examination.
        random.Random(SPLIT_SEED).shuffle(training)
        loaded = [
            tuple((case.patient, _square(load_case(case, limits), size_px)) for case in part)
            for part in (training, test)
        ]
        hospitals.append(Hospital(folder.name, *loaded))
    return hospitals


def fold_of(patients: Sequence[str], folds: int) -> dict[str, int]:
    """The fold in which each patient is tested: in a fixed random order, each to the fold with the fewest cases yet.

    patients: of each case. Raises ValueError where there are fewer patients than folds.
    """
    cases = Counter(patients)
    if len(cases) < folds:
        raise ValueError(f"{len(cases)} patients cannot be parted into {folds}")
    order = sorted(cases)
    random.Random(SPLIT_SEED).shuffle(order)
    filled = [0] * folds
    found = {}
    for patient in order:
        fold = filled.index(min(filled))
        found[patient] = fold
        filled[fold] += cases[patient]
    return found


def thinned(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly from first to last."""
    if len(items) <= most:
        return list(items)
    return [items[i * len(items) // most] for i in range(most)]


def _square(pair: Pair, size_px: int) -> Pair:
    return resize_pair(Pair(with_channels(pair.image, 3), pair.mask), size_px)
