"""Painting over burned-in text: what is under the lines is made up from what lies around them.

Promise: no pixel outside of the lines' region changes, and the same image and lines give the same result. What is
painted is invented, so a caller says how much of the image it was, and leaves a lesion alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pixels
from site_node.text.reader import TextLine

# Of a line's height: letters' soft edges and JPEG's ripples reach out of the box that the detector draws.
_MARGIN = 0.2
_LEAST_MARGIN_PX = 2
_RADIUS_PX = 3.0  # of the neighbourhood that a painted pixel is taken from


@dataclass(frozen=True)
class Painted:
    """image: as the one given, uint8 [H, W] or [H, W, 3]; share: of its pixels that were painted, in [0, 1]."""

    image: Pixels
    share: float


def region(lines: Sequence[TextLine], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """[H, W]: True on the lines and a margin around each. shape: of the image, [H, W] or [H, W, C]."""
    covered = np.zeros(shape[:2], np.uint8)
    for line in lines:
        one = np.zeros_like(covered)
        cv2.fillPoly(one, [np.round(np.array(line.corners)).astype(np.int32)], 1)
        margin = max(_LEAST_MARGIN_PX, round(_MARGIN * line.height_px))
        covered |= cv2.dilate(one, np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)).astype(np.uint8)
    return covered > 0


def paint_over(image: Pixels, lines: Sequence[TextLine]) -> Painted:
    """The image uint8 [H, W] or [H, W, 3] without the lines (inpainting by Telea, 2004)."""
    under = region(lines, image.shape)
    if not under.any():
        return Painted(image.copy(), 0.0)
    made_up = cv2.inpaint(image, under.astype(np.uint8), _RADIUS_PX, cv2.INPAINT_TELEA)
    return Painted(np.asarray(made_up, np.uint8), float(under.mean()))


def share_of_lesion(lines: Sequence[TextLine], mask: Pixels) -> float:
    """The share of the lesion's pixels that painting would cover, in [0, 1]; mask: uint8 [H, W], 255 on the lesion."""
    lesion = mask > 0
    under = region(lines, mask.shape) & lesion
    return float(under.sum() / max(1, lesion.sum()))
