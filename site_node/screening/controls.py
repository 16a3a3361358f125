"""The positive control: copies of training images that the screening plants and must find.

A screening that cannot find what it planted itself says nothing by finding nothing. Every run plants these kinds, and
a release is blocked when the share found of a kind is under the floor.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFilter

from shared.pairs import Pixels


def _jpeg(image: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=30)
    return np.asarray(Image.open(buffer))


def _recoloured(image: Pixels) -> Pixels:
    return np.asarray(np.clip(image.astype(np.float32) * 0.8 + 30.0, 0, 255), dtype=np.uint8)


def _blurred(image: Pixels) -> Pixels:
    # In proportion to the image, so that a copy is as hard to see at 32 px as at 512.
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(0.02 * max(image.shape[:2]))))


# Every kind that correlation over turns and mirrors claims to catch. Crops, warps and pasted parts are beyond it.
PLANTED: dict[str, Callable[[Pixels], Pixels]] = {
    "exact": lambda image: image,
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "turned": lambda image: np.ascontiguousarray(np.rot90(image)),
    "jpeg": _jpeg,
    "recoloured": _recoloured,
    "blurred": _blurred,
}
