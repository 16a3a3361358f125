"""Epsilon by a second way, with nothing of Opacus in it: the distribution of the privacy loss, composed by FFT.

dp-accounting, which would do the same, needs attrs < 24 and cannot be installed beside the pinned versions; its figures
stand in tests/unit/test_dp_accountant.py as they came out of it once.

Both directions of add or remove one patient are composed, and the larger epsilon is taken (Sommer, Meiser and
Mohammadi, "Privacy loss classes", PoPETs 2019). Mass between two points of the grid is split between them so that its
mean stays: an estimate with an error of the grid's square, not a bound.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

STEP = 1e-3
Floats = NDArray[np.float64]


def epsilon_by_losses(mechanisms: Iterable[tuple[float, float, int]], delta: float, half_range: float = 40.0) -> float:
    """The epsilon of (sigma, q, steps) together. half_range: losses beyond are lost, so far above the answer."""
    listed = list(mechanisms)
    return max(_one_direction(listed, delta, half_range, removed) for removed in (True, False))


def _one_direction(mechanisms: list[tuple[float, float, int]], delta: float, half_range: float, removed: bool) -> float:
    half = round(half_range / STEP)
    spectrum = np.ones(half + 1, np.complex128)
    for sigma, q, steps in mechanisms:
        spectrum *= np.fft.rfft(np.fft.ifftshift(_losses(sigma, q, half, removed))) ** steps
    mass = np.fft.fftshift(np.fft.irfft(spectrum, 2 * half))
    losses = np.arange(-half, half) * STEP
    low, high = 0.0, half_range
    while high - low > 1e-5:  # delta falls with epsilon
        middle = (low + high) / 2.0
        above = losses > middle
        spent = float((mass[above] * -np.expm1(middle - losses[above])).sum())
        low, high = (middle, high) if spent > delta else (low, middle)
    return high


def _losses(sigma: float, q: float, half: int, removed: bool) -> Floats:
    """The loss of one step as mass on the grid of 2 * half points: with the patient against without, or the reverse."""
    edges = np.linspace(-14.0 * sigma, 1.0 + 14.0 * sigma, 400_001)
    without, with_it = np.diff(ndtr(edges / sigma)), np.diff(ndtr((edges - 1.0) / sigma))
    middles = (edges[:-1] + edges[1:]) / 2.0
    ratio = np.log1p(q * np.expm1((2.0 * middles - 1.0) / (2.0 * sigma**2)))  # log of with over without, at a point
    loss, mass = (ratio, (1.0 - q) * without + q * with_it) if removed else (-ratio, without)
    place = np.clip(loss / STEP + half, 0.0, 2.0 * half - 2.0)
    left = place.astype(np.int64)
    share = place - left
    grid: Floats = np.bincount(left, mass * (1.0 - share), 2 * half) + np.bincount(left + 1, mass * share, 2 * half)
    return grid
