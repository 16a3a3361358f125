"""Copies of whole images: how near a sample comes to any real image of the site.

Measure: Pearson correlation of grey images over the eight turns and mirrors of a square, the largest one counts. Mean
and standard deviation are removed, so brightness and contrast do not hide a copy. Images are compared at COMPARE_PX, so
that a blurred or noisy copy is still one; the bank holds those small images and no more of a patient.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.pairs import Pixels
from site_node.screening.positions import positions

COMPARE_PX = 32
Vector = NDArray[np.float32]


def small_grey(image: Pixels) -> NDArray[np.float32]:
    """float32 [COMPARE_PX, COMPARE_PX]: luma, area-averaged, whatever the aspect was."""
    grey = Image.fromarray(image).convert("L").resize((COMPARE_PX, COMPARE_PX), Image.Resampling.BOX)
    return np.asarray(grey, dtype=np.float32)


def normalised(square: NDArray[np.float32]) -> Vector:
    """The image as a vector of mean 0 and length 1, so that a dot product is a correlation; flat images give 0."""
    vector = square.ravel() - square.mean()
    length = float(np.linalg.norm(vector))
    unit = vector / length if length > 1e-6 else np.zeros_like(vector)
    return np.asarray(unit, dtype=np.float32)


class Bank:
    """The site's real images as small normalised vectors, in all eight positions."""

    def __init__(self, images: Iterable[Pixels]) -> None:
        """images: one at a time; only their vectors are kept (32 KiB an image)."""
        vectors = [normalised(position) for image in images for position in positions(small_grey(image))]
        self._matrix = np.stack(vectors) if vectors else np.zeros((0, COMPARE_PX**2), np.float32)

    def nearest(self, image: Pixels) -> float:
        """The largest correlation with any real image in any position, in [-1, 1]; -1 for an empty bank."""
        if not len(self._matrix):
            return -1.0
        return float((self._matrix @ normalised(small_grey(image))).max())
