"""The critic that reads patients: small, since noise grows with the square root of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from site_node.generators.scaling import Size

_SLOPE = 0.2
_GROUPS = (8, 4, 2, 1)


class SmallCritic(nn.Module):
    """Strided convolutions with GroupNorm, then one score. Each image is treated alone.

    widths: channels after each halving. With (16, 32, 48) at 32 px and four channels: 35,000 weights.
    """

    def __init__(self, channels: int, size: Size, widths: Sequence[int], random: torch.Generator) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        height, width = size
        for index, (inputs, outputs) in enumerate(zip((channels, *widths[:-1]), widths, strict=True)):
            layers.append(_started(nn.utils.skip_init(nn.Conv2d, inputs, outputs, 4, stride=2, padding=1), random))  # type: ignore[no-untyped-call]
            if index:  # none on the first, which would hide an image's colours
                layers.append(nn.GroupNorm(next(g for g in _GROUPS if outputs % g == 0), outputs))
            layers.append(nn.LeakyReLU(_SLOPE))
            height, width = height // 2, width // 2
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.utils.skip_init(nn.Linear, widths[-1] * height * width, 1)  # type: ignore[no-untyped-call]
        nn.init.normal_(self.head.weight, 0.0, self.head.in_features**-0.5, generator=random)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x: [N, C, H, W] in [-1, 1]; gives [N], higher for real ones."""
        scores: Tensor = self.head(self.body(x))[:, 0]  # [N, W * h * w] -> [N]
        return scores


def _started(conv: nn.Conv2d, random: torch.Generator) -> nn.Conv2d:
    nn.init.kaiming_normal_(conv.weight, a=_SLOPE, nonlinearity="leaky_relu", generator=random)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
