"""Plausible samples: masks within the study's limits, images within what the cohort shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm

from shared.pairs import Pixels
from shared.study import MaskLimits

_ROOM = 0.5
"""How far outside the cohort's range a statistic may lie, as a share of the range."""
_STATISTICS = 5
# A few patients show little of what their camera sees. Of images from where theirs are from, _CONTENT are to lie within
# on all statistics at once, with _CONFIDENCE; each statistic gets its part of both shortfalls (Bonferroni).
_CONTENT, _CONFIDENCE = 0.99, 0.95
_DETAIL = 4
_LEAST_PART = 0.0005  # of the image: a smaller speck is no lesion and does not count as one


@dataclass(frozen=True)
class Ranges:
    """Of image statistics over the training cases: each [_STATISTICS], lowest and highest that is allowed."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]

    @classmethod
    def of(cls, statistics: Sequence[NDArray[np.float64]], patients: int) -> Ranges:
        """The range with _ROOM on either side, or the tolerance interval on the side on which that is wider.

        statistics: of each training image, one or more; patients: how many they are of, which is what the interval
        counts, as images of one patient are alike. It is that of a normal distribution, and the wider one below some
        forty patients; of hundreds it lies well inside the range. One patient alone allows everything.
        """
        stacked = np.stack(statistics)
        low, high = stacked.min(0), stacked.max(0)
        room = _ROOM * np.maximum(high - low, 1.0)
        middle = stacked.mean(0)
        apart = np.full(_STATISTICS, np.inf)
        if patients > 1:
            apart = _factor(patients) * stacked.std(0, ddof=1)
        low, high = np.minimum(low - room, middle - apart), np.maximum(high + room, middle + apart)
        low[_DETAIL] = 0.0  # soft images are what generators draw, and hardly worse to learn from; noise is
        return cls(low, high)

    def hold(self, found: NDArray[np.float64]) -> bool:
        """Whether an image's statistics lie within."""
        return bool(np.all((found >= self.low) & (found <= self.high)))


def tolerance_factor(count: int, content: float, confidence: float) -> float:
    """How many standard deviations on either side of the mean hold this content of a normal distribution.

    count: values (2 or more) that mean and deviation were estimated from; content: a share of the distribution, held
    with this confidence. Howe (1969): z((1 + content) / 2) * sqrt((n - 1) (1 + 1 / n) / chi2(1 - confidence; n - 1)).
    """
    spread = (count - 1) * (1.0 + 1.0 / count) / chi2.ppf(1.0 - confidence, count - 1)
    return float(norm.ppf((1.0 + content) / 2.0) * np.sqrt(spread))


def _factor(count: int) -> float:
    """For one of the statistics, so that the promise holds for all together."""
    return tolerance_factor(count, 1.0 - (1.0 - _CONTENT) / _STATISTICS, 1.0 - (1.0 - _CONFIDENCE) / _STATISTICS)


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
