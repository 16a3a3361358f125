"""How far two sets of pairs are apart in their intensities and in their masks' shapes: divergences of histograms.

Kullback and Leibler's divergence of `some` from `others` in nats: sum of p log(p / q). Needs no network. To each side
one image is added that lies evenly over all bins (additive smoothing, 1 / bins each), so that an empty bin is rare and
not impossible, and the more so the more images were seen. All bins are fixed: none follows from the data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
INTENSITY_BINS = 32  # equal, over [0, 1], of each channel
SHAPE_BINS = 8  # equal, over [0, 1], of each figure of a mask; one more for masks that mark nothing


def intensity_divergence(some: Tensor, others: Tensor) -> float:
    """Divergence of the intensities, mean over the three channels. some, others: [N, 4, H, W] in [0, 1]."""
    divergences = []
    for channel in range(3):
        shares = [_intensities(side[:, channel].numpy()) for side in (some, others)]
        divergences.append(divergence(*shares))
    return float(np.mean(divergences))


def mask_divergence(some: Tensor, others: Tensor) -> float:
    """Divergence of the masks' geometry, mean over its five figures. some, others: [N, 4, H, W] in [0, 1]."""
    here, there = (_shapes(side[:, 3].numpy() > 0.5) for side in (some, others))  # [N, 5] and [M, 5]
    return float(np.mean([divergence(*(_histogram(side[:, k]) for side in (here, there))) for k in range(5)]))


def divergence(some: Floats, others: Floats) -> float:
    """Divergence of two histograms [bins], in images: a row of counts that sum to the number of images."""
    p, q = ((counts + 1.0 / counts.size) / (counts.sum() + 1.0) for counts in (some, others))
    return float((p * np.log(p / q)).sum())


def _intensities(plane: NDArray[np.float32]) -> Floats:
    """Histogram of [N, H, W], each image weighing 1: [INTENSITY_BINS]."""
    counts, _ = np.histogram(plane, bins=INTENSITY_BINS, range=(0.0, 1.0))
    return np.asarray(counts * (len(plane) / plane.size))


def _histogram(values: Floats) -> Floats:
    """Histogram of [N] in [0, 1]; those that are no number, of empty masks, get the last bin: [SHAPE_BINS + 1]."""
    empty = np.isnan(values)
    counts, _ = np.histogram(values[~empty], bins=SHAPE_BINS, range=(0.0, 1.0))
    return np.append(counts, empty.sum()).astype(np.float64)


def _shapes(masks: NDArray[np.bool_]) -> Floats:
    """The geometry of masks [N, H, W]: float64 [N, 5]."""
    return np.stack([geometry(mask) for mask in masks])


def geometry(mask: NDArray[np.bool_]) -> Floats:
    """Five figures in [0, 1] of a mask [H, W]: float64 [5], not numbers where it marks nothing.

    The root of its area's share of the image; its centre, down and across; extent, the share of its bounding box that
    it fills; and eccentricity, of the ellipse with the same second moments (0 a circle, near 1 a line).
    """
    places = np.argwhere(mask) + 0.5  # [A, 2] in pixels, at their middles
    if not len(places):
        return np.full(5, np.nan)
    box = np.ptp(places, axis=0) + 1.0  # [2]
    centre = places.mean(axis=0) / mask.shape
    # A pixel is a square, not a point: it has moments of its own, and a single one is as round as can be.
    moments = np.cov(places.T, bias=True) + np.eye(2) / 12.0
    small, large = np.linalg.eigvalsh(moments)
    extent, eccentricity = len(places) / box.prod(), np.sqrt(max(0.0, 1.0 - small / large))
    return np.array([np.sqrt(mask.mean()), *centre, extent, eccentricity])
