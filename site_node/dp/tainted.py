"""Private images that stay marked as private through every operation, so that they cannot slip past a mechanism.

A mark, no lock: it tells a mistake (a penalty at points between real and drawn images, say), and stops nobody who
takes it off.
"""

from __future__ import annotations

from torch import Tensor


class PrivateTensor(Tensor):
    """A tensor that holds, or was computed from, private pixels. What is computed from it is one too."""


def private(images: Tensor) -> PrivateTensor:
    """The same values, marked: [N, C, H, W]."""
    return images.as_subclass(PrivateTensor)


def unmarked(images: Tensor) -> Tensor:
    """The same values, without the mark. Inside a mechanism that bounds what they can do, and nowhere else."""
    return images.as_subclass(Tensor)
