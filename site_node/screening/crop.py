"""Copies of a part of an image, enlarged to the whole: the sample, made smaller, slides over every training image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from shared.pairs import Pair
from site_node.screening.interface import Nearness
from site_node.screening.positions import positions
from site_node.screening.report import CheckName
from site_node.screening.residual import Plane, residual
from site_node.screening.sliding import Sliding

SIDE_PX, SIGMA_PX = 48, 2.5
# Sides of the part, as shares of the training image's; between two of them the match is still good.
SCALES = (0.62, 0.7, 0.78, 0.88)


class Crops:
    """Parts of training images, mirrored or turned by quarters."""

    name: CheckName = "crop"

    def describe(self, pair: Pair) -> Plane:
        """Local contrast [SIDE_PX, SIDE_PX]."""
        return residual(pair.image, SIDE_PX, SIGMA_PX)

    def fit(self, described: Sequence[Plane], _patients: Sequence[str], /) -> None:
        """Takes the training images."""
        self._bank = Sliding(described)
        self._energy: dict[int, torch.Tensor] = {
            side: self._bank.energy(np.ones((side, side), np.float32)) for side in _SIDES
        }

    def nearest(self, pair: Pair) -> Nearness:
        """The largest correlation over scales, in [-1, 1]."""
        found = []
        for side in _SIDES:
            # The same neighbourhood in pixels as in the bank, so that the same detail is compared.
            views = positions(residual(pair.image, side, SIGMA_PX))
            found.append(self._bank.nearest(views, self._energy[side], range(SIDE_PX - side + 1)))
        return max(found, key=lambda nearness: nearness.score)


_SIDES = tuple(round(scale * SIDE_PX) for scale in SCALES)
