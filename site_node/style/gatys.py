"""Kind `gatys`: a sample's pixels are optimised until a network sees the reference's textures in them.

Gatys, Ecker and Bethge ("Image style transfer using convolutional neural networks", 2016), with SinGAN-Seg's choices
(Thambawita et al., 2022): Adam on the pixels, from the sample itself; Gram matrices of five layers weighted .75, .5,
.25, .25, .25; the deepest of them, conv5_1 in VGG-19, also holds the content.

Other than SinGAN-Seg, each layer is divided by its root mean square in the reference, and Gram matrices are means over
places. Gatys et al. normalised their network to the same end: content_to_style then means the same for every network
and image size. Unscaled, SqueezeNet's deep layers outweigh the content a million times.

Promise: a sample's result does not depend on what else is in its batch, but for floating point. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from shared.pairs import Pixels
from site_node.style.features import DEVIATION, SMALLEST_PX, Features
from site_node.style.lab import Floats

STYLE_WEIGHTS = (0.75, 0.5, 0.25, 0.25, 0.25)
# SinGAN-Seg's 0.01 is a step of pixels that ImageNet's deviation normalised; ours are in [0, 1].
LEARNING_RATE = 0.01 * DEVIATION
BATCH = 8  # samples that are optimised side by side: bounds the memory
_DARK = 1e-6  # a layer that answers to nothing in the reference has no scale


@dataclass(frozen=True)
class Look:
    """grams: five of [B, d, d]; scales: five of [B, 1, 1, 1], by which each layer is divided."""

    grams: tuple[Tensor, ...]
    scales: tuple[Tensor, ...]


class GatysTransfer:
    """The kind `gatys`; its look is the Gram matrices of the reference, layer by layer."""

    def __init__(self, features: Features, *, steps: int, content_to_style: float) -> None:
        """content_to_style: the content's weight where the style's is 1; SinGAN-Seg tried 1 to 1e-6."""
        self._features = features
        self._steps = steps
        self._content_to_style = content_to_style

    def look(self, reference: Pixels) -> Look:
        """The Gram matrices of uint8 [h, w, 3] or [h, w]. Raises ValueError below 32 px."""
        with torch.no_grad():
            layers = self._features(_batch([reference]))
        scales = tuple(layer.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=_DARK) for layer in layers)
        return Look(tuple(_gram(layer / scale) for layer, scale in zip(layers, scales, strict=True)), scales)

    def move(self, images: Sequence[Pixels], looks: Sequence[Look], seed: int) -> list[Floats]:  # noqa: ARG002
        """Each image, all of one shape, moved to its look: float64 in [0, 255]. Raises ValueError below 32 px."""
        moved: list[Floats] = []
        for start in range(0, len(images), BATCH):
            part = slice(start, start + BATCH)
            for styled in self._optimised(_batch(images[part]), _stacked(looks[part])):  # [C, H, W]
                planes: Floats = styled.numpy().astype(np.float64) * 255.0
                moved.append(planes[0] if len(planes) == 1 else planes.transpose(1, 2, 0))
        return moved

    def losses(self, images: Sequence[Floats], samples: Sequence[Pixels], looks: Sequence[Look]) -> list[float]:
        """What is minimised, for images [H, W] or [H, W, 3] in [0, 255] that began as samples."""
        with torch.no_grad():
            content = self._features(_batch(samples))[-1]
            return [float(loss) for loss in self._losses(_batch(images), content, _stacked(looks))]

    def _optimised(self, samples: Tensor, look: Look) -> Tensor:
        """samples [B, C, H, W] in [0, 1] -> the same, after the steps."""
        with torch.no_grad():
            content = self._features(samples)[-1]
        pixels = samples.clone().requires_grad_(True)
        adam = torch.optim.Adam([pixels], lr=LEARNING_RATE)
        for _ in range(self._steps):
            adam.zero_grad()
            # A sum, not a mean: each sample's gradient is then as if it were alone.
            self._losses(pixels, content, look).sum().backward()  # type: ignore[no-untyped-call]
            adam.step()
            with torch.no_grad():
                pixels.clamp_(0.0, 1.0)
        return pixels.detach()

    def _losses(self, images: Tensor, content: Tensor, look: Look) -> Tensor:
        """The loss of each image: [B, C, H, W] -> [B]."""
        layers = self._features(images)  # five of [B, d, h, w]
        scaled = [layer / scale for layer, scale in zip(layers, look.scales, strict=True)]
        style = torch.zeros(len(images))
        for weight, layer, wanted in zip(STYLE_WEIGHTS, scaled, look.grams, strict=True):
            style = style + weight * (_gram(layer) - wanted).square().mean(dim=(1, 2))  # [B, d, d] -> [B]
        changed = (scaled[-1] - content / look.scales[-1]).square().mean(dim=(1, 2, 3))  # [B, d, h, w] -> [B]
        # SinGAN-Seg's weights are 1 and 1000, not 0.001 and 1: Adam's epsilon is for losses of that size.
        losses: Tensor = changed + style / self._content_to_style
        return losses


def _gram(layer: Tensor) -> Tensor:
    """Mean products of a layer's channels over its places: [B, d, h, w] -> [B, d, d]."""
    flat = layer.flatten(2)  # [B, d, h, w] -> [B, d, h w]
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _stacked(looks: Sequence[Look]) -> Look:
    """Looks of B references, layer by layer: five of [B, d, d]."""
    grams = zip(*(look.grams for look in looks), strict=True)  # five of B of [1, d, d]
    scales = zip(*(look.scales for look in looks), strict=True)
    return Look(tuple(torch.cat(layer) for layer in grams), tuple(torch.cat(layer) for layer in scales))


def _batch(images: Sequence[Pixels] | Sequence[Floats]) -> Tensor:
    """[H, W] or [H, W, 3] in [0, 255] -> float32 [B, C, H, W] in [0, 1]."""
    stacked = np.stack(images).astype(np.float32) / np.float32(255.0)
    if min(stacked.shape[1:3]) < SMALLEST_PX:
        raise ValueError(f"images of {stacked.shape[1:3]} px are smaller than the network's {SMALLEST_PX} px")
    planes = stacked[:, None] if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(planes))
