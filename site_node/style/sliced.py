"""Kind `sliced`: a sample takes the distribution of a reference's colours and small patches, by optimal transport.

Along one random direction after another, values are sorted and given the reference's of equal rank: the exact transport
in one dimension. First the colours of the image, then the 3 x 3 patches of each band of its Laplacian pyramid.
Along an orthonormal basis at a time this is Pitié, Kokaram and Dahyot's iteration ("N-dimensional probability density
function transfer", 2005); on patches it is a step of Elnekave and Weiss's ("Generating natural images with direct
patch distribution matching", 2022); matching bands is Heeger and Bergen's ("Pyramid-based texture analysis/synthesis",
1995). No network and no training.

Promise: equal images and seed give equal pixels, and each step keeps the order of values along its directions. A dark
patch may turn black where the reference has more black than the sample: shares of colour are matched, not things.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shared.pairs import Pixels
from site_node.style.lab import Floats
from site_node.style.laplacian import join, split

BANDS = 3  # at most: texture of about 1, 2 and 4 px; what is coarser is colour and layout
_SMALLEST_LOWPASS_PX = 4
_PATCH_PX = 3
_COLOUR_ROUNDS = 3  # more would cut plain areas into steps
_PATCH_ROUNDS = 4
_LEAST_STEP = 0.25  # grey levels: what differs by less is equal, or ranks would make texture out of rounding
_DIRECTIONS = 9  # of a round, at most: each is a sort of all patches


class SlicedTransfer:
    """The kind `sliced`; its look is the reference's pixels [h, w, C]."""

    def look(self, reference: Pixels) -> Floats:
        """uint8 [h, w, 3] or [h, w] -> float64 [h, w, C]."""
        floats = reference.astype(np.float64)
        return floats if floats.ndim == 3 else floats[:, :, None]

    def move(self, images: Sequence[Pixels], looks: Sequence[Floats], seed: int) -> list[Floats]:
        """Each image moved to its look: float64 in [0, 255], of the image's shape. Equal for every place in a batch."""
        moved = []
        for image, look in zip(images, looks, strict=True):
            own = self.look(image)
            styled = _transport(own, look, np.random.default_rng(seed))
            moved.append(styled.clip(0.0, 255.0).reshape(image.shape))
        return moved


def _transport(image: Floats, reference: Floats, random: np.random.Generator) -> Floats:
    """image [H, W, C] with the colours and patches of reference [h, w, C]."""
    image = _match_patches(image, reference, 1, _COLOUR_ROUNDS, random)
    levels = min(_levels(image), _levels(reference))
    own_bands, own_low = split(image, levels)
    their_bands, _ = split(reference, levels)
    pairs = zip(own_bands, their_bands, strict=True)
    return join([_match_patches(own, theirs, _PATCH_PX, _PATCH_ROUNDS, random) for own, theirs in pairs], own_low)


def _match_patches(image: Floats, reference: Floats, side: int, rounds: int, random: np.random.Generator) -> Floats:
    """image [H, W, C], its side x side patches moved to the reference's; overlapping patches move by their average."""
    theirs = _patches(reference, side)  # [h, w, C] -> [m, d], d = C side side
    for _ in range(rounds):
        own = _patches(image, side)  # [H, W, C] -> [n, d]
        basis = np.linalg.qr(random.standard_normal((own.shape[1], own.shape[1])))[0][:, :_DIRECTIONS]  # [d, k]
        step = (_matched(own @ basis, theirs @ basis) - own @ basis) @ basis.T  # [n, k] -> [n, d]
        if side > 1:
            step -= step.mean(axis=0)  # a band has no mean; what its patches seem to have comes from the borders
        image = image + _folded(step, image.shape, side)
    return image


def _matched(values: Floats, reference: Floats) -> Floats:
    """values [n, k], each column with the reference's [m, k] values of equal rank: transport in one dimension."""
    wanted = _at_ranks(np.sort(reference, axis=0), len(values))  # [m, k] -> [n, k]
    values = (values / _LEAST_STEP).round() * _LEAST_STEP
    order = np.argsort(values, axis=0, kind="stable")
    matched = np.empty_like(values)
    for column, ranks in enumerate(order.T):
        matched[ranks, column] = _equal_for_equal(values[ranks, column], wanted[:, column])
    return matched


def _at_ranks(ordered: Floats, count: int) -> Floats:
    """Columns in ascending order [m, k], read at `count` ranks instead of m."""
    if len(ordered) == count:
        return ordered
    at = (np.arange(count) + 0.5) / count * len(ordered) - 0.5
    return np.stack([np.interp(at, np.arange(len(ordered)), column) for column in ordered.T], axis=1)


def _equal_for_equal(ordered: Floats, wanted: Floats) -> Floats:
    """wanted [n], averaged where ordered [n] has equal values: else a plain area would take on a gradient."""
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1.0))
    if len(starts) == len(ordered):
        return wanted
    counts = np.diff(starts, append=len(ordered))
    averaged: Floats = (np.add.reduceat(wanted, starts) / counts).repeat(counts)
    return averaged


def _patches(image: Floats, side: int) -> Floats:
    """The patch around each pixel of [H, W, C], borders repeated: [H W, C side side]."""
    reach = side // 2
    padded = np.pad(image, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(0, 1))  # [H, W, C, side, side]
    return windows.reshape(image.shape[0] * image.shape[1], -1)


def _folded(patches: Floats, shape: tuple[int, ...], side: int) -> Floats:
    """The average at each pixel of the patches [H W, C side side] that lie over it: [H, W, C]."""
    height, width, channels = shape
    reach = side // 2
    windows = patches.reshape(height, width, channels, side, side)
    total = np.zeros((height + 2 * reach, width + 2 * reach, channels))
    count = np.zeros((height + 2 * reach, width + 2 * reach, 1))
    for y in range(side):
        for x in range(side):
            total[y : y + height, x : x + width] += windows[:, :, :, y, x]
            count[y : y + height, x : x + width] += 1.0
    inside = (slice(reach, reach + height), slice(reach, reach + width))
    averaged: Floats = total[inside] / count[inside]
    return averaged


def _levels(image: Floats) -> int:
    """How many times an image can be halved before its low-pass holds too few pixels to have colours."""
    shorter = int(min(image.shape[:2]))
    return min(BANDS, max(0, (shorter // _SMALLEST_LOWPASS_PX).bit_length() - 1))
