"""Axes: where they end, where their ticks stand, how long a bar is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A scale from low to high with ticks, and the digits that a tick is written with."""

    low: float
    high: float
    ticks: tuple[float, ...]
    digits: int = 1
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value stands: 0 at the low end, 100 at the high one, held within both."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        return 100 * min(1.0, max(0.0, (value - low) / (high - low)))

    def label(self, tick: float) -> str:
        """A tick in words."""
        return f"{tick:.{self.digits}f}"


def share_axis(values: Sequence[float]) -> Axis:
    """Around shares in [0, 1], from the tick under the smallest to the one over the largest: for marks, no bars."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    step = 0.1 if high - low <= 0.4 else 0.2
    # Rounded first: 0.6 / 0.2 is a little under 3.
    first = min(math.floor(round(low / step, 6)), round(1 / step) - 1)
    last = max(first + 1, math.ceil(round(high / step, 6)))
    return Axis(first * step, last * step, tuple(step * tick for tick in range(first, last + 1)))


def gain_axis(values: Sequence[float]) -> Axis:
    """Around 0, equally far to both sides: 0.05, 0.1, 0.2, 0.3, 0.5 or 1."""
    furthest = max((abs(value) for value in values), default=0.0)
    end = next((end for end in (0.05, 0.1, 0.2, 0.3, 0.5) if furthest <= end + 1e-9), 1.0)
    return Axis(-end, end, (-end, -end / 2, 0.0, end / 2, end), digits=3 if end < 0.1 else 2)


def count_axis(values: Sequence[float]) -> Axis:
    """Counts from 1 on, with a tick at each, logarithmic: at small ones, one more means most."""
    shown = sorted(set(values)) or [1.0]
    return Axis(shown[0] / 1.3, shown[-1] * 1.3, tuple(shown), digits=0, logarithmic=True)


def epsilon_axis(values: Sequence[float]) -> Axis:
    """From 0 to the largest ε rounded up to 1, 2 or 5 times a power of ten."""
    furthest = max(values, default=1.0)
    power = 10.0 ** math.floor(math.log10(furthest))
    top = next(power * k for k in (1, 2, 5, 10) if furthest <= power * k * (1 + 1e-9))
    return Axis(0.0, top, (0.0, top / 2, top), digits=max(0, 1 - math.floor(math.log10(top))))


def axis_top(values: Sequence[float]) -> float:
    """The end of a scale that starts at 0: the largest value rounded up to a tenth, from 0.1 to 1."""
    return min(1.0, max(0.1, math.ceil(round(10 * max(values, default=0.0), 6)) / 10))


def widths(values: Mapping[str, float]) -> dict[str, float]:
    """Length of each bar as a percentage of the longest, 0 to 100."""
    longest = max(values.values(), default=0.0)
    return {name: (100 * value / longest if longest > 0 else 0.0) for name, value in values.items()}
