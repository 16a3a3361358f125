"""Plausible samples: masks within the study's limits, images within what the cohort shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pair, Pixels
from shared.study import MaskLimits

_ROOM = 0.5
"""How far outside the cohort's range a statistic may lie, as a share of the range."""
_DETAIL = 4
_LEAST_PART = 0.0005  # of the image: a smaller speck is no lesion and does not count as one


@dataclass(frozen=True)
class Ranges:
    """Of image statistics over the training cases: each [5], lowest and highest that is allowed."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, statistics: Sequence[NDArray[np.float64]]) -> Ranges:
        """With _ROOM on either side. statistics: of each training image."""
        stacked = np.stack(statistics)
        low, high = stacked.min(0), stacked.max(0)
        room = _ROOM * np.maximum(high - low, 1.0)
        low = low - room
        low[_DETAIL] = 0.0  # soft images are what generators draw, and hardly worse to learn from; noise is
        return cls(low, high + room)

    def hold(self, found: NDArray[np.float64]) -> bool:
        """Whether an image's statistics lie within."""
        return bool(np.all((found >= self.low) & (found <= self.high)))


def statistics(image: Pixels) -> NDArray[np.float64]:
    """[5]: brightness, its spread, red less green, blue less green (grey levels), and detail (mean |Laplacian|)."""
    colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    red, green, blue = (float(channel.mean()) for channel in np.moveaxis(colours, 2, 0))
    plane = colours.mean(2).astype(np.float32)
    detail = float(np.abs(cv2.Laplacian(plane, cv2.CV_32F)).mean())
    return np.asarray([plane.mean(), plane.std(), red - green, blue - green, detail], np.float64)


def mask_is_plausible(mask: Pixels, limits: MaskLimits) -> bool:
    """Whether a mask's area, number of parts and place are within the study's limits. mask: uint8 [H, W]."""
    lesion = np.asarray(mask > 127, dtype=np.uint8)
    area = float(lesion.mean())
    if not limits.min_area <= area <= limits.max_area:
        return False
    _, _, measured, _ = cv2.connectedComponentsWithStats(lesion)
    parts = int((measured[1:, cv2.CC_STAT_AREA] >= _LEAST_PART * lesion.size).sum())
    if parts > limits.max_parts:
        return False
    at_border = lesion[0].any() or lesion[-1].any() or lesion[:, 0].any() or lesion[:, -1].any()
    return limits.may_touch_border or not at_border


def is_plausible(pair: Pair, limits: MaskLimits, ranges: Ranges) -> bool:
    """Whether a sample may pass."""
    return mask_is_plausible(pair.mask, limits) and ranges.hold(statistics(pair.image))
