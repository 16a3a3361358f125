"""Epsilon of Gaussian mechanisms, by two accountants: the arithmetic that a site and a coordinator must agree on.

PRV (Gopi, Lee and Wutschitz, "Numerical composition of differential privacy", NeurIPS 2021) is the figure that budgets
go by; RDP (Mironov, Talwar and Zhang, 2019) stands beside it, always a little higher, as a check by other mathematics.
Both are Opacus' and both are upper bounds. Mechanisms that differ are composed, not added: one more Gaussian release
costs little beside a training.

A mechanism is (sigma, q, steps): noise over clip, above 0; the sampling rate, in (0, 1], 1 where everybody is read; how
often. The relation is add or remove one patient.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

Mechanism = tuple[float, float, int]

_ORDERS = [*RDPAccountant.DEFAULT_ALPHAS, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024]
# PRV's figure is its estimate plus a tolerance: 0.5 % of epsilon, within limits. It is computed on a grid over the
# privacy loss; where that would have more points than this (about 0.3 GB), RDP's figure, the larger one, stands for it.
_TOLERANCE, _FINEST, _COARSEST = 0.005, 0.001, 0.5
_MOST_POINTS = 2**22


@dataclass(frozen=True)
class Epsilon:
    """One (epsilon, delta) by two accountants. 0 when nothing was read, infinite when something had no bound."""

    prv: float
    rdp: float
    delta: float


def epsilon_of(mechanisms: Sequence[Mechanism], delta: float) -> Epsilon:
    """Epsilon of all of them together, at this delta in (0, 1)."""
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta is {delta}, not in (0, 1)")
    if not mechanisms:
        return Epsilon(0.0, 0.0, delta)
    history = _merged(mechanisms)
    rdp = _rdp(history, delta)
    return Epsilon(_prv(history, delta, rdp), rdp, delta)


def rdp_of(mechanisms: Sequence[Mechanism], delta: float) -> float:
    """RDP's figure alone, of at least one mechanism: quick, and never lower than PRV's."""
    return _rdp(_merged(mechanisms), delta)


def _merged(mechanisms: Sequence[Mechanism]) -> list[Mechanism]:
    """Each (sigma, q) once. All Gaussian releases (q = 1) are one: their 1/sigma^2 add up, exactly."""
    precision = 0.0
    sampled: dict[tuple[float, float], int] = defaultdict(int)
    for sigma, q, steps in mechanisms:
        if q == 1.0:
            precision += steps / sigma**2
        else:
            sampled[sigma, q] += steps
    history = [(sigma, q, count) for (sigma, q), count in sorted(sampled.items())]
    return [(1.0 / math.sqrt(precision), 1.0, 1), *history] if precision else history


def _rdp(history: list[Mechanism], delta: float) -> float:
    curve = sum((count * _curve(sigma, q) for sigma, q, count in history), np.zeros(len(_ORDERS)))
    with warnings.catch_warnings():  # that the best order is an outer one: a looser bound, and a bound still
        warnings.simplefilter("ignore", UserWarning)
        found, _ = get_privacy_spent(orders=_ORDERS, rdp=curve, delta=delta)
    return float(found)


@lru_cache(maxsize=256)
def _curve(sigma: float, q: float) -> NDArray[np.float64]:
    """Renyi divergence of one step at each order: [orders]. The slow part, the same for every number of steps."""
    curve: NDArray[np.float64] = np.asarray(compute_rdp(q=q, noise_multiplier=sigma, steps=1, orders=_ORDERS))
    return curve


def _prv(history: list[Mechanism], delta: float, rdp: float) -> float:
    accountant = PRVAccountant()
    accountant.history = list(history)
    tolerance = min(_COARSEST, max(_FINEST, _TOLERANCE * rdp))
    if _points(history, delta, tolerance) > _MOST_POINTS:
        return rdp
    with np.errstate(divide="ignore"), warnings.catch_warnings():  # of q = 1: the logarithm of 1 - q is -infinity
        warnings.simplefilter("ignore", UserWarning)
        found = float(accountant.get_epsilon(delta, eps_error=tolerance))
    if not math.isfinite(found):
        raise ArithmeticError(f"PRV accounting gave {found} for {history} at delta {delta}")
    return found


def _points(history: list[Mechanism], delta: float, tolerance: float) -> float:
    """How many points Opacus' grid would have, by its own rule for mesh and range at delta's thousandth."""
    half_range = _rdp(history, delta / 4000.0) + 3.0
    total = sum(count for _, _, count in history)
    mesh = tolerance / math.sqrt(total * math.log(12_000.0 / delta) / 2.0)
    return 2.0 * half_range / mesh
