"""Epsilon, from the facts: two accountants over one list of events, and the noise that a wanted epsilon needs.

PRV (Gopi, Lee and Wutschitz, "Numerical composition of differential privacy", NeurIPS 2021) is the figure that budgets
go by; RDP (Mironov, Talwar and Zhang, 2019) stands beside it, always a little higher, as a check by other mathematics.
Both are Opacus' and both are upper bounds. Events that differ are composed, not added: one more Gaussian release costs
little beside a training.

Epsilon is infinite as soon as one of the events has no mechanism. Which events count for a question is the caller's to
say (site_node/dp/ledger.py): a statement about a release counts every noised reading of the site, and the unaccounted
readings for that release.
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

from site_node.dp.events import Event, GaussianRelease, Noised, PoissonSampledGaussian, Unaccounted, rate, times

_ORDERS = [*RDPAccountant.DEFAULT_ALPHAS, 64, 80, 96, 128, 192, 256, 384, 512, 768, 1024]
# PRV's figure is its estimate plus a tolerance: 0.5 % of epsilon, within limits. It is computed on a grid over the
# privacy loss; where that would have more points than this (about 0.3 GB), RDP's figure, the larger one, stands for it.
_TOLERANCE, _FINEST, _COARSEST = 0.005, 0.001, 0.5
_MOST_POINTS = 2**22
_STEP = 1e-4  # of a sigma that is found


@dataclass(frozen=True)
class Epsilon:
    """One (epsilon, delta) by two accountants. 0 when nothing was read, infinite when something had no bound."""

    prv: float
    rdp: float
    delta: float


def epsilon(events: Sequence[Event], delta: float) -> Epsilon:
    """Epsilon of all events together, at this delta in (0, 1), for add or remove one patient."""
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta is {delta}, not in (0, 1)")
    noised: list[Noised] = []
    for event in events:
        if isinstance(event, Unaccounted):
            return Epsilon(math.inf, math.inf, delta)
        noised.append(event)
    if not noised:
        return Epsilon(0.0, 0.0, delta)
    history = _merged(noised)
    rdp = _rdp(history, delta)
    return Epsilon(_prv(history, delta, rdp), rdp, delta)


def sigma_for(wanted: float, delta: float, *, q: float, steps: int, besides: Sequence[Noised] = ()) -> float:
    """The smallest sigma, to four decimals, at which `steps` Poisson-sampled steps spend at most `wanted` by PRV.

    wanted: epsilon, above 0. besides: what is spent in the same account. Raises ValueError where that alone is more.
    """
    if not wanted > 0.0:
        raise ValueError(f"epsilon {wanted} leaves nothing to spend")
    spent = list(besides)
    if epsilon(spent, delta).prv >= wanted:
        raise ValueError(f"what is already in the account spends epsilon {wanted} alone")

    def enough(sigma: float) -> bool:
        history = _merged([*spent, PoissonSampledGaussian(sigma, q, steps)])
        return _prv(history, delta, _rdp(history, delta)) <= wanted

    # RDP is quick and never lower, so what satisfies it satisfies PRV: an upper end that costs nothing to find.
    high = 1.0
    while _rdp(_merged([*spent, PoissonSampledGaussian(high, q, steps)]), delta) > wanted and high < 2.0**20:
        high *= 2.0
    if not enough(high):
        raise ValueError(f"no noise of a sensible size reaches epsilon {wanted} at delta {delta}")
    low = high / 2.0
    while low > 2.0**-6 and enough(low):
        low, high = low / 2.0, low
    while high - low > 1e-3 * high:
        middle = (low + high) / 2.0
        low, high = (low, middle) if enough(middle) else (middle, high)
    return round(math.ceil(high / _STEP) * _STEP, 4)


def _merged(events: Sequence[Noised]) -> list[tuple[float, float, int]]:
    """(sigma, q, steps), each (sigma, q) once. All Gaussian releases are one: their 1/sigma^2 add up, exactly."""
    precision = 0.0
    sampled: dict[tuple[float, float], int] = defaultdict(int)
    for event in events:
        if isinstance(event, GaussianRelease) or rate(event) == 1.0:
            precision += times(event) / event.sigma**2
        else:
            sampled[event.sigma, rate(event)] += times(event)
    history = [(sigma, q, count) for (sigma, q), count in sorted(sampled.items())]
    return [(1.0 / math.sqrt(precision), 1.0, 1), *history] if precision else history


def _rdp(history: list[tuple[float, float, int]], delta: float) -> float:
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


def _prv(history: list[tuple[float, float, int]], delta: float, rdp: float) -> float:
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


def _points(history: list[tuple[float, float, int]], delta: float, tolerance: float) -> float:
    """How many points Opacus' grid would have, by its own rule for mesh and range at delta's thousandth."""
    half_range = _rdp(history, delta / 4000.0) + 3.0
    total = sum(count for _, _, count in history)
    mesh = tolerance / math.sqrt(total * math.log(12_000.0 / delta) / 2.0)
    return 2.0 * half_range / mesh
