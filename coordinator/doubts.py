"""Whether the masks of a bundle have anything to do with its images, as far as a look at some pairs can tell.

Poisoned pairs are in good form: masks that were exchanged, or one mask for all, pass every check of a file. They are
told of and admitted, since a lesion that differs little from its surroundings looks alike from here; an operator who
reads it asks the site.

The figure: how much brighter or darker an image is within its mask than in a ring around it, in its own standard
deviations, averaged over pairs; and how often that is reached when each image gets the mask of another pair, by turns.
It is the permutation test of the hypothesis that masks were dealt out at random. Not the whole rest of the image: in
ultrasound, depth alone makes more of a difference than a lesion does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from shared.pairs import Pair, Pixels

LOOKED_AT = 32  # pairs of a bundle
FEWEST = 16  # with fewer, no figure could tell masks from chance
MOST_BY_CHANCE = 0.1
_SIDE_PX = 32
_RING_PX = 4  # of 32


def masks_are_doubtful(pairs: Sequence[Pair]) -> bool:
    """Whether masks fit their images no better than other pairs' masks do; False where there are too few to tell."""
    return len(pairs) >= FEWEST and reached_by_chance(pairs) > MOST_BY_CHANCE


def reached_by_chance(pairs: Sequence[Pair]) -> float:
    """The share, in (0, 1], of turns of the masks, the true one among them, whose mean contrast is no less than it."""
    images = np.stack([_small(pair.image).ravel() for pair in pairs])
    masks = [_small(pair.mask) >= 128 for pair in pairs]
    rings = [_widened(mask) & ~mask for mask in masks]
    contrasts = _contrasts(images, _rows(masks), _rows(rings))
    count = len(pairs)
    turned = [float(np.mean([contrasts[i, (i + turn) % count] for i in range(count)])) for turn in range(count)]
    return sum(mean >= turned[0] - 1e-9 for mean in turned) / count


def _contrasts(
    images: NDArray[np.float64], masks: NDArray[np.float64], rings: NDArray[np.float64]
) -> NDArray[np.float64]:
    """All [N, pixels] -> [N, N]: of image i under mask j, |mean within - mean in the ring| / deviation."""
    within, around = (images @ where.T / np.maximum(where.sum(axis=1), 1.0) for where in (masks, rings))
    result: NDArray[np.float64] = np.abs(within - around) / np.maximum(images.std(axis=1, keepdims=True), 1e-6)
    return result


def _rows(shapes: Sequence[NDArray[np.bool_]]) -> NDArray[np.float64]:
    return np.stack([shape.ravel() for shape in shapes]).astype(np.float64)


def _widened(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask and what lies within four pixels of it."""
    wider = Image.fromarray(mask.astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * _RING_PX + 1))
    return np.asarray(wider) > 0


def _small(pixels: Pixels) -> NDArray[np.float64]:
    """[H, W] or [H, W, 3] -> grey, 32 x 32."""
    small = Image.fromarray(pixels).convert("L").resize((_SIDE_PX, _SIDE_PX), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)
