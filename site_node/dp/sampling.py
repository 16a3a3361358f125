"""Which patients a private step reads: each one by a coin of its own, as the accounting takes for granted.

Shuffled or fixed-size batches are another mechanism with a smaller amplification than the accountants compute for
Poisson sampling (Chua et al., "How private are DP-SGD implementations?", ICML 2024). So batches differ in size, empty
ones are kept, and whoever divides by a batch's size divides by the expected one.
"""

from __future__ import annotations

import numpy as np

from site_node.dp.noise import Chance


def poisson_batch(patients: int, q: float, chance: Chance) -> list[int]:
    """Indices of the patients of one step, ascending: each of `patients` is in it with probability q, independently.

    q: in (0, 1]. May be empty.
    """
    check_rate(q)
    if patients < 0:
        raise ValueError(f"{patients} patients cannot be sampled from")
    chosen: list[int] = np.flatnonzero(chance.uniform(patients) < q).tolist()
    return chosen


def check_rate(q: float) -> None:
    """Raises ValueError where q is no probability above 0."""
    if not 0.0 < q <= 1.0:
        raise ValueError(f"a sampling rate of {q} is not in (0, 1]")
