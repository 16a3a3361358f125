"""Images as vectors of what a network finds in them, for the Fréchet and the kernel distance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from site_node.style.features import Features

Floats = NDArray[np.float64]
_AT_ONCE = 32


def describe(images: Tensor, features: Features) -> list[Floats]:
    """Each layer's features, averaged over the image: five of float64 [N, d].

    images: float32 [N, 3, H, W] in [0, 1], sides of 32 px or more.
    """
    pooled = [[layer.mean(dim=(2, 3)) for layer in layers] for layers in in_batches(images, features)]
    return [torch.cat(parts).double().numpy() for parts in zip(*pooled, strict=True)]


def in_batches(images: Tensor, features: Features) -> Iterator[list[Tensor]]:
    """The layers of some images after the other: five of [b, d, h, w]."""
    with torch.inference_mode():
        for start in range(0, len(images), _AT_ONCE):
            yield features(images[start : start + _AT_ONCE])


def joined(some: Sequence[Floats], others: Sequence[Floats]) -> tuple[Floats, Floats]:
    """Both sides' layers side by side, each in units of the others' root mean square: [N, D] and [M, D].

    A network's layers differ in scale by an order of magnitude, which says nothing about the images.
    """
    scales = [np.sqrt((layer**2).mean()) or 1.0 for layer in others]
    here, there = (
        np.concatenate([layer / scale for layer, scale in zip(side, scales, strict=True)], axis=1)
        for side in (some, others)
    )
    return here, there
