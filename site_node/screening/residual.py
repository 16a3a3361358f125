"""Local contrast: what is left of an image when brightness, colour and illumination are taken away.

Two patients' images share their frame, their bright middle and their dark corners; a copy shares its detail. What is
compared is therefore g minus its local mean, divided by its local spread, inside the part that the camera lit.
"""

from __future__ import annotations

from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pixels

Plane: TypeAlias = NDArray[np.float32]

# Grey levels up to this are the frame around a camera's field, or a picture in it that is switched off.
DARK = 18
# Added to the local spread, as a share of the whole's: flat mucosa must not be stretched into a texture of noise.
_FLAT = 0.5
_LEAST_SPREAD = 0.5  # grey levels: below it there is only rounding


def grey(image: Pixels) -> Plane:
    """float32 [H, W] in [0, 255]: luma (ITU-R BT.601)."""
    plane = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return np.asarray(plane, dtype=np.float32)


def lit(plane: Plane) -> Plane:
    """float32 [H, W] of 0 and 1: where the camera saw something, without the rim of dark areas."""
    height = plane.shape[0]
    closing = max(3, height // 24) | 1  # small dark spots are lesions and lumens, not frames
    mask = cv2.morphologyEx((plane > DARK).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((closing, closing), np.uint8))
    return np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8)), dtype=np.float32)


def residual(image: Pixels, side_px: int, sigma_px: float) -> Plane:
    """float32 [side_px, side_px]: local contrast at that size, 0 outside the lit part.

    image: uint8 [H, W] or [H, W, 3]; sigma_px: of the Gaussian neighbourhood, at side_px.
    """
    plane = grey(image)
    mask = lit(plane)
    size = (side_px, side_px)
    small = cv2.resize(plane * mask, size, interpolation=cv2.INTER_AREA)
    share = cv2.resize(mask, size, interpolation=cv2.INTER_AREA)
    inside = np.asarray(share > 0.5, dtype=np.float32)
    return local_contrast(np.asarray(small / np.maximum(share, 1e-3), dtype=np.float32), inside, sigma_px)


def local_contrast(plane: Plane, inside: Plane, sigma_px: float) -> Plane:
    """(g - mean) / (spread + 0.5 overall spread) over Gaussian neighbourhoods that see only what is inside.

    plane: float32 [S, S]; inside: 0 or 1, [S, S]. Outside it is 0.
    """
    weight = np.maximum(_smooth(inside, sigma_px), np.float32(1e-3))
    left = np.asarray((plane - _smooth(plane * inside, sigma_px) / weight) * inside, dtype=np.float32)
    spread = np.sqrt(_smooth(np.square(left), sigma_px) / weight)
    overall = float(np.sqrt(np.sum(left * left) / max(1.0, float(inside.sum()))))
    return np.asarray(left / (spread + _FLAT * max(overall, _LEAST_SPREAD)), dtype=np.float32)


def _smooth(plane: Plane, sigma_px: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def turned(plane: Plane, degrees: float) -> Plane:
    """[S, S] turned about its middle; 0 comes in at the corners."""
    side = plane.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2 - 0.5, side / 2 - 0.5), degrees, 1.0)
    return np.asarray(cv2.warpAffine(plane, matrix, (side, side)), dtype=np.float32)
