"""How good samples are: distance from the training pairs, diversity, binarity of masks, copying, and use.

Every figure is of whole sets of pairs of one size, with images and masks in [0, 1]; chance comes from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from shared.pairs import Pair, Pixels, with_channels
from shared.segmenter import score
from shared.segmenter_training import train
from shared.study import EvaluationSpec, ImageSpec
from tests.benchmarks.nearest_correlation import Bank

PATCH_PX = (3, 5, 7)
PATCHES = 4096  # of each side, level and patch size
PROJECTIONS = 64
SMALLEST_LEVEL_PX = 16
DIVERSITY_PX = 32
BINARY_WITHIN = 0.1
HOLDOUT_QUANTILE = 0.95


def patch_distance(some: Sequence[Pair], others: Sequence[Pair], *, seed: int = 0) -> float:
    """Sliced Wasserstein-1 distance between the patches of two sets of pairs, in units of the range [0, 1].

    Mean over the levels of a Laplacian pyramid (down to 16 px), patches of 3, 5 and 7 px with all four channels, and
    random directions of length 1. After Rabin et al., "Wasserstein barycenter and its application to texture mixing"
    (2011), on the pyramid of Karras et al., "Progressive growing of GANs" (2018); not normalised by channel, so colours
    and contrast count. Two sets from one source are not at 0: compare with two halves of the real pairs.
    """
    random = torch.Generator().manual_seed(seed)
    distances = []
    for level, other in zip(_laplacian(_stacked(some)), _laplacian(_stacked(others)), strict=True):
        for side in PATCH_PX:
            directions = torch.randn(level.shape[1] * side**2, PROJECTIONS, generator=random)
            directions /= directions.norm(dim=0)
            # Equal numbers of patches: the sorted projections are the quantiles of both sides.
            here, there = ((_patches(x, side, random) @ directions).sort(dim=0).values for x in (level, other))
            distances.append(float((here - there).abs().mean()))
    return float(np.mean(distances))


def _stacked(pairs: Sequence[Pair]) -> Tensor:
    """float32 [N, 4, S, S] in [0, 1]."""
    arrays = [np.dstack([with_channels(pair.image, 3), pair.mask]) for pair in pairs]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255  # [N, S, S, 4] -> [N, 4, S, S]


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


def diversity(samples: Sequence[Pair], reals: Sequence[Pair]) -> float:
    """Mean distance between two samples over that between two real images; 1 is as diverse, 0 all alike.

    Root mean square over the pixels at 32 px, so that noise counts for little.
    """
    return _mean_distance(samples) / _mean_distance(reals)


def _mean_distance(pairs: Sequence[Pair]) -> float:
    if len(pairs) < 2:
        raise ValueError("one image has no distance to another")
    small = F.interpolate(_stacked(pairs)[:, :3], size=(DIVERSITY_PX, DIVERSITY_PX), mode="area").flatten(1)
    return float(torch.pdist(small).mean() / small.shape[1] ** 0.5)


def binarity(values: NDArray[np.floating]) -> float:
    """Share of mask values that lie within 0.1 of 0 or 1 before the cut. values: in [0, 1], or a little outside."""
    return float((np.abs(values - 0.5) >= 0.5 - BINARY_WITHIN).mean())


def copying(samples: Sequence[Pixels], training: Sequence[Pixels], holdout: Sequence[Pixels]) -> tuple[float, float]:
    """(median, q5) of the samples' correlation with the nearest training image (see nearest_correlation).

    q5: share of samples that are nearer to a training image than 95 % of the hold-outs are; 0.05 without any copying.
    """
    bank = Bank(training)
    near = np.array([bank.nearest(image) for image in samples])
    limit = np.quantile([bank.nearest(image) for image in holdout], HOLDOUT_QUANTILE)
    return float(np.median(near)), float((near > limit).mean())


def usable(samples: Sequence[Pair]) -> list[Pair]:
    """The samples that a screening would let through for their mask: neither empty nor full."""
    return [pair for pair in samples if pair.mask.any() and not pair.mask.all()]


def iou_of_use(pairs: Sequence[Pair], test: Sequence[tuple[str, Pair]], *, steps: int, seed: int) -> float:
    """IoU on real test pairs of UNet++ trained on `pairs`: equal steps, batch and augmentation, whatever the pairs are.

    test: (patient key, pair). 0 where there is no usable pair to train on.
    """
    kept = usable(pairs)
    if not kept:
        return 0.0
    image = ImageSpec(size_px=kept[0].mask.shape[0], channels=3)
    return score(train(kept, EvaluationSpec(steps=steps, seed=seed), image), test).iou
