"""Images of the same make: a few numbers an image, compared over the eight positions.

With a network (SqueezeNet 1.1 or VGG-19, from the file that the administrator names): its deeper features, averaged
over a grid of 2 x 2. Without: histograms of oriented gradients of local contrast (Dalal and Triggs, 2005).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from shared.pairs import Pair, Pixels
from site_node.screening.interface import Nearness
from site_node.screening.positions import positions
from site_node.screening.report import CheckName
from site_node.screening.residual import residual
from site_node.screening.vectors import Vectors, unit
from site_node.style.features import load_features

_HOG_PX, _HOG_SIGMA_PX, _CELLS, _DIRECTIONS = 64, 4.0, 8, 9
_NETWORK_PX, _GRID = 128, 2
_LAYERS = (2, 3, 4)  # of the five; the first two are edges and colours


class Embedding:
    """Training images by their embedding."""

    name: CheckName = "embedding"

    def __init__(self, weights: Path | None = None) -> None:
        """weights: a safetensors file. Raises style.weights-missing or style.weights-refused."""
        self._views = _network(weights) if weights else _gradients

    def describe(self, pair: Pair) -> Vectors:
        """[8, D]: the embedding of each of the eight positions, length 1, the upright one first."""
        return self._views(pair.image)

    def fit(self, described: Sequence[Vectors], _patients: Sequence[str], /) -> None:
        """Takes the training images; the mean over them is taken away first, since all images share it."""
        upright = np.stack([views[0] for views in described]) if described else np.zeros((0, 1), np.float32)
        self._mean = upright.mean(0) if len(upright) else np.zeros(1, np.float32)
        self._bank = unit(upright - self._mean)

    def similarity(self, views: Vectors) -> Vectors:
        """[N]: the largest cosine of any position of an image with each training image, in [-1, 1]."""
        return np.asarray((self._bank @ unit(views - self._mean).T).max(1), dtype=np.float32)

    def nearest(self, pair: Pair) -> Nearness:
        """The largest cosine with any training image."""
        return self.nearest_of(self.describe(pair))

    def nearest_of(self, views: Vectors) -> Nearness:
        """The same, of an image that is described already. views: [8, D]."""
        if not len(self._bank):
            return Nearness(-1.0, None)
        found = self.similarity(views)
        place = int(found.argmax())
        return Nearness(float(found[place]), place)


def _gradients(image: Pixels) -> Vectors:
    """[8, 576]: for each position, directions of gradients (unsigned) in 8 x 8 cells."""
    return unit(np.stack([_histograms(view) for view in positions(residual(image, _HOG_PX, _HOG_SIGMA_PX))]))


def _histograms(plane: NDArray[np.float32]) -> Vectors:
    across, down = cv2.Sobel(plane, cv2.CV_32F, 1, 0), cv2.Sobel(plane, cv2.CV_32F, 0, 1)
    strength = np.hypot(across, down)
    direction = (np.arctan2(down, across) % np.pi) / np.pi * _DIRECTIONS
    low = np.floor(direction).astype(int) % _DIRECTIONS
    share = direction - np.floor(direction)
    planes = np.zeros((_DIRECTIONS, *plane.shape), np.float32)  # each pixel's strength, shared by two directions
    rows, columns = np.indices(plane.shape)
    planes[low, rows, columns] += strength * (1 - share)
    planes[(low + 1) % _DIRECTIONS, rows, columns] += strength * share
    cell = _HOG_PX // _CELLS
    in_cells = planes.reshape(_DIRECTIONS, _CELLS, cell, _CELLS, cell)
    return np.asarray(in_cells.sum((2, 4)).ravel(), dtype=np.float32)


def _network(weights: Path) -> Callable[[Pixels], Vectors]:
    features = load_features(weights, setting="screening_weights")

    def views(image: Pixels) -> Vectors:
        colours = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
        small = cv2.resize(colours, (_NETWORK_PX, _NETWORK_PX), interpolation=cv2.INTER_AREA)
        squares = np.stack(positions(small)).astype(np.float32) / 255.0  # [8, S, S, 3]
        batch = torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()  # [8, 3, S, S]
        with torch.no_grad():
            layers = features(batch)
        pooled = [F.normalize(F.adaptive_avg_pool2d(layers[place], _GRID).flatten(1), dim=1) for place in _LAYERS]
        return unit(torch.cat(pooled, dim=1).numpy())

    return views
