"""Who trains and who is held out: by patient, never by image.

Promise: a patient's images are on one side only; the same patients and the same salt give the same split, on any
machine; whoever does not hold the site's salt cannot tell on which side a patient is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from shared.errors import SynthwardError


@dataclass(frozen=True)
class Split:
    """Patient keys. Disjoint, neither side empty."""

    training: frozenset[str]
    holdout: frozenset[str]

    def __post_init__(self) -> None:
        if not self.training or not self.holdout or self.training & self.holdout:
            raise ValueError("a split has two sides, neither empty, that share no patient")


def split_by_patient(patients: Iterable[str], *, holdout_fraction: float, salt: bytes) -> Split:
    """Splits patients; the same key twice is one patient.

    Each patient has a place in [0, 1), HMAC-SHA256(salt, patient), and is held out where the place lies below
    holdout_fraction. A place depends on no other patient, so a cohort that grows moves nobody, which a cut by rank
    would: somebody moved from training to hold-out has been trained on. The price is that the hold-out has
    holdout_fraction of the patients only on average. Where a side would be empty, the one patient nearest to the cut
    changes sides, and is the only one who may move back when others come.

    holdout_fraction: in (0, 1); salt: the site's secret, kept for as long as the cohort.
    Raises SynthwardError cohort.no-holdout where there are fewer than two patients.
    """
    if not 0.0 < holdout_fraction < 1.0:
        raise ValueError(f"holdout_fraction is {holdout_fraction}, not between 0 and 1")
    if not salt:
        raise ValueError("an empty salt would make the split predictable")
    # The key stands beside its place to decide between equal places, however unlikely.
    places = sorted((_place(patient, salt), patient) for patient in set(patients))
    if len(places) < 2:
        raise SynthwardError(
            "cohort.no-holdout",
            f"there are {len(places)} patients; a split needs at least 2",
            why="a generator is measured on patients that it has not seen",
            do="import more patients, or check that patients.csv does not give all images to one",
        )
    cut = sum(place < holdout_fraction for place, _ in places)
    cut = min(max(cut, 1), len(places) - 1)
    ordered = [patient for _, patient in places]
    return Split(training=frozenset(ordered[cut:]), holdout=frozenset(ordered[:cut]))


def _place(patient: str, salt: bytes) -> float:
    digest = hmac.new(salt, patient.encode("utf-8", "surrogatepass"), hashlib.sha256).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # 53 bits: all that a float holds exactly, never 1.0


def check_floor(patients: int, floor: int) -> None:
    """Raises SynthwardError cohort.too-few-patients where patients < floor, the larger of the study's and policy's."""
    if patients < floor:
        raise SynthwardError(
            "cohort.too-few-patients",
            f"there are {patients} patients; the release floor is {floor}",
            why="what is learnt from few patients says much about each of them",
            do="import more patients; the floor is the study's or the site's policy's, whichever is higher",
        )


def check_size(heights_widths: Iterable[tuple[int, int]], size_px: int) -> None:
    """Raises SynthwardError cohort.study-larger-than-images where an image's shorter side is below size_px.

    heights_widths: [H, W] of each image in pixels; size_px: the side of the study's square images.
    """
    sides = [min(height, width) for height, width in heights_widths]
    smaller = [side for side in sides if side < size_px]
    if smaller:
        raise SynthwardError(
            "cohort.study-larger-than-images",
            f"the study asks for {size_px} x {size_px} pixels; {len(smaller)} of {len(sides)} images have fewer on "
            f"their shorter side, the smallest {min(smaller)}",
            why="enlarged images would teach a blur that no camera makes",
            do=f"import images of at least {size_px} pixels, or ask the coordinator for a smaller study",
        )
