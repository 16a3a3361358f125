"""One noised mean over all patients: the Gaussian mechanism for a handful of numbers.

    mean = (sum over patients of clip(mean over its rows) + N(0, (sigma clip)^2 I)) / N

Sensitivity `clip` under adding or removing one patient, whatever the patient's rows are and how many. N counts as
public. Everything computed from the answer is post-processing. In an account it is one Gaussian release at sigma.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from site_node.dp.noise import Chance, SecretChance

Floats = NDArray[np.float64]


def noised_mean(by_patient: Sequence[Floats], *, sigma: float, clip: float, chance: Chance | None = None) -> Floats:
    """[d]: of patients with rows [n, d] each, at least one patient; one without a row adds nothing.

    sigma: at least 0, 0 for no noise; clip: above 0, in the units of the rows. A row that is not finite counts as zero.
    """
    if not (0.0 <= sigma < math.inf and 0.0 < clip < math.inf):
        raise ValueError(f"sigma {sigma} and clip {clip} make no mechanism")
    total = np.zeros(by_patient[0].shape[1])
    for rows in by_patient:
        if len(rows):
            total += clipped_row(np.where(np.isfinite(rows), rows, 0.0).mean(axis=0), clip)
    noise = (SecretChance() if chance is None else chance).normal(len(total)) if sigma else np.zeros(len(total))
    answer: Floats = (total + sigma * clip * noise) / len(by_patient)
    return answer


def clipped_row(row: Floats, clip: float) -> Floats:
    """[d], shortened to norm `clip` where it is longer."""
    norm = float(np.linalg.norm(row))
    return row if norm <= clip else row * (clip / norm)
