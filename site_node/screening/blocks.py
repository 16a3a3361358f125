"""Recombined pieces: small patches at corners, wherever they lie, that have one origin among the training images.

A patch counts as copied when it is far nearer to its nearest training patch than to the nearest one of any other
patient (Lowe's ratio test, 2004, across patients): what many patients share, a text, a frame, a highlight, is near to
several and counts for nothing. The score is the share of a sample's patches that are copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from shared.pairs import Pair
from site_node.screening.interface import Nearness, patient_numbers
from site_node.screening.report import CheckName
from site_node.screening.residual import Plane, residual
from site_node.screening.vectors import unit

PATCH_PX = 9
MOST_PATCHES = 400
LARGEST_SIDE_PX = 256
RATIO = 0.7
_NEAR = 0.1
_SIGMA_PX = 4.0
_AT_ONCE = 100  # patches of a sample
_FEWEST = 8  # patches, without which a share of them says nothing

Patches = NDArray[np.float32]


class Blocks:
    """Pieces of training images in any arrangement, turned by quarters or mirrored."""

    name: CheckName = "blocks"

    def describe(self, pair: Pair) -> Patches:
        """[up to MOST_PATCHES, PATCH_PX ** 2]."""
        return patches(residual(pair.image, min(pair.mask.shape[0], LARGEST_SIDE_PX), _SIGMA_PX))

    def fit(self, described: Sequence[Patches], patients: Sequence[str], /) -> None:
        """Takes the training patches."""
        self._patient = torch.from_numpy(patient_numbers(patients))  # [N]
        most = max((len(some) for some in described), default=0)
        bank = torch.zeros(len(described), most, PATCH_PX**2)
        for place, some in enumerate(described):
            bank[place, : len(some)] = torch.from_numpy(some)
        self._bank = bank.flatten(0, 1)  # [N * most, PATCH_PX ** 2]; a row of zeros is near to nothing

    def nearest(self, pair: Pair) -> Nearness:
        """The share of copied patches, in [0, 1], and the training case that most of them come from."""
        query = torch.from_numpy(self.describe(pair))
        if len(query) < _FEWEST or len(set(self._patient.tolist())) < 2:
            return Nearness(0.0, None)
        # [Q, N]: how like each patch is to the likest patch of each case; a part at a time, for memory's sake.
        cases = len(self._patient)
        parts = [query[start : start + _AT_ONCE] for start in range(0, len(query), _AT_ONCE)]
        likeness = torch.cat([(part @ self._bank.T).view(len(part), cases, -1).amax(2) for part in parts])
        first, case = likeness.max(1)
        others = likeness.masked_fill(self._patient == self._patient[case][:, None], -1.0).amax(1)
        copied = _distance(first) < RATIO * _distance(others)
        origins = case[copied]
        place = int(origins.bincount().argmax()) if len(origins) else None
        return Nearness(float(copied.float().mean()), place)


def _distance(correlation: torch.Tensor) -> torch.Tensor:
    """Of two vectors of length 1; what is nearer than _NEAR is as near as can be, or ratios would tell of noise."""
    return (2.0 - 2.0 * correlation).clamp(min=_NEAR**2).sqrt()


def patches(plane: Plane) -> Patches:
    """The strongest corners' patches, each in its own position: [up to MOST_PATCHES, PATCH_PX ** 2], length 1.

    plane: float32 [S, S]. Corners: Shi and Tomasi (1994).
    """
    smooth = np.asarray(cv2.GaussianBlur(plane, (0, 0), 0.7), dtype=np.float32)
    strength = np.asarray(cv2.cornerMinEigenVal(smooth, 5, ksize=3), dtype=np.float32)
    is_peak = (strength == cv2.dilate(strength, np.ones((5, 5), np.uint8))) & (strength > 1e-6)
    rim = PATCH_PX // 2
    is_peak[:rim] = is_peak[-rim:] = is_peak[:, :rim] = is_peak[:, -rim:] = False
    rows, columns = np.nonzero(is_peak)
    strongest = np.argsort(-strength[rows, columns], kind="stable")[:MOST_PATCHES]
    windows = np.lib.stride_tricks.sliding_window_view(smooth, (PATCH_PX, PATCH_PX))
    found = windows[rows[strongest] - rim, columns[strongest] - rim]
    found = _in_own_position(found - found.mean((1, 2), keepdims=True))
    return unit(found.reshape(len(found), PATCH_PX**2))


def _in_own_position(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each of [N, K, K] mirrored and turned so that its first moments are positive, the horizontal one the larger.

    A patch and any of its eight positions become the same: a bank then holds one of each.
    """
    axis = np.linspace(-1.0, 1.0, found.shape[1], dtype=np.float32)
    across = (found * axis).sum((1, 2))
    down = (found * axis[:, None]).sum((1, 2))
    found = np.where((across < 0)[:, None, None], found[:, :, ::-1], found)
    found = np.where((down < 0)[:, None, None], found[:, ::-1], found)
    return np.where((np.abs(down) > np.abs(across))[:, None, None], found.transpose(0, 2, 1), found)
