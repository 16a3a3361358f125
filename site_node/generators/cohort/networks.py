"""The networks of a generator of a whole cohort: layouts at the coarsest scale, detail at the finer ones, and critics.

Knows shapes and weights; nothing of losses, schedules or cases. No BatchNorm and no statistics over a batch anywhere:
every image is treated alone, as per-patient gradients need. Weights start from a torch.Generator; the global random
state is never touched.

    z, noise -> LayoutGenerator -> the whole image and its mask at the coarsest scale (32 px or less)
    upscaled, noise -> DetailGenerator -> the same scene at the next scale

Residual blocks without normalisation in the critics, and bilinear resampling, after R3GAN's plain ResNets (Huang,
Gokaslan, Kuleshov and Tompkin, "The GAN is dead; long live the GAN!", NeurIPS 2024). The mask is one more channel of
the image, everything in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from site_node.generators.scaling import Size, halved

Z_CHANNELS = 64
DETAIL_NOISE_CHANNELS = 4
_GROUPS = 8
_SLOPE = 0.2


def halvings(size: Size, count: int) -> tuple[Size, ...]:
    """Sizes of a pyramid of feature maps, coarsest first, ending in `size`; odd sides are rounded up."""
    sizes = [size]
    for _ in range(count - 1):
        sizes.append(halved(sizes[-1]))
    return tuple(reversed(sizes))


class Block(nn.Module):
    """x + conv(act(conv(act(x)))): [N, I, H, W] -> [N, O, H, W]. With GroupNorm before each activation, or without."""

    def __init__(self, inputs: int, outputs: int, *, norm: bool, random: torch.Generator) -> None:
        super().__init__()
        self.before = _norm(inputs) if norm else nn.Identity()
        self.between = _norm(outputs) if norm else nn.Identity()
        self.first = _conv(inputs, outputs, 3, random)
        self.second = _conv(outputs, outputs, 3, random)
        if not norm:
            nn.init.zeros_(self.second.weight)  # without a norm, a deep critic starts as a shallow one and stays finite
        self.skip = _conv(inputs, outputs, 1, random) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(F.leaky_relu(self.before(x), _SLOPE))
        out: Tensor = self.skip(x) + self.second(F.leaky_relu(self.between(inner), _SLOPE))
        return out


class LayoutGenerator(nn.Module):
    """Draws whole images at the coarsest scale. widths: feature channels, from the coarsest map to the finest."""

    def __init__(self, channels: int, size: Size, widths: Sequence[int], random: torch.Generator) -> None:
        super().__init__()
        self.channels, self.size, self.widths = channels, size, tuple(widths)
        self.sizes = halvings(size, len(widths))
        height, width = self.sizes[0]
        self.start = _linear(Z_CHANNELS, widths[0] * height * width, random)
        inputs = (widths[0], *widths[:-1])
        self.blocks = nn.ModuleList(Block(i, o, norm=True, random=random) for i, o in zip(inputs, widths, strict=True))
        self.amplitudes = nn.ParameterList(nn.Parameter(torch.zeros(w)) for w in widths)
        self.tail = _conv(widths[-1], channels, 3, random)
        nn.init.normal_(self.tail.weight, 0.0, 0.02, generator=random)

    def draw_noise(self, count: int, random: torch.Generator) -> list[Tensor]:
        """z [N, 64], then a map [N, 1, h, w] for each feature map. From a CPU generator, so any device draws alike."""
        z = torch.randn(count, Z_CHANNELS, generator=random)
        return [z, *(torch.randn(count, 1, *size, generator=random) for size in self.sizes)]

    def forward(self, noise: Sequence[Tensor]) -> Tensor:
        """noise: as draw_noise gives it. Returns [N, C, H, W] in [-1, 1]."""
        x = self.start(noise[0]).view(-1, self.widths[0], *self.sizes[0])  # [N, 64] -> [N, W0, h0, w0]
        x = x.contiguous(memory_format=torch.channels_last)
        for index, (size, block, amplitude) in enumerate(zip(self.sizes, self.blocks, self.amplitudes, strict=True)):
            if index:
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)  # [N, W, h, w] -> [N, W, 2h, 2w]
            x = block(x) + noise[index + 1] * amplitude[:, None, None]
        return torch.tanh(self.tail(F.leaky_relu(x, _SLOPE)))  # [N, W, H, W] -> [N, C, H, W]


class LayoutCritic(nn.Module):
    """Scores whole images: one score for the layout, and one for its patches, added. Higher for real ones."""

    def __init__(self, channels: int, size: Size, widths: Sequence[int], random: torch.Generator) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.entry = _conv(channels, widths[0], 3, random)
        inputs = (widths[0], *widths[:-1])
        self.blocks = nn.ModuleList(Block(i, o, norm=False, random=random) for i, o in zip(inputs, widths, strict=True))
        height, width = halvings(size, len(widths))[0]
        self.patches = _conv(inputs[-1], 1, 1, random)
        self.head = _linear(widths[-1] * height * width, 1, random)

    def forward(self, x: Tensor, base: Tensor | None = None) -> Tensor:  # noqa: ARG002  (a layout has no base)
        """x: [N, C, H, W]; gives [N]."""
        x = self.entry(x.contiguous(memory_format=torch.channels_last))
        *finer, last = self.blocks
        for block in finer:
            x = F.avg_pool2d(block(x), 2, ceil_mode=True)  # [N, W, h, w] -> [N, W', h/2, w/2]
        patches = self.patches(F.leaky_relu(x, _SLOPE)).mean((1, 2, 3))  # [N, W', h0, w0] -> [N]
        whole = self.head(F.leaky_relu(last(x), _SLOPE).flatten(1))[:, 0]  # -> [N]
        scores: Tensor = whole.float() + patches.float()
        return scores


class DetailGenerator(nn.Module):
    """Adds one scale's detail to an upscaled coarser output: base + tanh(network(base, noise)).

    Sees the base's image and mask, so what it draws can follow the mask. Its last layer starts at zero: until it has
    learnt what to add, it adds nothing.
    """

    def __init__(self, channels: int, width: int, random: torch.Generator) -> None:
        super().__init__()
        self.channels, self.width = channels, width
        self.entry = _conv(channels + DETAIL_NOISE_CHANNELS, width, 3, random)
        # No norm: its statistics would be those of the crop in training and of the whole image in sampling.
        self.blocks = nn.ModuleList(Block(width, width, norm=False, random=random) for _ in range(2))
        self.tail = _conv(width, channels, 3, random)
        nn.init.zeros_(self.tail.weight)

    def draw_noise(self, count: int, size: Size, random: torch.Generator) -> Tensor:
        """[N, 4, H, W]."""
        return torch.randn(count, DETAIL_NOISE_CHANNELS, *size, generator=random)

    def forward(self, base: Tensor, noise: Tensor) -> Tensor:
        """base: [N, C, H, W]; noise: [N, 4, H, W]; gives [N, C, H, W], which may leave [-1, 1] a little."""
        x = self.entry(torch.cat([base, noise], dim=1).contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x)
        return base + torch.tanh(self.tail(F.leaky_relu(x, _SLOPE)))  # [N, W, H, W] -> [N, C, H, W]


class DetailCritic(nn.Module):
    """Scores crops together with the base that they grew from, so that detail which belies its base is found out."""

    def __init__(self, channels: int, widths: Sequence[int], random: torch.Generator) -> None:
        super().__init__()
        self.entry = _conv(2 * channels, widths[0], 3, random)
        inputs = (widths[0], *widths[:-1])
        self.blocks = nn.ModuleList(Block(i, o, norm=False, random=random) for i, o in zip(inputs, widths, strict=True))
        self.patches = _conv(widths[-1], 1, 3, random)

    def forward(self, x: Tensor, base: Tensor | None = None) -> Tensor:
        """x, base: [N, C, H, W]; gives [N]."""
        if base is None:
            raise ValueError("a critic of detail needs the base")
        x = self.entry(torch.cat([x, base], dim=1).contiguous(memory_format=torch.channels_last))
        for index, block in enumerate(self.blocks):
            if index:
                x = F.avg_pool2d(x, 2, ceil_mode=True)  # [N, W, h, w] -> [N, W, h/2, w/2]
            x = block(x)
        scores: Tensor = self.patches(F.leaky_relu(x, _SLOPE)).float().mean((1, 2, 3))  # [N, W, h, w] -> [N]
        return scores


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(next(g for g in (_GROUPS, 4, 2, 1) if channels % g == 0), channels)


def _conv(inputs: int, outputs: int, kernel: int, random: torch.Generator) -> nn.Conv2d:
    # skip_init: nn.Conv2d would otherwise draw weights from the global random state, only to have them overwritten.
    conv: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, inputs, outputs, kernel, padding=kernel // 2)  # type: ignore[no-untyped-call]
    nn.init.kaiming_normal_(conv.weight, a=_SLOPE, nonlinearity="leaky_relu", generator=random)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


def _linear(inputs: int, outputs: int, random: torch.Generator) -> nn.Linear:
    linear: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)  # type: ignore[no-untyped-call]
    nn.init.normal_(linear.weight, 0.0, inputs**-0.5, generator=random)
    nn.init.zeros_(linear.bias)
    return linear
