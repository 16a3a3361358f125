"""The positive control: copies of training cases that the screening plants among the samples, and must find.

A screening that cannot find what it planted itself says nothing by finding nothing. Every run plants these kinds, and
a release is blocked when the share found of a kind is under the policy's floor. Where a copy needs other content, it
comes from a hold-out case, so that nothing but the planted part can give it away.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shared.pairs import Pair, Pixels

Plant = Callable[[Pair, Pair, np.random.Generator], Pair]

# Blocks are as long as this in pixels, whatever the image's size, as long as some are left to shuffle.
BLOCK_PX = 24
_FEWEST_BLOCKS_A_SIDE = 3


def _on_both(change: Callable[[Pixels], Pixels]) -> Plant:
    """A change of geometry, to the image and to its mask."""
    return lambda pair, _stranger, _rng: Pair(_whole(change(pair.image)), _whole(change(pair.mask)))


def _on_image(change: Callable[[Pixels], Pixels]) -> Plant:
    return lambda pair, _stranger, _rng: Pair(_whole(change(pair.image)), pair.mask)


def _whole(image: Pixels) -> Pixels:
    return np.ascontiguousarray(image)


def _jpeg(image: Pixels) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=30)
    return np.asarray(Image.open(buffer))


def _recoloured(image: Pixels) -> Pixels:
    """Darker, with less contrast and, where there are colours, their order turned round."""
    turned = image[..., ::-1] if image.ndim == 3 else image
    return np.asarray(np.clip(turned.astype(np.float32) * 0.7 + 40.0, 0, 255), dtype=np.uint8)


def _blurred(image: Pixels) -> Pixels:
    # In proportion to the image, so that a copy is as hard to see at 32 px as at 512.
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 0.02 * max(image.shape[:2])), dtype=np.uint8)


def _turned(pair: Pair, _stranger: Pair, rng: np.random.Generator) -> Pair:
    """By 15 degrees one way or the other, about the middle; the border is mirrored into the corners."""
    height, width = pair.mask.shape
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), float(rng.choice((-15.0, 15.0))), 1.0)
    return _warp_affine(pair, matrix)


def _cropped(pair: Pair, _stranger: Pair, rng: np.random.Generator) -> Pair:
    """A part of 70 % of each side, anywhere, enlarged to the whole."""
    height, width = pair.mask.shape
    part_h, part_w = round(0.7 * height), round(0.7 * width)
    top, left = int(rng.integers(0, height - part_h + 1)), int(rng.integers(0, width - part_w + 1))
    part = Pair(
        pair.image[top : top + part_h, left : left + part_w], pair.mask[top : top + part_h, left : left + part_w]
    )
    return Pair(
        np.asarray(cv2.resize(part.image, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8),
        np.asarray(cv2.resize(part.mask, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8),
    )


def _warped(pair: Pair, _stranger: Pair, rng: np.random.Generator) -> Pair:
    """Bent smoothly, by up to 4 % of the side."""
    height, width = pair.mask.shape
    field = rng.standard_normal((2, height, width)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(part, (0, 0), height / 8, borderType=cv2.BORDER_REFLECT) for part in field])
    smooth *= 0.04 * height / np.abs(smooth).max()
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    x, y = (columns + smooth[0]).astype(np.float32), (rows + smooth[1]).astype(np.float32)
    bent = cv2.remap(pair.image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return Pair(
        np.asarray(bent, dtype=np.uint8),
        np.asarray(cv2.remap(pair.mask, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT), dtype=np.uint8),
    )


def _blended(pair: Pair, stranger: Pair, _rng: np.random.Generator) -> Pair:
    """Half the training image and half a hold-out patient's."""
    half = (pair.image.astype(np.uint16) + stranger.image + 1) // 2
    return Pair(half.astype(np.uint8), pair.mask)


def _lesion_pasted(pair: Pair, stranger: Pair, rng: np.random.Generator) -> Pair:
    """The lesion, mirrored or not, moved to somewhere else on a hold-out patient's image, with a soft rim."""
    image, mask = pair.image, pair.mask
    if rng.random() < 0.5:
        image, mask = image[:, ::-1], mask[:, ::-1]
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    if not len(rows):
        return Pair(stranger.image, mask)
    down = int(rng.integers(-rows.min(), height - rows.max()))
    right = int(rng.integers(-columns.min(), width - columns.max()))
    move = np.asarray([[1, 0, right], [0, 1, down]], np.float32)
    moved = _warp_affine(Pair(_whole(image), _whole(mask)), move)
    weight = cv2.GaussianBlur(moved.mask.astype(np.float32) / 255.0, (0, 0), max(0.5, 0.006 * height))
    weight = weight[..., None] if image.ndim == 3 else weight
    pasted = moved.image * weight + stranger.image * (1.0 - weight)
    return Pair(np.asarray(np.rint(pasted), dtype=np.uint8), moved.mask)


def _blocks_shuffled(pair: Pair, _stranger: Pair, rng: np.random.Generator) -> Pair:
    """Blocks of BLOCK_PX (a third of the side where that is less) in another order; what does not fill one stays."""
    side = min(pair.mask.shape)
    block = min(BLOCK_PX, side // _FEWEST_BLOCKS_A_SIDE)
    starts = [(y, x) for y in range(0, side - block + 1, block) for x in range(0, side - block + 1, block)]
    image, mask = pair.image.copy(), pair.mask.copy()
    for (y, x), place in zip(starts, rng.permutation(len(starts)), strict=True):
        from_y, from_x = starts[place]
        image[y : y + block, x : x + block] = pair.image[from_y : from_y + block, from_x : from_x + block]
        mask[y : y + block, x : x + block] = pair.mask[from_y : from_y + block, from_x : from_x + block]
    return Pair(image, mask)


def _warp_affine(pair: Pair, matrix: NDArray[Any]) -> Pair:
    size = (pair.mask.shape[1], pair.mask.shape[0])
    return Pair(
        np.asarray(
            cv2.warpAffine(pair.image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.uint8
        ),
        np.asarray(cv2.warpAffine(pair.mask, matrix, size, flags=cv2.INTER_NEAREST), dtype=np.uint8),
    )


PLANTED: dict[str, Plant] = {
    "exact": lambda pair, _stranger, _rng: pair,
    "jpeg-30": _on_image(_jpeg),
    "mirrored": _on_both(lambda pixels: pixels[:, ::-1]),
    "turned-90": _on_both(np.rot90),
    "turned-15": _turned,
    "cropped-70": _cropped,
    "recoloured": _on_image(_recoloured),
    "warped": _warped,
    "blurred": _on_image(_blurred),
    "half-blended": _blended,
    "lesion-pasted": _lesion_pasted,
    "blocks-shuffled": _blocks_shuffled,
}


def with_date(pair: Pair, rng: np.random.Generator) -> Pair:
    """The pair with a date burned into its image, as cameras do it: for the reader of text, not for the checks."""
    side = min(pair.mask.shape)
    size = max(11, side // 16)
    day, month, year = rng.integers(1, 29), rng.integers(1, 13), rng.integers(1970, 2030)
    drawn = Image.fromarray(pair.image)
    white = 255 if pair.image.ndim == 2 else (255, 255, 255)
    place = (2, int(rng.integers(2, max(3, side - 2 * size))))
    ImageDraw.Draw(drawn).text(place, f"{day:02}/{month:02}/{year}", fill=white, font=ImageFont.load_default(size))
    return Pair(np.asarray(drawn), pair.mask)


# Copies of parts, which are harder to tell from what two patients have in common.
PARTS = frozenset({"lesion-pasted", "blocks-shuffled"})
