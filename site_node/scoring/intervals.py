"""How sure a mean over patients is: its bootstrap interval, with patients as the unit that is drawn again.

The interval is the percentile one of Efron, widened for few patients after Hesterberg ("What teachers should know
about the bootstrap", The American Statistician 69, 2015): the bootstrap's spread is too small by sqrt((P - 1) / P) and
its tails are the normal's, so that its percentiles are taken further out, where Student's t would have them.

Chosen by simulation (800 samples each of 10, 20 and 50 patients, 95 % wanted). Differences between arms that agree on
most patients and part on a few: it held the truth in 93, 94 and 92 % (plain percentiles 88, 92, 92; bias-corrected and
accelerated 82, 85, 87). IoU with 15 % of lesions missed: 89, 95 and 94 % (85, 93, 94; 86, 95, 95). Of few patients who
all have the same figure no bootstrap learns anything: the interval is then as narrow as the figures say, which for
`lesions_found` of ten patients is too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
_DRAWN_AT_ONCE = 2_000_000  # numbers, so that many patients need no more memory than few


def bootstrap_mean(
    values: Floats, *, seed: int, resamples: int = 2000, confidence: float = 0.95
) -> tuple[Floats, Floats, Floats]:
    """(mean, low, high) over patients; each a scalar array for [P], and [K] for [P, K].

    values: float [P] or [P, K], a row for each of two or more patients. All columns share the patients of each
    resample, and calls with one seed, P and resamples do too: what is paired stays paired. low <= mean <= high.
    """
    if values.ndim not in (1, 2) or len(values) < 2:
        raise ValueError(f"values of shape {values.shape}: an interval needs two patients or more")
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite: it would spread over every mean")
    if resamples < 100 or not 0.0 < confidence < 1.0:
        raise ValueError(f"{resamples} resamples and confidence {confidence} make no interval")
    # Around one of the values, rounding leaves a column that is the same for all patients exactly what it is.
    centred = values - values[0]
    means = np.concatenate([shares @ centred for shares in _resamples(len(values), resamples, seed)])  # [R] or [R, K]
    outside = outer_share(len(values), confidence)
    mean = centred.mean(axis=0)
    low, high = np.quantile(means, (outside, 1.0 - outside), axis=0)
    # Of very skewed values the percentiles can leave the mean out; a figure outside its interval says nothing.
    around = (mean, np.minimum(low, mean), np.maximum(high, mean))
    found = [np.asarray(values[0] + part, dtype=np.float64) for part in around]
    return found[0], found[1], found[2]


def outer_share(patients: int, confidence: float) -> float:
    """The share of resamples to leave out on each side: under (1 - confidence) / 2, and near it for many patients."""
    wanted = stats.t.ppf((1.0 - confidence) / 2.0, patients - 1) * math.sqrt(patients / (patients - 1))
    return float(stats.norm.cdf(wanted))


def _resamples(patients: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Shares of each patient in each resample, float [r, P] with rows that sum to 1; R rows in all."""
    random = np.random.default_rng(seed)
    at_once = max(1, _DRAWN_AT_ONCE // patients)
    for start in range(0, resamples, at_once):
        rows = min(at_once, resamples - start)
        drawn = random.integers(patients, size=(rows, patients)) + np.arange(rows)[:, None] * patients  # [r, P]
        yield np.bincount(drawn.ravel(), minlength=rows * patients).reshape(rows, patients) / patients
