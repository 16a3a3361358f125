"""The seven classical augmentations, for the arm that is trained with them in place of shared.augment.

Each is applied to an image with probability 1/2, independently of the others and anew in every batch:
    1 horizontal flip    2 vertical flip    3 rotation    4 shift    5 zoom
    6 brightness and contrast    7 elastic deformation (Simard, Steinkraus and Platt, 2003)

Promise: a mask goes through exactly its image's geometry, and takes the nearest pixel, so it stays in {0, 1}. All
chance comes from the generator that is passed in.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from shared.augment import blur, check_squares

APPLIED = 0.5  # probability of each of the seven
MAX_TURN = math.radians(30)
MAX_SHIFT = 0.1  # of the side
MAX_ZOOM = 0.2  # relative, in and out
BRIGHTNESS = 0.2  # added, in units of the image's range
CONTRAST = 0.2  # relative, about the image's mean
ELASTIC_SMOOTHNESS = 1 / 12  # of the side: standard deviation of the blur that makes a field of displacements smooth
MAX_DISPLACEMENT = 0.05  # of the side: the longest displacement


def augment_classically(images: Tensor, masks: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """A freshly augmented copy of a batch, on the batch's device.

    images: float32 [B, C, S, S] in [0, 1]; masks: float32 [B, 1, S, S] in {0, 1}; rng: on the CPU. Returns the same
    shapes and ranges. Raises ValueError for other shapes.
    """
    check_squares(images, masks)
    for side in (3, 2):
        flipped = _applied(rng, images)
        images, masks = (torch.where(flipped, part.flip(side), part) for part in (images, masks))
    images, masks = _warped(images, masks, rng)
    return _lit(images, rng).clamp(0.0, 1.0), masks


def _warped(images: Tensor, masks: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rotation, zoom, shift and elastic deformation in one sampling, so that an image is interpolated once at most."""
    batch, _, side, _ = images.shape
    turned, zoomed, shifted, bent = (_applied(rng, images) for _ in range(4))  # each [B, 1, 1, 1]
    angle = torch.where(turned, MAX_TURN * _either_way(rng, images), 0.0).flatten()
    scale = 1 / (1 + torch.where(zoomed, MAX_ZOOM * _either_way(rng, images), 0.0).flatten())
    # Half a side is one unit of the grid, which runs from -1 to 1.
    by = torch.where(shifted[..., 0], 2 * MAX_SHIFT * _either_way(rng, images, 2)[..., 0], 0.0)  # [B, 2, 1]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)  # 4 of [B] -> [B, 2, 2]
    grid = functional.affine_grid(torch.cat([rows, by], 2), [batch, 1, side, side], align_corners=False)
    grid = grid + torch.where(bent, _displacements(images, rng), 0.0)  # [B, S, S, 2]
    moved = functional.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
    followed = functional.grid_sample(masks, grid, "nearest", "reflection", align_corners=False)
    # What none of the four was applied to stays as it is, to the bit.
    any_of = turned | zoomed | shifted | bent
    return torch.where(any_of, moved, images), torch.where(any_of, followed, masks)


def _displacements(images: Tensor, rng: torch.Generator) -> Tensor:
    """A smooth random field, its longest displacement a random share of MAX_DISPLACEMENT: [B, S, S, 2], grid units."""
    batch, _, side, _ = images.shape
    noise = torch.randn((batch, 2, side, side), generator=rng).to(images.device)
    smooth = blur(noise, torch.full((batch,), max(1.0, side * ELASTIC_SMOOTHNESS), device=images.device))
    smooth = smooth / smooth.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-6)
    strength = 2 * MAX_DISPLACEMENT * torch.rand((batch, 1, 1, 1), generator=rng).to(images.device)
    return (smooth * strength).permute(0, 2, 3, 1)  # [B, 2, S, S] -> [B, S, S, 2]


def _lit(images: Tensor, rng: torch.Generator) -> Tensor:
    applied, mean = _applied(rng, images), images.mean((1, 2, 3), keepdim=True)
    contrast, brightness = 1 + CONTRAST * _either_way(rng, images), BRIGHTNESS * _either_way(rng, images)
    return torch.where(applied, (images - mean) * contrast + mean + brightness, images)


def _applied(rng: torch.Generator, like: Tensor) -> Tensor:
    """bool [B, 1, 1, 1]."""
    return (torch.rand((like.shape[0], 1, 1, 1), generator=rng) < APPLIED).to(like.device)


def _either_way(rng: torch.Generator, like: Tensor, channels: int = 1) -> Tensor:
    """Uniform in [-1, 1): [B, channels, 1, 1]."""
    return 2.0 * torch.rand((like.shape[0], channels, 1, 1), generator=rng).to(like.device) - 1.0
