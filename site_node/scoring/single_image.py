"""How far a sample's inner textures are from those of the nearest real image: SinGAN's single-image Fréchet distance.

The vectors are one image's own: a network's features at each place. It is SIFID of Shaham et al., "SinGAN: learning a
generative model from a single natural image", 2019, with the layer before the second pooling. There the real image is
the one that a generator was trained on; which one that was is not known of a released pair, so the nearest is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from site_node.scoring.described import in_batches
from site_node.scoring.frechet import covariance, gaussian_frechet
from site_node.style.features import Features

Floats = NDArray[np.float64]
_LAYER = 1  # of the five: 128 channels at a quarter (SqueezeNet) or half (VGG-19) of the side


@dataclass(frozen=True)
class Inner:
    """means: [N, d] and covariances: [N, d, d] over the places of each image; mean_square: of all features."""

    means: Floats
    covariances: Floats
    mean_square: float


def inner_statistics(images: Tensor, features: Features) -> Inner:
    """What single_image_distance compares. images: float32 [N, 3, H, W] in [0, 1]."""
    means, covariances, squares = [], [], []
    for layers in in_batches(images, features):
        for places in layers[_LAYER].flatten(2).double().numpy():  # [d, places] of one image
            means.append(places.mean(axis=1))
            covariances.append(covariance(places.T))
            squares.append((places**2).mean())
    return Inner(np.stack(means), np.stack(covariances), float(np.mean(squares)))


def single_image_distance(some: Inner, others: Inner) -> float:
    """Mean over `some` of the smallest squared Fréchet distance to one of `others`, in units of their mean square."""
    nearest = [
        gaussian_frechet(mean, spread, others.means, others.covariances).min()
        for mean, spread in zip(some.means, some.covariances, strict=True)
    ]
    return float(np.mean(nearest)) / (others.mean_square or 1.0)
