"""Averages over real hold-out patients that may leave in mode dp: clamped, summed, noised once, and paid for.

A patient's cases are averaged first, each figure clamped to [0, 1] and moved to [-1/2, 1/2] (the middle is public).
Summed with a 1 for the count, a patient adds a vector of L2 norm at most sqrt(8/4 + 1) = 1.73, whoever it is; Gaussian
noise goes on the nine sums at once, and everything after that is arithmetic on noised numbers.

The denominator is the noisy count, not a fixed one: the number of hold-out patients is not public under add/remove,
and a public number that is off by a factor would put the same factor into each figure. It costs about a third more
noise. Sums around the middle over a noisy count are what google/differential-privacy's BoundedMean does, too.

With sigma 5 the noise of an average has a standard deviation of about 8.7 / N: 0.09 for 100 hold-out patients, 0.02
for 400. Small hold-outs cannot have both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.metrics import NAMES, Metrics, by_patient
from site_node.dp.events import GaussianRelease, Reading
from site_node.dp.noise import Chance

METRICS_SIGMA = 5.0
CLIP = math.sqrt(len(NAMES) / 4.0 + 1.0)
_MIDDLE = 0.5


@dataclass(frozen=True)
class NoisyMeans:
    """What may leave. patients: the noisy count, rounded, at least the floor: the true one stays here."""

    metrics: Metrics
    patients: int


def metrics_reading(
    *, study_sha256: str, subject: str, delta: float, patients: int, sigma: float = METRICS_SIGMA
) -> Reading:
    """One call of `noisy_means`, to be reserved before the first hold-out image is read."""
    return Reading(
        GaussianRelease(sigma), "metrics", study_sha256, subject, who="trainer", clip=CLIP, delta=delta,
        patients=patients,
    )  # fmt: skip


def noisy_means(
    cases: Sequence[tuple[str, Metrics]], chance: Chance, *, floor: int, sigma: float = METRICS_SIGMA
) -> NoisyMeans:
    """The noised mean over patients of the mean over each patient's cases.

    cases: (patient key, metrics), at least one. floor: a public lower bound of the count, at least 1 (the policy's).
    """
    if floor < 1:
        raise ValueError(f"a floor of {floor} patients could divide by nothing")
    sums = patient_sums(cases)
    noised = sums + sigma * CLIP * chance.normal(len(sums))
    count = max(float(floor), float(noised[-1]))
    means = np.clip(_MIDDLE + noised[:-1] / count, 0.0, 1.0)
    return NoisyMeans(Metrics(**dict(zip(NAMES, means.tolist(), strict=True))), round(count))


def patient_sums(cases: Sequence[tuple[str, Metrics]]) -> NDArray[np.float64]:
    """Without noise: the sums over patients of each figure less 1/2, then the number of patients. float64 [9]."""
    means = list(by_patient(cases).values())
    figures = np.array([[getattr(mean, name) for name in NAMES] for mean in means])  # [patients, 8]
    figures = np.clip(figures, 0.0, 1.0) - _MIDDLE  # Metrics is in [0, 1] already; the guarantee does not lean on it
    ones = np.ones((len(means), 1))
    summed: NDArray[np.float64] = np.concatenate([figures, ones], axis=1).sum(axis=0)  # -> [9]
    return summed
