"""How good samples are: distance from the training pairs, diversity, binarity of masks, copying, and use.

Every figure is of whole sets of pairs of one size, with images and masks in [0, 1]; chance comes from fixed seeds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from shared.pairs import Pair, Pixels
from shared.segmenter import score
from shared.segmenter_training import train
from shared.study import EvaluationSpec, ImageSpec
from site_node.scoring.patch_wasserstein import patch_distance as patch_distance  # one of these figures
from site_node.scoring.stacks import stacked
from tests.benchmarks.nearest_correlation import Bank

DIVERSITY_PX = 32
BINARY_WITHIN = 0.1
HOLDOUT_QUANTILE = 0.95


def diversity(samples: Sequence[Pair], reals: Sequence[Pair]) -> float:
    """Mean distance between two samples over that between two real images; 1 is as diverse, 0 all alike.

    Root mean square over the pixels at 32 px, so that noise counts for little.
    """
    return _mean_distance(samples) / _mean_distance(reals)


def _mean_distance(pairs: Sequence[Pair]) -> float:
    if len(pairs) < 2:
        raise ValueError("one image has no distance to another")
    small = F.interpolate(stacked(pairs)[:, :3], size=(DIVERSITY_PX, DIVERSITY_PX), mode="area").flatten(1)
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
    return score(train(kept, EvaluationSpec(steps=steps), image, seed=seed), test).iou
