"""Epsilon, from the facts: what a list of events comes to, and the noise that a wanted epsilon needs.

The arithmetic is shared/dp_accounting.py's, PRV and RDP, which the coordinator does again for every claim. Here is what
a site alone knows: which readings there were. Epsilon is infinite as soon as one of them has no mechanism. Which events
count for a question is the caller's to say (site_node/dp/ledger.py): a statement about a release counts every noised
reading of the site, and the unaccounted readings for that release.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from shared.dp_accounting import Epsilon, Mechanism, epsilon_of, rdp_of
from site_node.dp.events import Event, Noised, Unaccounted, rate, times

__all__ = ["Epsilon", "epsilon", "sigma_for"]

_STEP = 1e-4  # of a sigma that is found


def epsilon(events: Sequence[Event], delta: float) -> Epsilon:
    """Epsilon of all events together, at this delta in (0, 1), for add or remove one patient."""
    noised: list[Noised] = []
    for event in events:
        if isinstance(event, Unaccounted):
            return Epsilon(math.inf, math.inf, delta)
        noised.append(event)
    return epsilon_of([_mechanism(event) for event in noised], delta)


def sigma_for(wanted: float, delta: float, *, q: float, steps: int, besides: Sequence[Noised] = ()) -> float:
    """The smallest sigma, to four decimals, at which `steps` Poisson-sampled steps spend at most `wanted` by PRV.

    wanted: epsilon, above 0. besides: what is spent in the same account. Raises ValueError where that alone is more.
    """
    if not wanted > 0.0:
        raise ValueError(f"epsilon {wanted} leaves nothing to spend")
    spent = [_mechanism(event) for event in besides]
    if epsilon_of(spent, delta).prv >= wanted:
        raise ValueError(f"what is already in the account spends epsilon {wanted} alone")

    def enough(sigma: float) -> bool:
        return epsilon_of([*spent, (sigma, q, steps)], delta).prv <= wanted

    # RDP is quick and never lower, so what satisfies it satisfies PRV: an upper end that costs nothing to find.
    high = 1.0
    while rdp_of([*spent, (high, q, steps)], delta) > wanted and high < 2.0**20:
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


def _mechanism(event: Noised) -> Mechanism:
    return event.sigma, rate(event), times(event)
