"""What was done to private data, as frozen facts: an accountant computes epsilon from them and can be replaced.

The unit is a patient at one site: all images of one patient are one record. Two data sets are neighbours when one
patient was added to or removed from them; under replacement, another relation, each figure would be about twice as
large. Both names stand in every reading, so that no figure is ever read under another one.

The shape is that of `dp_event.py` in google/differential-privacy (dp_accounting): events say what happened, not what
it cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from shared.privacy import AccessKind, NoisedMechanism, Relation, Unit


@dataclass(frozen=True)
class Unaccounted:
    """A reading that no mechanism bounds: its epsilon is infinite."""

    kind: AccessKind


@dataclass(frozen=True)
class GaussianRelease:
    """Sums over all patients, each part clipped, plus Gaussian noise; `count` times.

    sigma: the noise's standard deviation over the clip norm (the L2 sensitivity), above 0. count: at least 1.
    """

    sigma: float
    count: int = 1

    def __post_init__(self) -> None:
        _check(self.sigma, self.count)


@dataclass(frozen=True)
class PoissonSampledGaussian:
    """The same over a sample of patients in each step, which takes each with probability q on its own (Poisson).

    sigma: the noise's standard deviation over the clip norm, above 0. q: in (0, 1]. steps: at least 1, empty ones too.
    """

    sigma: float
    q: float
    steps: int

    def __post_init__(self) -> None:
        _check(self.sigma, self.steps)
        if not 0.0 < self.q <= 1.0:
            raise ValueError(f"a sampling rate of {self.q} is not in (0, 1]")


Noised = GaussianRelease | PoissonSampledGaussian
Event = Unaccounted | GaussianRelease | PoissonSampledGaussian


@dataclass(frozen=True)
class Reading:
    """A noised reading with all that the ledger holds of it.

    subject: the release or measurement it is for. who: the actor that reads. clip: the L2 norm to which a patient's
    part is cut, above 0. delta: the one at which epsilon is stated, in (0, 1). patients: how many were there to read.
    """

    event: Noised
    kind: AccessKind
    study_sha256: str
    subject: str
    who: str
    clip: float
    delta: float
    patients: int
    unit: Unit = "patient at one site"
    relation: Relation = "add or remove one patient"

    def __post_init__(self) -> None:
        if not (self.clip > 0.0 and math.isfinite(self.clip)):
            raise ValueError(f"a clip norm of {self.clip} bounds nothing")
        if not 0.0 < self.delta < 1.0:
            raise ValueError(f"delta is {self.delta}, not in (0, 1)")
        if self.patients < 1:
            raise ValueError(f"{self.patients} patients cannot be read")


def mechanism(event: Event) -> Literal["none"] | NoisedMechanism:
    """The mechanism's name, as the ledger and the privacy statement spell it."""
    if isinstance(event, Unaccounted):
        return "none"
    return "gaussian" if isinstance(event, GaussianRelease) else "poisson-sampled-gaussian"


def times(event: Noised) -> int:
    """How often the mechanism ran."""
    return event.count if isinstance(event, GaussianRelease) else event.steps


def rate(event: Noised) -> float:
    """The sampling rate: 1 where all patients are read every time."""
    return 1.0 if isinstance(event, GaussianRelease) else event.q


def _check(sigma: float, count: int) -> None:
    if not (sigma > 0.0 and math.isfinite(sigma)):
        raise ValueError(f"a noise of {sigma} bounds nothing: such a reading is Unaccounted")
    if count < 1:
        raise ValueError(f"{count} times is not a reading")
