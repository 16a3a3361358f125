"""Where in a frame the camera saw something.

Endoscopes, fundus cameras and many ultrasound machines fill the frame around a round, clipped or fan-shaped picture
with flat black. Promise: only what is black, flat and connected to the frame's edge is left out, and only where that
is a border of the whole picture: it holds two of the frame's four corners or all of one edge, and the picture begins
beside it at once. A dark lumen, an acoustic shadow, a vignette is not taken for a border.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pixels

# Of 255. A border's black is what the frame's own edge holds: 0 to about 25 in stored frames, where a camera's lift and
# JPEG are on it. Around that level JPEG leaves ripples of a few grey levels; tissue in shadow varies more.
_BLACKEST_EDGE = 30
_ABOVE_EDGE = 10
_RIPPLE = 14
# Of the shorter side: writing in a black border is thinner than this, and a field of view is not.
_STROKE = 1 / 24
# A picture begins at its border within this share of the shorter side, with a level so much above the border's, in the
# median over the outline. Of 400 real endoscopies each had 26 and more; of 31 acoustic shadows in two corners of a
# breast ultrasound, 30 had less than 25.
_BEGINS_WITHIN = 1 / 36
_BEGINS_ABOVE = 25
# A field that fills its convex hull so far is convex but for shadows at its rim, and they are content.
_NEARLY_CONVEX = 0.97
# A field smaller than this share of the frame is no field: a night shot, or a reader of the frame that went wrong.
_LEAST_SHARE = 0.05


@dataclass(frozen=True)
class Box:
    """Rows top to bottom and columns left to right of a frame, in pixels; bottom and right are past the last."""

    top: int
    left: int
    bottom: int
    right: int

    def cut(self, pixels: Pixels) -> Pixels:
        """The part of uint8 [H, W] or [H, W, C] in the box: a copy."""
        return pixels[self.top : self.bottom, self.left : self.right].copy()


def field_of_view(image: Pixels) -> NDArray[np.bool_]:
    """[H, W]: True where the camera saw something; True everywhere in a frame without a black border.

    image: uint8 [H, W] or [H, W, 3]. The same image gives the same answer; no pixel is changed.
    """
    level = image if image.ndim == 2 else image.max(axis=2)  # [H, W]: black is dark in every channel
    whole = np.ones(level.shape, np.bool_)
    ring = np.concatenate([level[0], level[-1], level[:, 0], level[:, -1]])
    edge = float(np.percentile(ring, 10))
    if edge > _BLACKEST_EDGE:
        return whole
    border = _touching_the_edge(_flat_and_dark(level, edge))
    if not _is_a_border(border):
        return whole
    field = _largest_part(_without_strokes(~border))
    if field.mean() < _LEAST_SHARE or not _begins_at_once(level, field, edge):
        return whole
    return _with_its_rim(field)


def box_of(field: NDArray[np.bool_]) -> Box:
    """The smallest box that holds every True of field [H, W]; the whole frame where there is none."""
    rows, columns = np.flatnonzero(field.any(axis=1)), np.flatnonzero(field.any(axis=0))
    if rows.size == 0:
        return Box(0, 0, *field.shape)
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def _flat_and_dark(level: Pixels, edge: float) -> NDArray[np.uint8]:
    """[H, W] of 0 and 1."""
    middle = cv2.medianBlur(level, 3)
    square = np.ones((3, 3), np.uint8)
    ripple = cv2.dilate(middle, square).astype(np.int16) - cv2.erode(middle, square)
    # The ring beside the picture itself is not flat; closing takes it back as far as it is dark.
    dark = (middle <= edge + _ABOVE_EDGE).astype(np.uint8)
    flat = dark & (ripple <= _RIPPLE).astype(np.uint8)
    return dark & cv2.dilate(flat, square).astype(np.uint8)


def _touching_the_edge(dark: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Those parts of dark [H, W] that reach the frame's edge."""
    _, parts = cv2.connectedComponents(dark, connectivity=4)
    at_edge = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    return np.isin(parts, at_edge[at_edge > 0])


def _is_a_border(border: NDArray[np.bool_]) -> bool:
    corners = sum(bool(border[y, x]) for y in (0, -1) for x in (0, -1))
    sides = (border[0], border[-1], border[:, 0], border[:, -1])
    return corners >= 2 or any(bool(side.all()) for side in sides)


def _begins_at_once(level: Pixels, field: NDArray[np.bool_], edge: float) -> bool:
    """Whether level [H, W] leaves the border's level as steeply as the edge of a picture does."""
    reach = 2 * max(2, round(min(field.shape) * _BEGINS_WITHIN)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    rim = field & (cv2.dilate((~field).astype(np.uint8), disc) > 0)
    return bool(rim.any()) and float(np.median(level[rim])) - edge >= _BEGINS_ABOVE


def _with_its_rim(field: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The convex hull of field [H, W] where it is nearly filled, else the field: a notch in the picture stays out."""
    outlines, _ = cv2.findContours(field.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    hull = np.zeros(field.shape, np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(outlines)), 1)
    filled = hull > 0
    return filled if field.sum() >= _NEARLY_CONVEX * filled.sum() else field


def _without_strokes(field: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """field [H, W] with writing in the border opened away and pinholes closed."""
    width = max(3, round(min(field.shape) * _STROKE) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    seen = field.astype(np.uint8)
    # The frame's edge counts as field on the way: a picture that fills a side must not be eaten from there.
    padded = cv2.copyMakeBorder(seen, width, width, width, width, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc)
    return np.ascontiguousarray(opened[width:-width, width:-width])


def _largest_part(seen: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The largest connected part, with every hole in it filled: what lies inside the field is content."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(seen, connectivity=4)
    if count == 1:
        return np.zeros(seen.shape, np.bool_)
    part = parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    outside = _touching_the_edge((~part).astype(np.uint8))
    return ~outside
