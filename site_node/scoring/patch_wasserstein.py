"""How far two sets of pairs are apart in their patches: colours, textures and outlines at several scales.

Needs no network. After Rabin et al., "Wasserstein barycenter and its application to texture mixing" (2011), on the
pyramid of Karras et al., "Progressive growing of GANs" (2018); not normalised by channel, so that colours and contrast
count.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.pairs import Pair
from site_node.scoring.stacks import stacked

PATCH_PX = (3, 5, 7)
PATCHES = 4096  # of each side, level and patch size
PROJECTIONS = 64
SMALLEST_LEVEL_PX = 16


def patch_distance(some: Sequence[Pair], others: Sequence[Pair], *, seed: int = 0) -> float:
    """Sliced Wasserstein-1 distance between the patches of two sets of pairs, in units of the range [0, 1].

    Mean over the levels of a Laplacian pyramid (down to 16 px), patches of 3, 5 and 7 px with all four channels, and
    random directions of length 1. Two sets from one source are not at 0: compare with two halves of the real pairs.
    """
    random = torch.Generator().manual_seed(seed)
    distances = []
    for level, other in zip(_laplacian(stacked(some)), _laplacian(stacked(others)), strict=True):
        for side in PATCH_PX:
            directions = torch.randn(level.shape[1] * side**2, PROJECTIONS, generator=random)
            directions /= directions.norm(dim=0)
            # Equal numbers of patches: the sorted projections are the quantiles of both sides.
            here, there = ((_patches(x, side, random) @ directions).sort(dim=0).values for x in (level, other))
            distances.append(float((here - there).abs().mean()))
    return float(np.mean(distances))


def _laplacian(x: Tensor) -> list[Tensor]:
    """What each halving of [N, C, S, S] loses, finest first, and last what is left."""
    levels = []
    while min(x.shape[2:]) // 2 >= SMALLEST_LEVEL_PX:
        half = F.avg_pool2d(x, 2, ceil_mode=True)  # [N, C, s, s] -> [N, C, s/2, s/2]
        levels.append(x - F.interpolate(half, size=x.shape[2:], mode="bilinear", align_corners=False))
        x = half
    return [*levels, x]


def _patches(x: Tensor, side: int, random: torch.Generator) -> Tensor:
    """PATCHES random patches of [N, C, S, S], with replacement: [PATCHES, C * side^2]."""
    count, _, height, width = x.shape
    which = torch.randint(count, (PATCHES,), generator=random)
    top = torch.randint(height - side + 1, (PATCHES,), generator=random)
    left = torch.randint(width - side + 1, (PATCHES,), generator=random)
    windows = x.unfold(2, side, 1).unfold(3, side, 1)  # [N, C, S', S', side, side], a view
    return windows[which, :, top, left].flatten(1)
