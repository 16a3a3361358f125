"""Who trains and who is held out: by patient, never by image.

Promise: a patient's images are on one side only, and stay there; the same patients and the same salt give the same
split, on any machine; whoever does not hold the site's salt cannot tell on which side a patient is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from shared.errors import SynthwardError

Side = Literal["training", "holdout"]


@dataclass(frozen=True)
class Split:
    """Patient keys. Disjoint, neither side empty."""

    training: frozenset[str]
    holdout: frozenset[str]

    def __post_init__(self) -> None:
        if not self.training or not self.holdout or self.training & self.holdout:
            raise ValueError("a split has two sides, neither empty, that share no patient")


def split_by_patient(
    patients: Iterable[str], *, holdout_fraction: float, salt: bytes, known: Mapping[str, Side] | None = None
) -> Split:
    """Splits patients; the same key twice is one patient.

    A patient who has a side in `known` keeps it for good: somebody moved from training to hold-out would have been
    trained on. New patients are taken in the order of HMAC-SHA256(salt, patient), and as many of them are held out as
    bring the hold-out to round(holdout_fraction * patients), at least one, leaving at least one for training.

    holdout_fraction: in (0, 1); salt: the site's secret, kept for as long as the cohort.
    Raises SynthwardError cohort.no-holdout where a side would be empty.
    """
    if not 0.0 < holdout_fraction < 1.0:
        raise ValueError(f"holdout_fraction is {holdout_fraction}, not between 0 and 1")
    if not salt:
        raise ValueError("an empty salt would make the split predictable")
    everybody = set(patients)
    sides = {patient: side for patient, side in (known or {}).items() if patient in everybody}
    # The key stands beside its place to decide between equal places, however unlikely.
    new = [patient for _, patient in sorted((_place(p, salt), p) for p in everybody - sides.keys())]
    wanted = min(max(round(holdout_fraction * len(everybody)), 1), max(len(everybody) - 1, 0))
    missing = max(0, wanted - sum(side == "holdout" for side in sides.values()))
    sides |= {patient: "holdout" if rank < missing else "training" for rank, patient in enumerate(new)}
    training = frozenset(patient for patient, side in sides.items() if side == "training")
    holdout = frozenset(patient for patient, side in sides.items() if side == "holdout")
    if not training or not holdout:
        raise SynthwardError(
            "cohort.no-holdout",
            f"of {len(everybody)} patients, {len(training)} could be trained on and {len(holdout)} held out",
            why="a generator is measured on patients that it has not seen, and a patient never changes sides",
            do="import more patients, or check that patients.csv does not give all images to one",
        )
    return Split(training, holdout)


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
