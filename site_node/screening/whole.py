"""Copies of whole images: correlation of local contrast over turns, mirrors and small shifts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from shared.pairs import Pair
from site_node.screening.interface import Nearness
from site_node.screening.positions import positions
from site_node.screening.report import CheckName
from site_node.screening.residual import Plane, residual, turned
from site_node.screening.sliding import Sliding

SIDE_PX, SIGMA_PX = 48, 2.0
# With quarter turns and mirrors these cover the circle in steps of 15 degrees.
_TURNS = (-30.0, -15.0, 0.0, 15.0, 30.0, 45.0)
_SHIFTS = range(-4, 5)
_RADIUS = 0.46  # of a disc that no turn takes out of the image


class WholeImages:
    """Any training image, turned by any angle, mirrored, shifted by up to a twelfth of its side."""

    name: CheckName = "whole"

    def describe(self, pair: Pair) -> Plane:
        """Local contrast [SIDE_PX, SIDE_PX]."""
        return residual(pair.image, SIDE_PX, SIGMA_PX)

    def fit(self, described: Sequence[Plane], _patients: Sequence[str], /) -> None:
        """Takes the training images."""
        self._bank = Sliding(described)
        self._energy: torch.Tensor = self._bank.energy(_DISC)

    def nearest(self, pair: Pair) -> Nearness:
        """The largest correlation, in [-1, 1]."""
        plane = self.describe(pair)
        views = [view * _DISC for angle in _TURNS for view in positions(turned(plane, angle))]
        return self._bank.nearest(views, self._energy, _SHIFTS)


def _disc() -> Plane:
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX] - (SIDE_PX - 1) / 2
    return np.asarray(np.hypot(rows, columns) <= _RADIUS * SIDE_PX, dtype=np.float32)


_DISC = _disc()
"""0 or 1, [SIDE_PX, SIDE_PX]."""
