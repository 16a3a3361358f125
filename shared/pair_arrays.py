"""Pairs as plain arrays: how synthetic pairs travel to a site, and how it reads them without decoding a file.

    images   uint8 [N, S, S] or [N, S, S, 3]
    masks    uint8 [N, ceil(S * S / 8)]: one bit a pixel, row by row, the first pixel in the highest bit

A PNG would be smaller, and a decoder is what a hostile file attacks: an array has a shape to check and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import SynthwardError
from shared.pairs import LazyPairs, Pair
from shared.study import ImageSpec

MAX_PAIRS_BYTES = 128 * 1024 * 1024


def fitting(image: ImageSpec) -> int:
    """How many pairs of this size travel at most at once."""
    return max(1, MAX_PAIRS_BYTES // (image.size_px**2 * (image.channels + 1)))


def to_arrays(pairs: Sequence[Pair], image: ImageSpec) -> dict[str, NDArray[Any]]:
    """The two arrays. pairs: of the study's size and channels, read one at a time."""
    side, colours = image.size_px, (3,) if image.channels == 3 else ()
    images = np.empty((len(pairs), side, side, *colours), np.uint8)
    masks = np.empty((len(pairs), -(-side * side // 8)), np.uint8)
    for place, pair in enumerate(pairs):
        images[place] = pair.image
        masks[place] = np.packbits(pair.mask >= 128)
    return {"images": images, "masks": masks}


def from_arrays(arrays: Mapping[str, NDArray[Any]], image: ImageSpec) -> Sequence[Pair]:
    """The pairs, each unpacked when it is asked for.

    Raises pairs.shape unless the arrays are exactly those of `to_arrays` for at least one pair.
    """
    side, colours = image.size_px, (3,) if image.channels == 3 else ()
    images, masks = arrays.get("images"), arrays.get("masks")
    if images is None or masks is None or len(arrays) != 2 or images.ndim == 0:
        raise _misshapen("the arrays are not images and masks")
    count = len(images)
    expected = ((count, side, side, *colours), (count, -(-side * side // 8)))
    if count == 0 or (images.shape, masks.shape) != expected or {images.dtype, masks.dtype} != {np.dtype("u1")}:
        raise _misshapen(f"images {images.dtype} {images.shape} and masks {masks.dtype} {masks.shape}")

    def unpacked(place: int) -> Pair:
        bits = np.unpackbits(masks[place], count=side**2)
        return Pair(images[place], bits.reshape(side, side) * np.uint8(255))

    return LazyPairs(range(count), unpacked)


def _misshapen(what: str) -> SynthwardError:
    return SynthwardError("pairs.shape", f"{what} are no pairs of this study")
