"""The eight positions of a square: what is upright for one image is for its copy any of them."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.generic)


def positions(square: NDArray[Number]) -> list[NDArray[Number]]:
    """The four quarter turns of [S, S] or [S, S, C], upright first, then their mirrors; each contiguous."""
    quarter_turns = [np.rot90(square, k) for k in range(4)]
    return [np.ascontiguousarray(view) for view in quarter_turns + [np.fliplr(view) for view in quarter_turns]]
