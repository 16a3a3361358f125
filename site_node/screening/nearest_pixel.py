"""What other tools ship: the mean squared distance to the nearest training image, pixel by pixel. A yardstick only."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pixels

_SIDE_PX = 32
Vector = NDArray[np.float32]


class NearestPixel:
    """Training images at 32 px, with colours; small for what catches it, and none the worse for it."""

    def __init__(self, small: Sequence[Vector]) -> None:
        """small: of each training image."""
        self._bank = np.stack(small) if small else np.zeros((0, _SIDE_PX**2), np.float32)

    @staticmethod
    def small(image: Pixels) -> Vector:
        """What is kept of an image."""
        reduced = cv2.resize(image, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
        return np.asarray(reduced, dtype=np.float32).ravel()

    def nearness(self, image: Pixels) -> float:
        """Minus the root of the smallest mean squared distance, in grey levels; -inf without training images."""
        if not len(self._bank):
            return -np.inf
        return -float(np.sqrt(((self._bank - self.small(image)) ** 2).mean(1).min()))
