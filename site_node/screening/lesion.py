"""Copies of a lesion, whatever lies around it: what is inside the mask, brought to one size, against all lesions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from shared.pairs import Pair
from site_node.screening.interface import Nearness
from site_node.screening.positions import positions
from site_node.screening.report import CheckName
from site_node.screening.residual import Plane, grey, local_contrast, turned
from site_node.screening.sliding import Sliding

SIDE_PX, SIGMA_PX = 32, 3.0
_TURNS = (-15.0, 0.0, 15.0)
_SHIFTS = range(-3, 4)
_MARGIN = 1.08
_FEWEST_PX = 30  # a smaller mask has no inside to compare


class Lesions:
    """The lesion of any training case, mirrored, turned, or of another size."""

    name: CheckName = "lesion"

    def describe(self, pair: Pair) -> Plane | None:
        """Local contrast inside the mask, [SIDE_PX, SIDE_PX]; None where the mask is next to nothing."""
        return lesion(pair)

    def fit(self, described: Sequence[Plane | None], _patients: Sequence[str], /) -> None:
        """Takes the training lesions."""
        self._places = [place for place, plane in enumerate(described) if plane is not None]
        self._bank = Sliding([plane for plane in described if plane is not None])
        self._energy: torch.Tensor = self._bank.energy(np.ones((SIDE_PX, SIDE_PX), np.float32))

    def nearest(self, pair: Pair) -> Nearness:
        """The largest correlation, in [-1, 1]."""
        plane = lesion(pair)
        if plane is None or not self._places:
            return Nearness(-1.0, None)
        views = [view for angle in _TURNS for view in positions(turned(plane, angle))]
        found = self._bank.nearest(views, self._energy, _SHIFTS)
        return Nearness(found.score, None if found.place is None else self._places[found.place])


def lesion(pair: Pair) -> Plane | None:
    """Local contrast of what the mask covers, the mask's square brought to [SIDE_PX, SIDE_PX], 0 outside the mask."""
    mask = np.asarray(pair.mask > 127, dtype=np.uint8)
    rows, columns = np.nonzero(mask)
    if len(rows) < _FEWEST_PX:
        return None
    middle = ((columns.min() + columns.max()) / 2, (rows.min() + rows.max()) / 2)
    side = (max(int(np.ptp(rows)), int(np.ptp(columns))) + 1) * _MARGIN
    scale = SIDE_PX / side
    centre = SIDE_PX / 2 - 0.5
    matrix = np.asarray(
        [[scale, 0.0, centre - scale * middle[0]], [0.0, scale, centre - scale * middle[1]]], np.float32
    )
    plane = grey(pair.image)
    if scale < 1.0:  # without this, what is made smaller keeps detail that its copy loses
        plane = np.asarray(cv2.GaussianBlur(plane, (0, 0), 0.5 / scale), dtype=np.float32)
    size = (SIDE_PX, SIDE_PX)
    square = cv2.warpAffine(plane, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.asarray(cv2.warpAffine(mask * 255, matrix, size) > 127, dtype=np.uint8)
    # The rim belongs half to what lies around it.
    inside = np.asarray(cv2.erode(inside, np.ones((3, 3), np.uint8)), dtype=np.uint8)
    return local_contrast(np.asarray(square, dtype=np.float32), inside.astype(np.float32), SIGMA_PX)
