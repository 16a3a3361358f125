"""The six metrics of SinGAN-Seg's evaluation, by patient, and the only shape in which figures leave a site.

Per case the confusion counts of the lesion class at threshold 0.5 give the metrics; cases are averaged within a
patient and patients within a site, so that a patient with many frames weighs no more than one with one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

NAMES = ("dice_loss", "iou", "f_score", "accuracy", "recall", "precision")
Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class Metrics(BaseModel):
    """Six figures in [0, 1]. `dice_loss` is 1 - soft Dice of the probabilities; the rest are of the cut masks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dice_loss: Unit
    iou: Unit
    f_score: Unit
    accuracy: Unit
    recall: Unit
    precision: Unit

    def rounded(self, decimals: int) -> Metrics:
        """The figures as the site's metric gate lets them out."""
        return Metrics(**{name: round(getattr(self, name), decimals) for name in NAMES})


def case_metrics(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> Metrics:
    """Metrics of one case. probability: float [H, W] in [0, 1]; mask: bool [H, W].

    Empty over empty counts as perfect for IoU, F-score, recall and precision (nothing to find, nothing found).
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
    )


def patient_mean(cases: Sequence[tuple[str, Metrics]]) -> Metrics:
    """Mean over patients of the mean over each patient's cases. cases: (patient key, metrics), at least one."""
    if not cases:
        raise ValueError("no case to average")
    by_patient: dict[str, list[Metrics]] = defaultdict(list)
    for patient, metrics in cases:
        by_patient[patient].append(metrics)
    means = {
        name: math.fsum(math.fsum(getattr(m, name) for m in group) / len(group) for group in by_patient.values())
        / len(by_patient)
        for name in NAMES
    }
    return Metrics(**{name: min(1.0, max(0.0, value)) for name, value in means.items()})
