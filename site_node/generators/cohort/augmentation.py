"""What a critic is shown: real and drawn pairs alike, turned, shifted and recoloured, so that a few cases last longer.

Differentiable, so that a generator learns through it, and the same for both sides, so that it does not learn to draw
the augmentation (Zhao et al., "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020).

The dihedral turns are for real images alone and change what a generator draws: right where up is nothing special, as
in endoscopy and dermoscopy, and wrong where it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.augment import turn

MAX_SHIFT = 1 / 8  # of the side
BRIGHTNESS = 0.2  # added, in units of half the range
CONTRAST = 0.3  # relative, about the image's mean
SATURATION = 0.3  # relative, about the pixel's mean


@dataclass(frozen=True)
class Augmentation:
    """One draw for a batch of N: shifts in pixels, brightness, contrast and saturation float [N, 1, 1, 1]."""

    shifts: tuple[tuple[int, int], ...]
    reach: tuple[int, int]
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor

    @classmethod
    def draw(cls, count: int, size: tuple[int, int], random: torch.Generator, *, shift: bool = True) -> Augmentation:
        """size: (height_px, width_px) of the images; shift: False where position says nothing, as in a random crop."""
        reach = (int(size[0] * MAX_SHIFT), int(size[1] * MAX_SHIFT)) if shift else (0, 0)
        rows, columns = (torch.randint(-r, r + 1, (count,), generator=random).tolist() for r in reach)

        def either_way() -> Tensor:
            return torch.rand(count, 1, 1, 1, generator=random) * 2.0 - 1.0

        return cls(
            tuple(zip(rows, columns, strict=True)),
            reach,
            BRIGHTNESS * either_way(),
            1.0 + CONTRAST * either_way(),
            1.0 + SATURATION * either_way(),
        )

    def __call__(self, x: Tensor, image_channels: int) -> Tensor:
        """x: [N, C, H, W], the first image_channels of it the image, the rest masks, which keep their values."""
        image, masks = x[:, :image_channels], x[:, image_channels:]
        brightness, contrast, saturation = (
            t.to(x.device) for t in (self.brightness, self.contrast, self.saturation)
        )  # fmt: skip
        mean = image.mean((1, 2, 3), keepdim=True)
        image = (image - mean) * contrast + mean + brightness
        grey = image.mean(1, keepdim=True)
        image = (image - grey) * saturation + grey
        return self._shift(torch.cat([image, masks], dim=1))

    def _shift(self, x: Tensor) -> Tensor:
        """Borders are reflected."""
        (down, right), (height, width) = self.reach, x.shape[2:]
        if not down and not right:
            return x
        padded = F.pad(x, (right, right, down, down), mode="reflect")  # [N, C, H, W] -> [N, C, H + 2d, W + 2r]
        moved = (
            padded[i, :, down - row : down - row + height, right - column : right - column + width]
            for i, (row, column) in enumerate(self.shifts)
        )
        return torch.stack(list(moved))  # -> [N, C, H, W]


def turned(x: Tensor, random: torch.Generator) -> Tensor:
    """Each of [N, C, H, W] turned and flipped by chance; an oblong one only in the ways that keep its shape."""
    if x.shape[2] == x.shape[3]:
        which = torch.randint(8, (x.shape[0],), generator=random)
    else:
        which = torch.tensor([0, 2, 4, 6])[torch.randint(4, (x.shape[0],), generator=random)]
    return turn(x, x[:, :1], which)[0]
