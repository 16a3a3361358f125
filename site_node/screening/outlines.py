"""Copies of masks: how much a sample's outline overlaps any training outline, over positions and shifts.

Lesions of different patients can have the same outline, above all round ones. So a sample is not dropped for it: the
share of samples with a training case's outline is set against the share of hold-out cases that have one.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pair
from site_node.screening.interface import Nearness
from site_node.screening.positions import positions
from site_node.screening.report import CheckName

SIDE_PX = 48
SAME = 0.95
"""From this intersection over union on, two outlines are called the same."""

Outline = NDArray[np.float32]


class Outlines:
    """Training masks, mirrored, turned by quarters or moved."""

    name: CheckName = "mask"

    def describe(self, pair: Pair) -> Outline:
        """0 or 1, [SIDE_PX, SIDE_PX], moved so that its middle is the image's."""
        return outline(pair)

    def fit(self, described: Sequence[Outline], _patients: Sequence[str], /) -> None:
        """Takes the training masks."""
        self._bank = np.stack([mask.ravel() for mask in described]) if described else np.zeros((0, SIDE_PX**2))
        self._areas = self._bank.sum(1)

    def nearest(self, pair: Pair) -> Nearness:
        """The largest intersection over union, in [0, 1]."""
        if not len(self._bank):
            return Nearness(0.0, None)
        views = np.stack([view.ravel() for view in positions(outline(pair))])  # [8, SIDE_PX ** 2]
        shared = self._bank @ views.T  # [N, 8]
        union = self._areas[:, None] + views.sum(1)[None] - shared
        overlap = (shared / np.maximum(union, 1.0)).max(1)
        place = int(overlap.argmax())
        return Nearness(float(overlap[place]), place)


def outline(pair: Pair) -> Outline:
    """The mask at SIDE_PX, its centre of mass moved to the middle; what leaves the square is cut."""
    small = cv2.resize(pair.mask, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
    mask = np.asarray(small > 127, dtype=np.float32)
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return mask
    middle = SIDE_PX / 2 - 0.5
    matrix = np.asarray([[1, 0, round(middle - columns.mean())], [0, 1, round(middle - rows.mean())]], np.float32)
    return np.asarray(cv2.warpAffine(mask, matrix, (SIDE_PX, SIDE_PX), flags=cv2.INTER_NEAREST), dtype=np.float32)
