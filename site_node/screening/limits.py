"""Where a sample counts as a copy: nearer to a training case than two patients are to one another.

The limit of a check comes from the site's hold-out: the score that a hold-out case reaches with a probability of
FALSE_ALARMS, shared by the checks that drop samples. So far out there are no hold-out cases, so the upper fifth of
their scores is continued as an exponential tail (Pickands, 1975, with shape 0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from site_node.screening.report import CheckName, Share

FALSE_ALARMS = 0.01
"""The share of hold-out images that all checks together may take for copies."""
_TAIL = 0.2
_ENOUGH = 40
# What two patients reach by chance on every set that was looked at, polyps and drawn ones: a hold-out too small to show
# such chance must not set a limit below it. Copies are far above it. Of features: a similarity of two images is fixed
# by two points, and a handful more agree by chance.
_LEAST: dict[CheckName, float] = {
    "whole": 0.4, "crop": 0.45, "embedding": 0.5, "lesion": 0.7, "features": 8.0, "blocks": 0.03,
}  # fmt: skip


def limit(scores: Sequence[float], rate: float) -> float:
    """The score that is exceeded with probability rate, by the exponential tail; never below the largest but one.

    scores: of hold-out cases. One case whose patient stands among the training patients under another key would lift
    the limit above every copy, so the largest score alone decides nothing. Without scores: infinity, which the verdict
    "inconclusive" comes with.
    """
    if not len(scores):
        return math.inf
    ordered = np.sort(np.asarray(scores, np.float64))
    start = float(np.quantile(ordered, 1.0 - _TAIL))
    excesses = ordered[ordered > start] - start
    if not len(excesses):
        # A check whose scores are all alike, most often 0: anything more is more than patients have in common.
        return float(ordered[-1])
    # The largest excess counts as no more than three times the mean of the others, for the reason above.
    if len(excesses) > 1:
        excesses[-1] = min(excesses[-1], 3.0 * float(excesses[:-1].mean()))
    mean = float(excesses.mean())
    if len(ordered) >= _ENOUGH:
        # A mean of few excesses may be too small by its own error, and good samples would be dropped. With next to no
        # hold-out that is the better error.
        mean *= 1.0 + 1.0 / math.sqrt(len(excesses))
    tail = start + mean * math.log(len(excesses) / len(ordered) / rate)
    return max(tail, float(ordered[-2]) if len(ordered) > 1 else float(ordered[-1]))


def limits(scores: Mapping[CheckName, Sequence[float]], caps: Mapping[CheckName, float]) -> dict[CheckName, float]:
    """Each check's limit; checks share FALSE_ALARMS evenly, and no limit is above its cap (the policy's)."""
    rate = FALSE_ALARMS / max(1, len(scores))
    return {
        name: min(max(limit(values, rate), _LEAST.get(name, -math.inf)), caps.get(name, math.inf))
        for name, values in scores.items()
    }


def false_alarms(
    scores: Mapping[CheckName, Sequence[float]], patients: Sequence[str], caps: Mapping[CheckName, float]
) -> Share:
    """Hold-out images above any limit, when the limits come from the other hold-out patients (up to 20 folds).

    scores: by check, in the order of patients, which says whose each image is.
    """
    everybody = sorted(set(patients))
    folds = min(20, len(everybody))
    if folds < 2:
        return Share.of(0, 0)
    fold_of = {patient: place % folds for place, patient in enumerate(everybody)}
    fold = np.asarray([fold_of[patient] for patient in patients])
    values = {name: np.asarray(found, np.float64) for name, found in scores.items()}
    alarms = 0
    for out in range(folds):
        found = limits({name: list(some[fold != out]) for name, some in values.items()}, caps)
        flagged = [some[fold == out] > found[name] for name, some in values.items()]
        alarms += int(np.any(flagged, axis=0).sum())
    return Share.of(alarms, len(patients))
