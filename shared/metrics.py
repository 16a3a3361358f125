"""The eight metrics of the evaluation, by patient, and a shape in which figures leave a site.

Six are those of SinGAN-Seg's evaluation: per case, the confusion counts of the lesion class at threshold 0.5 and the
soft Dice. Two say what counts of pixels hide: how far the outlines lie apart, and how many of the lesions were found.
Cases are averaged within a patient and patients within a site, so that a patient with many frames weighs no more than
one with one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

MetricName = Literal["dice_loss", "iou", "f_score", "accuracy", "recall", "precision", "hd95", "lesions_found"]
NAMES: tuple[MetricName, ...] = get_args(MetricName)
Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class Metrics(BaseModel):
    """Eight figures in [0, 1]; of `dice_loss` and `hd95` less is better. `dice_loss` is 1 - soft Dice of the
    probabilities; the rest are of the cut masks.

    hd95: 95 % Hausdorff distance between the outlines, as a share of the image's diagonal.
    lesions_found: share of the real lesions (parts of the true mask, joined by sides or corners) that were covered by
    half or more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dice_loss: Unit
    iou: Unit
    f_score: Unit
    accuracy: Unit
    recall: Unit
    precision: Unit
    hd95: Unit
    lesions_found: Unit

    def rounded(self, decimals: int) -> Metrics:
        """The figures as the site's metric gate lets them out."""
        return Metrics(**{name: round(getattr(self, name), decimals) for name in NAMES})


def case_metrics(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> Metrics:
    """Metrics of one case. probability: float [H, W] in [0, 1]; mask: bool [H, W].

    Empty over empty counts as perfect (nothing to find, nothing found). Where one alone is empty, hd95 is 1.
    """
    if probability.shape != mask.shape or probability.ndim != 2:
        raise ValueError(f"probability {probability.shape} and mask {mask.shape} do not fit")
    if not np.isfinite(probability).all():
        raise ValueError("a probability is not finite: its figures would look better than they are")
    found = probability >= 0.5
    tp = int(np.count_nonzero(found & mask))
    fp = int(np.count_nonzero(found & ~mask))
    fn = int(np.count_nonzero(~found & mask))
    tn = found.size - tp - fp - fn
    soft = 2.0 * float((probability * mask).sum()) / max(float(probability.sum()) + float(mask.sum()), 1e-9)
    nothing = tp + fp + fn == 0
    return Metrics(
        dice_loss=0.0 if nothing else min(1.0, max(0.0, 1.0 - soft)),
        iou=1.0 if nothing else tp / (tp + fp + fn),
        f_score=1.0 if nothing else 2 * tp / (2 * tp + fp + fn),
        accuracy=(tp + tn) / found.size,
        recall=1.0 if tp + fn == 0 else tp / (tp + fn),
        # A lesion that was missed altogether has no positive call: precision 0, not a division by zero.
        precision=(1.0 if tp + fn == 0 else 0.0) if tp + fp == 0 else tp / (tp + fp),
        hd95=_hausdorff(found, mask),
        lesions_found=_lesions_found(found, mask),
    )


def _hausdorff(found: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """95 % Hausdorff distance between the outlines, over the image's diagonal. found, mask: bool [H, W].

    The larger of two 95th percentiles: of the distances from the pixels of one outline to the nearest of the other,
    and back; as MONAI's `compute_hausdorff_distance(percentile=95)` has it. An outline is the pixels of a mask of which
    one of the four neighbours is outside it, or outside the image.
    """
    # The site's link imports this module for its shapes, computes nothing, and must start fast and small.
    from scipy import ndimage

    if not found.any() or not mask.any():
        return float(found.any() != mask.any())
    rows, columns = (np.flatnonzero((found | mask).any(axis=axis)) for axis in (1, 0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]  # outside it is no outline
    outlines = [area & ~ndimage.binary_erosion(area) for area in (found[box], mask[box])]  # two of bool [h, w]
    there, back = (
        np.percentile(ndimage.distance_transform_edt(~to)[outline], 95)
        for outline, to in (outlines, reversed(outlines))
    )
    return float(max(there, back)) / math.hypot(*mask.shape)


def _lesions_found(found: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """Share of the mask's parts of which half or more was found; 1 where there is none. found, mask: bool [H, W]."""
    from scipy import ndimage  # see _hausdorff

    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))  # 0 outside, 1 to count in the lesions
    if count == 0:
        return 1.0
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    covered = np.bincount(labels[found], minlength=count + 1)[1:]
    return float((2 * covered >= areas).mean())


def by_patient(cases: Sequence[tuple[str, Metrics]]) -> dict[str, Metrics]:
    """Patient key -> mean over the patient's cases. cases: (patient key, metrics)."""
    grouped: dict[str, list[Metrics]] = defaultdict(list)
    for patient, metrics in cases:
        grouped[patient].append(metrics)
    return {patient: _mean(group) for patient, group in grouped.items()}


def patient_mean(cases: Sequence[tuple[str, Metrics]]) -> Metrics:
    """Mean over patients of the mean over each patient's cases. cases: (patient key, metrics), at least one."""
    if not cases:
        raise ValueError("no case to average")
    return _mean(list(by_patient(cases).values()))


def _mean(group: Sequence[Metrics]) -> Metrics:
    means = {name: math.fsum(getattr(metrics, name) for metrics in group) / len(group) for name in NAMES}
    return Metrics(**{name: min(1.0, max(0.0, value)) for name, value in means.items()})
