"""The Laplacian pyramid of an image: bands of detail, finest first, and what is left when they are gone.

After Burt and Adelson ("The Laplacian pyramid as a compact image code", 1983). Joining undoes splitting exactly.
"""

from __future__ import annotations

import numpy as np

from site_node.style.lab import Floats

_KERNEL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Burt and Adelson's, a = 0.375


def split(image: Floats, levels: int) -> tuple[list[Floats], Floats]:
    """The `levels` bands of [H, W, C], finest first, and the low-pass, halved (rounded up) `levels` times."""
    bands = []
    for _ in range(levels):
        halved = _blur(image)[::2, ::2]  # [H, W, C] -> [ceil(H / 2), ceil(W / 2), C]
        bands.append(image - _doubled(halved, image.shape))
        image = halved
    return bands, image


def join(bands: list[Floats], lowpass: Floats) -> Floats:
    """The image [H, W, C] that split gave these for."""
    for band in reversed(bands):
        lowpass = _doubled(lowpass, band.shape) + band
    return lowpass


def _doubled(image: Floats, shape: tuple[int, ...]) -> Floats:
    """Image at twice its size, cut to shape. Repeated pixels, then blurred: no rule for borders or odd sides needed."""
    repeated = image.repeat(2, axis=0).repeat(2, axis=1)  # [h, w, C] -> [2 h, 2 w, C]
    return _blur(repeated[: shape[0], : shape[1]])


def _blur(image: Floats) -> Floats:
    """The binomial kernel along both axes of [H, W, C], borders repeated."""
    for axis in (0, 1):
        width = [(0, 0)] * 3
        width[axis] = (2, 2)
        padded = np.pad(image, width, mode="edge")
        length = image.shape[axis]
        shifted = (padded[k : k + length] if axis == 0 else padded[:, k : k + length] for k in range(len(_KERNEL)))
        image = sum((weight * part for weight, part in zip(_KERNEL, shifted, strict=True)), np.zeros(image.shape))
    return image
