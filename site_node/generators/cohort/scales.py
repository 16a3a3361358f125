"""What each scale of a cohort's generator learns from: whole images at the coarsest, crops with their base at others.

The only file of the cohort's generator that holds real pixels, and only while it trains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.pairs import Pair
from site_node.generators.cohort.adversarial import Batch
from site_node.generators.cohort.augmentation import Augmentation, turned
from site_node.generators.cohort.networks import DetailGenerator, LayoutGenerator
from site_node.generators.scaling import Size, halved, upscale

_KEPT_BYTES = 256 * 2**20  # of images at a scale's size: beyond, they are read again for each batch


def sizes_of(size: Size, layout_px: int) -> tuple[Size, ...]:
    """The scales, coarsest first: `size`, halved until no side is longer than layout_px. Odd sides are rounded up."""
    sizes = [size]
    while max(sizes[-1]) > layout_px:
        sizes.append(halved(sizes[-1]))
    return tuple(reversed(sizes))


class Reals:
    """Real pairs at one scale's size, [C, H, W] in [-1, 1]: kept as bytes where they are few, else read when asked."""

    def __init__(self, pairs: Sequence[Pair], size: Size) -> None:
        self._pairs, self._size = pairs, size
        channels = pairs[0].channels + 1
        fits = len(pairs) * channels * size[0] * size[1] <= _KEPT_BYTES
        self._kept = np.stack([self._bytes(pair) for pair in pairs]) if fits else None
        self.image_channels = channels - 1

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Tensor:
        pixels = self._bytes(self._pairs[index]) if self._kept is None else self._kept[index]
        return torch.from_numpy(pixels).float() / 127.5 - 1.0

    def _bytes(self, pair: Pair) -> NDArray[np.uint8]:
        channels_last = torch.from_numpy(np.dstack([pair.image, pair.mask]))
        stacked = channels_last.permute(2, 0, 1)[None]  # [H, W, C] -> [1, C, H, W]
        if stacked.shape[2:] != self._size:
            # Area means: antialiased, and a mask's share of each pixel, without a Lanczos kernel's ringing.
            stacked = F.interpolate(stacked.float(), size=self._size, mode="area").round().to(torch.uint8)
        pixels: NDArray[np.uint8] = stacked[0].numpy()
        return pixels


@dataclass
class LayoutProblem:
    """The coarsest scale: whole images, turned and flipped by chance."""

    reals: Reals
    size: Size
    device: torch.device

    def batch(self, count: int, random: torch.Generator) -> Batch:
        """Real pairs, drawn with replacement."""
        indices = torch.randint(len(self.reals), (count,), generator=random).tolist()
        real = turned(torch.stack([self.reals[index] for index in indices]), random)
        return Batch(real.to(self.device), None)

    def draw(self, generator: nn.Module, count: int, base: Tensor | None, random: torch.Generator) -> Tensor:  # noqa: ARG002
        """Layouts."""
        if not isinstance(generator, LayoutGenerator):
            raise TypeError("a layout needs a LayoutGenerator")
        drawn: Tensor = generator([part.to(self.device) for part in generator.draw_noise(count, random)])
        return drawn

    def shown(self, pairs: Tensor, random: torch.Generator) -> Tensor:
        """Shifted and recoloured."""
        return Augmentation.draw(len(pairs), self.size, random)(pairs, self.reals.image_channels)


@dataclass
class DetailProblem:
    """A finer scale: crops, and the base that each would grow from if the coarser scale had drawn it perfectly."""

    reals: Reals
    size: Size
    coarser: Size
    crop_px: int
    device: torch.device

    def batch(self, count: int, random: torch.Generator) -> Batch:
        """Crops of real pairs with their base, turned and recoloured together."""
        crops = []
        for index in torch.randint(len(self.reals), (count,), generator=random).tolist():
            real = self.reals[index][None]
            # [1, C, H, W] -> [1, C, h, w] -> [1, C, H, W]
            base = upscale(F.interpolate(real, size=self.coarser, mode="area"), self.size)
            crops.append(self._crop(torch.cat([real, base], dim=1), random))
        both = turned(torch.cat(crops), random)  # [N, 2 C, c, c]
        channels = both.shape[1] // 2
        recolour = Augmentation.draw(count, self.size, random, shift=False)
        real, base = (
            recolour(part, self.reals.image_channels).to(self.device) for part in torch.split(both, channels, dim=1)
        )
        return Batch(real, base)

    def _crop(self, both: Tensor, random: torch.Generator) -> Tensor:
        height, width = (min(side, self.crop_px) for side in self.size)
        top = int(torch.randint(self.size[0] - height + 1, (1,), generator=random))
        left = int(torch.randint(self.size[1] - width + 1, (1,), generator=random))
        return both[:, :, top : top + height, left : left + width]

    def draw(self, generator: nn.Module, count: int, base: Tensor | None, random: torch.Generator) -> Tensor:
        """The base with detail."""
        if not isinstance(generator, DetailGenerator) or base is None:
            raise TypeError("detail needs a DetailGenerator and a base")
        noise = generator.draw_noise(count, (base.shape[2], base.shape[3]), random)
        drawn: Tensor = generator(base, noise.to(self.device))
        return drawn

    def shown(self, pairs: Tensor, random: torch.Generator) -> Tensor:  # noqa: ARG002
        """As they are: a critic that compares a crop with its base would be misled by a change of one of them."""
        return pairs
