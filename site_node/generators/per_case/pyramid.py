"""The pyramid of one case: its scales, the generator of one scale, and its critic.

Knows sizes, channels and weights; nothing of losses or schedules. Never touches the global random state: weights start
from a torch.Generator.

After SinGAN (Shaham, Dekel and Michaeli, ICCV 2019) and SinGAN-Seg (Thambawita et al., PLOS ONE 2022): the mask is one
more channel of the image, everything in [-1, 1].
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from site_node.generators.inputs import digest
from site_node.generators.scaling import Size, upscale

Norm = Literal["batch", "none"]

LAYERS = 5  # conv layers of a trunk with its tail; each takes one pixel from every side
PAD_PX = LAYERS  # so a generator's input is padded once by as much, and its output has the size asked for
RECEPTIVE_FIELD_PX = 2 * LAYERS + 1


def scale_sizes(
    size: Size, *, factor: float, shortest_px: int, longest_px: int, max_scales: int | None = None
) -> tuple[Size, ...]:
    """Sizes of the scales, coarsest first; the last is `size`, or `size` shrunk so that no side exceeds longest_px.

    The authors' rule: ceil(log(shortest / side) / log(factor)) + 2 scales, spaced evenly in the logarithm, so that the
    coarsest one's shorter side is shortest_px exactly. max_scales takes fewer and wider steps between the same ends.
    An image whose shorter side is no more than shortest_px gives one scale. Raises ValueError on sizes below 1 px.
    """
    if min(size) < 1 or shortest_px < 1 or longest_px < 1 or not 0.0 < factor < 1.0:
        raise ValueError(f"no scales for size {size}, factor {factor}, sides {shortest_px} to {longest_px} px")
    shrink = min(1.0, longest_px / max(size))
    finest = _scaled(size, shrink)
    if min(finest) <= shortest_px:
        return (finest,)
    # The tolerance keeps rounding errors from adding a scale where the ratio is a whole power of the factor.
    count = math.ceil(math.log(shortest_px / min(finest)) / math.log(factor) - 1e-9) + 2
    if max_scales is not None:
        count = min(count, max_scales)
    if count < 2:
        return (finest,)
    step = (shortest_px / min(finest)) ** (1 / (count - 1))
    return (*(_scaled(finest, step ** (count - 1 - index)) for index in range(count - 1)), finest)


def _scaled(size: Size, ratio: float) -> Size:
    height, width = (max(1, math.ceil(side * ratio - 1e-9)) for side in size)
    return height, width


@dataclass(frozen=True)
class BlockConfig:
    """One scale's networks. channels: image channels plus the mask's; width: feature channels.

    norm: `batch` as the authors have it; `none` where every image must be treated alone, as a gradient penalty wants
    of a critic and per-example gradients of everything.
    """

    channels: int
    width: int
    norm: Norm


class Trunk(nn.Module):
    """4 x (conv 3x3, norm, LeakyReLU 0.2), then conv 3x3; valid convolutions."""

    def __init__(self, config: BlockConfig, out_channels: int, random: torch.Generator) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(LAYERS - 1):
            inputs = config.channels if index == 0 else config.width
            # A norm takes away what a bias adds; Adam would only make a random walk of its gradient's rounding errors.
            layers.append(_conv(inputs, config.width, config.norm, random, bias=config.norm == "none"))
            if config.norm == "batch":
                norm = nn.BatchNorm2d(config.width)
                nn.init.normal_(norm.weight, 1.0, 0.02, generator=random)
                layers.append(norm)
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        layers.append(_conv(config.width, out_channels, config.norm, random, bias=True))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)  # [N, C, H, W] -> [N, out_channels, H - 10, W - 10]
        return out


def _conv(inputs: int, outputs: int, norm: Norm, random: torch.Generator, *, bias: bool) -> nn.Conv2d:
    # skip_init: nn.Conv2d would otherwise draw weights from the global random state, only to have them overwritten.
    conv: nn.Conv2d = nn.utils.skip_init(nn.Conv2d, inputs, outputs, 3, bias=bias)  # type: ignore[no-untyped-call]
    if norm == "batch":
        nn.init.normal_(conv.weight, 0.0, 0.02, generator=random)  # the authors' start; the norm sets the scale
    else:
        nn.init.kaiming_normal_(conv.weight, a=0.2, nonlinearity="leaky_relu", generator=random)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ScaleGenerator(nn.Module):
    """Adds one scale's detail: base + tanh(trunk(pad(base) + noise))."""

    def __init__(self, config: BlockConfig, random: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config, config.channels, random)

    @property
    def weight(self) -> Tensor:
        """The last layer's kernel: says on which device and in which precision the generator works."""
        return convolutions(self.trunk)[-1].weight

    def start_as_plain_upscaling(self) -> None:
        """Zeroes the last layer: the generator adds nothing until it has learnt what to add."""
        tail = self.trunk.layers[-1]
        for parameter in tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, noisy: Tensor, base: Tensor) -> Tensor:
        """noisy: float [N, C, H + 10, W + 10], the padded base plus noise; base: [N, C, H, W]; gives [N, C, H, W].

        Because nothing is padded in here, a crop of both arguments gives exactly the crop of the output.
        """
        return base + torch.tanh(self.trunk(noisy))  # [N, C, H + 10, W + 10] -> [N, C, H, W]


