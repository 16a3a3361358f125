"""What every check of nearness does: keep a little of each training case, and say how near a sample comes to any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pair
from site_node.screening.report import CheckName

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Nearness:
    """score: the larger, the nearer; its scale is the check's own. place: which training case, None for no case."""

    score: float
    place: int | None


class Check(Protocol, Generic[Kept]):
    """One check. `describe` every training case, `fit` once, then ask `nearest`, from any number of threads."""

    name: CheckName

    def describe(self, pair: Pair) -> Kept:
        """What the check keeps of a case."""

    def fit(self, described: Sequence[Kept], patients: Sequence[str], /) -> None:
        """Takes the descriptions of all training cases; patients: whose each is."""

    def nearest(self, pair: Pair) -> Nearness:
        """How near the pair comes to a training case."""


def patient_numbers(patients: Sequence[str]) -> NDArray[np.int64]:
    """[N]: a number for the patient of each case, from 0; the same for the same patient."""
    numbers = {patient: number for number, patient in enumerate(sorted(set(patients)))}
    return np.asarray([numbers[patient] for patient in patients], np.int64)
