"""Augmentation of UNet++'s training batches: the same in every arm, or arms cannot be compared.

Per image, each independently of the others:
    geometry    one of the eight turns and flips of the square, then a shift by whole pixels with reflected borders
    colour      brightness, contrast, saturation and a tint
    sharpness   a blur or a sharpening, of random width and strength
    noise       Gaussian, of random strength

Sharpness and noise are there because synthetic images are softer than real ones: without them a segmenter learns to
rely on a sharpness that its training images may not have, and arms are judged by their blur.

Promise: a mask goes through exactly its image's geometry, by moving whole pixels, so it stays in {0, 1}. All chance
comes from the generator that is passed in.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

# What an arm's training images go through: this file's, nothing, or shared.classical_augmentation's seven.
Augmentation = Literal["full", "none", "classical"]
MAX_SHIFT = 1 / 8  # of the side
BRIGHTNESS = 0.15  # added, in units of the image's range
CONTRAST = 0.25  # relative, about the image's mean
SATURATION = 0.3  # relative, about the pixel's mean
TINT = 0.08  # relative, per channel
BLUR_SHARE = 0.5  # of images; half of the others are sharpened
MAX_BLUR = 1 / 40  # of the side: the standard deviation of the widest blur
MAX_SHARPENING = 1.5
NOISE_SHARE = 0.5  # of images
MAX_NOISE = 0.08  # standard deviation, in units of the image's range


def augment(images: Tensor, masks: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A freshly augmented copy of a batch, on the batch's device.

    images: float32 [B, C, S, S] in [0, 1]; masks: float32 [B, 1, S, S] in {0, 1}; rng: on the CPU. Returns the same
    shapes and ranges. Raises ValueError for other shapes: a quarter turn needs a square.
    """
    check_squares(images, masks)
    batch, _, height, _ = images.shape
    images, masks = turn(images, masks, torch.randint(8, (batch,), generator=rng))
    reach = int(height * MAX_SHIFT)
    images, masks = shift(images, masks, torch.randint(-reach, reach + 1, (batch, 2), generator=rng))
    images = _noise(_sharpness(_colour(images, rng), rng), rng)
    return images.clamp_(0.0, 1.0), masks


def check_squares(images: Tensor, masks: Tensor) -> None:
    """Raises ValueError unless images [B, C, S, S] and masks [B, 1, S, S] are one batch."""
    batch, _, height, width = images.shape
    if height != width or masks.shape != (batch, 1, height, width):
        raise ValueError(f"images {tuple(images.shape)} and masks {tuple(masks.shape)} are not a batch of squares")


def turn(images: Tensor, masks: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Turns and flips each pair of a batch. which: int [B] in 0..7; which % 4 quarter turns, flipped from 4 on."""

    def one(pixels: Tensor, element: int) -> Tensor:
        turned = torch.rot90(pixels, element % 4, (1, 2))
        return turned.flip(2) if element >= 4 else turned

    elements = which.tolist()
    return (
        torch.stack([one(image, element) for image, element in zip(images, elements, strict=True)]),
        torch.stack([one(mask, element) for mask, element in zip(masks, elements, strict=True)]),
    )


def shift(images: Tensor, masks: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """Moves each pair of a batch, borders reflected. by: int [B, 2], rows down and columns right, under the side."""
    side = images.shape[-1]
    reach = int(by.abs().max())
    both = functional.pad(torch.cat([images, masks], dim=1), (reach, reach, reach, reach), mode="reflect")
    moved = torch.stack(
        [
            pair[:, reach - down : reach - down + side, reach - right : reach - right + side]
            for pair, (down, right) in zip(both, by.tolist(), strict=True)
        ]
    )
    return moved[:, :-1], moved[:, -1:]


def _colour(images: Tensor, rng: torch.Generator) -> Tensor:
    batch, channels = images.shape[:2]
    mean = images.mean((1, 2, 3), keepdim=True)
    images = (images - mean) * (1 + CONTRAST * _either_way(rng, images, batch)) + mean
    if channels > 1:
        grey = images.mean(1, keepdim=True)
        images = (images - grey) * (1 + SATURATION * _either_way(rng, images, batch)) + grey
        images = images * (1 + TINT * _either_way(rng, images, batch, channels))
    return images + BRIGHTNESS * _either_way(rng, images, batch)


def _sharpness(images: Tensor, rng: torch.Generator) -> Tensor:
    """x + a (x - blurred): a = -1 is the blurred image, a = 0 the image itself, a > 0 an unsharp mask."""
    batch = images.shape[0]
    widest = max(1.0, images.shape[-1] * MAX_BLUR)
    sigma = 0.4 + (widest - 0.4) * _share(rng, images, batch)
    draw, strength = _share(rng, images, batch), _share(rng, images, batch)
    sharpening = torch.where(draw < (1 + BLUR_SHARE) / 2, MAX_SHARPENING * strength, 0.0)
    amount = torch.where(draw < BLUR_SHARE, torch.tensor(-1.0, device=images.device), sharpening)
    return images + amount * (images - blur(images, sigma.flatten()))


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with reflected borders, each image of the batch by its own width. sigma: float [B], pixels > 0."""
    batch, channels, height, width = images.shape
    radius = min(int(torch.ceil(2.5 * sigma.max())), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma[:, None]) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)
    # One group for each image and channel: a batch of different kernels in one convolution.
    flat = functional.pad(images.reshape(1, batch * channels, height, width), (radius,) * 4, mode="reflect")
    flat = functional.conv2d(flat, kernel[:, None, :, None], groups=batch * channels)
    flat = functional.conv2d(flat, kernel[:, None, None, :], groups=batch * channels)
    return flat.reshape(images.shape)


def _noise(images: Tensor, rng: torch.Generator) -> Tensor:
    batch = images.shape[0]
    applied = _share(rng, images, batch) < NOISE_SHARE
    strength = torch.where(applied, MAX_NOISE * _share(rng, images, batch), 0.0)
    return images + strength * torch.randn(images.shape, generator=rng).to(images.device)


def _share(rng: torch.Generator, like: Tensor, batch: int, channels: int = 1) -> Tensor:
    """Uniform in [0, 1): [B, channels, 1, 1]."""
    return torch.rand((batch, channels, 1, 1), generator=rng).to(like.device)


def _either_way(rng: torch.Generator, like: Tensor, batch: int, channels: int = 1) -> Tensor:
    """Uniform in [-1, 1): [B, channels, 1, 1]."""
    return 2.0 * _share(rng, like, batch, channels) - 1.0