class Critic(nn.Module):
    """Scores patches of 11 x 11 px, higher for real ones."""

    def __init__(self, config: BlockConfig, random: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config, 1, random)

    def forward(self, x: Tensor) -> Tensor:
        """x: float [N, C, H, W] with H, W of 11 or more; gives the patch map [N, 1, H - 10, W - 10]."""
        scores: Tensor = self.trunk(x)  # [N, C, H, W] -> [N, 1, H - 10, W - 10]
        return scores


def folded(generator: ScaleGenerator) -> ScaleGenerator:
    """The same function without norms, frozen: each BatchNorm's running statistics go into the convolution before it.

    With y = g * (w x + b - mean) / sqrt(var + eps) + beta, the kernel is w * g / sqrt(var + eps), and so forth.
    """
    plain = ScaleGenerator(replace(generator.config, norm="none"), torch.Generator()).to(generator.weight)
    norms = [layer for layer in generator.trunk.layers if isinstance(layer, nn.BatchNorm2d)]
    after: list[nn.BatchNorm2d | None] = [*norms, *[None] * (LAYERS - len(norms))]  # what follows each convolution
    with torch.no_grad():
        for conv, norm, target in zip(convolutions(generator.trunk), after, convolutions(plain.trunk), strict=True):
            target.weight.copy_(conv.weight)
            _bias(target).copy_(torch.zeros_like(_bias(target)) if conv.bias is None else conv.bias)
            if norm is not None and norm.running_mean is not None and norm.running_var is not None:
                gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # [width]
                target.weight.mul_(gain[:, None, None, None])
                _bias(target).sub_(norm.running_mean).mul_(gain).add_(norm.bias)
    return plain.eval().requires_grad_(False)


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ValueError("a convolution without a norm has a bias")
    return conv.bias


def convolutions(trunk: Trunk) -> list[nn.Conv2d]:
    """A trunk's convolutions, from its input to its output."""
    return [layer for layer in trunk.layers if isinstance(layer, nn.Conv2d)]


@dataclass(frozen=True)
class Scale:
    """A scale whose training has ended: its size, its generator (frozen, norms folded) and its noise's amplitude."""

    size: Size
    generator: ScaleGenerator
    amplitude: float


def pad(x: Tensor) -> Tensor:
    """Zeros around, as much as a trunk takes away: [N, C, H, W] -> [N, C, H + 10, W + 10]."""
    return F.pad(x, (PAD_PX,) * 4)


def draw_noise(count: int, channels: int, size: Size, *, coarsest: bool, random: torch.Generator) -> Tensor:
    """Unit Gaussian noise with a zero border: float32 [N, C, H + 10, W + 10], on the CPU, whatever trains on it.

    One channel, broadcast, at the coarsest scale; all channels at the others. By the zero border a generator finds
    where the picture ends; noise there let whole layouts move but drew mud in short schedules.
    """
    noise = torch.randn(count, 1 if coarsest else channels, *size, generator=random)
    return pad(noise).expand(-1, channels, -1, -1)  # [N, 1 or C, H, W] -> [N, C, H + 10, W + 10]


@torch.no_grad()
def draw(scales: Sequence[Scale], count: int, *, random: torch.Generator) -> Tensor:
    """Draws `count` outputs of the finest of the given scales: float [N, C, H, W]. Changes no generator."""
    channels = scales[0].generator.config.channels
    out: Tensor | None = None
    for scale in scales:
        noise = draw_noise(count, channels, scale.size, coarsest=out is None, random=random)
        out = grow(out, scale, noise)  # [N, C, h, w] -> [N, C, H, W]
    if out is None:
        raise ValueError("a pyramid without scales draws nothing")
    return out


@torch.no_grad()
def grow(coarser: Tensor | None, scale: Scale, noise: Tensor) -> Tensor:
    """One frozen scale on top of a coarser output, or of nothing at the coarsest: [N, C, h, w] -> [N, C, H, W].

    noise: [N, C, H + 10, W + 10], before it is scaled by the amplitude.
    """
    noise = noise.to(scale.generator.weight)
    # [N, C, h, w] -> [N, C, H, W]
    base = noise.new_zeros(*noise.shape[:2], *scale.size) if coarser is None else upscale(coarser, scale.size)
    out: Tensor = scale.generator(pad(base) + scale.amplitude * noise, base)  # [N, C, H + 10, W + 10] -> [N, C, H, W]
    return out


def rebuilding_noise(channels: int, size: Size, seed: int, *secrets: bytes) -> Tensor:
    """z*, the noise that shall give back the case: float32 [1, C, H + 10, W + 10], one channel broadcast, zero border.

    By NumPy's PCG64 from 256 bits and in a stream of its own: torch's CPU generator starts from 32 bits, which can be
    tried out, and its state, which checkpoints hold, can be run backwards.
    """
    random = np.random.default_rng(int.from_bytes(digest("rebuild", seed, *secrets), "big"))
    noise = torch.from_numpy(random.standard_normal((1, 1, *size), dtype=np.float32))
    return pad(noise).expand(-1, channels, -1, -1)  # [1, 1, H, W] -> [1, C, H + 10, W + 10]
