"""The audit report: what the screening of one release did and found. Stays at the site, for its steward.

Scores are nearness: the larger, the nearer a sample comes to a real case. `between_patients` are the scores of hold-out
images against the training cases, which is how near two different patients come to one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from shared.bundle import AuditSummary, RejectionReason, Verdict
from shared.study import Document, Sha256

CheckName = Literal["whole", "crop", "features", "embedding", "lesion", "blocks", "mask"]

# What each check looks for, in a steward's words.
CHECK_WORDS: dict[CheckName, str] = {
    "whole": "whole images, turned, mirrored or shifted, whatever their brightness and colour",
    "crop": "an enlarged part of an image",
    "features": "many small details in the same arrangement",
    "embedding": "images of the same make, by coarse texture or a network's features",
    "lesion": "the same lesion, whatever lies around it",
    "blocks": "pieces of images, wherever they were put",
    "mask": "the same outline of a lesion",
}
REASON_OF: dict[CheckName, RejectionReason] = {
    "whole": "copy", "crop": "copy", "features": "copy", "embedding": "copy", "lesion": "part-copy",
    "blocks": "part-copy", "mask": "mask-copy",
}  # fmt: skip
_BINS = 24


class Interval(Document):
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


class Share(Document):
    """k of n, with Wilson's 95 % interval; (0, 1) where n is 0."""

    k: int = Field(ge=0)
    n: int = Field(ge=0)
    low: float
    high: float

    @classmethod
    def of(cls, k: int, n: int) -> Share:
        """Wilson (1927), z = 1.96."""
        if n == 0:
            return cls(k=0, n=0, low=0.0, high=1.0)
        z, p = 1.96, k / n
        centre, width = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        low, high = (centre - width) / scale, (centre + width) / scale
        return cls(k=k, n=n, low=round(max(0.0, low), 4), high=round(min(1.0, high), 4))


class Quantiles(Document):
    """Of scores: minimum, median, 95th percentile and maximum; zeros for none."""

    n: int
    low: float
    median: float
    p95: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Quantiles:
        """Rounded to four digits."""
        if not values:
            return cls(n=0, low=0.0, median=0.0, p95=0.0, high=0.0)
        low, median, p95, high = (round(float(q), 4) for q in np.quantile(values, (0.0, 0.5, 0.95, 1.0)))
        return cls(n=len(values), low=low, median=median, p95=p95, high=high)


class Histogram(Document):
    """Counts over shared edges (one more than counts)."""

    edges: tuple[float, ...]
    samples: tuple[int, ...]
    between_patients: tuple[int, ...]

    @classmethod
    def of(cls, samples: Sequence[float], between_patients: Sequence[float]) -> Histogram:
        """Of both over the range that both take up, or [0, 1] where neither has a score."""
        both = np.asarray([*samples, *between_patients], np.float64)
        low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
        edges = np.linspace(low, max(high, low + 1e-3), _BINS + 1)
        return cls(
            edges=tuple(round(float(edge), 5) for edge in edges),
            samples=tuple(int(count) for count in np.histogram(samples, edges)[0]),
            between_patients=tuple(int(count) for count in np.histogram(between_patients, edges)[0]),
        )


class Near(Document):
    """A released sample and the training case that it came nearest to, in one check."""

    sample: Sha256
    case_id: str
    score: float


class CheckResult(Document):
    """One check. drops: whether a sample above the limit was dropped, or only reported. dropped: how many were above.

    A sample above several limits counts for one check alone: when samples are dropped, no other is asked after it.
    samples: of what was accepted. nearest: those of it that came nearest, nearest first.
    """

    name: CheckName
    drops: bool
    limit: float
    dropped: int = Field(ge=0)
    samples: Quantiles
    between_patients: Quantiles
    histogram: Histogram
    nearest: tuple[Near, ...]


class Control(Document):
    """One kind of planted copy. by_nearest_pixel: what the distance that other tools ship would have found of it."""

    kind: str
    found: Share
    floor: float
    by_nearest_pixel: Share


class Attack(Document):
    """A membership attack on the training patients, told from hold-out patients.

    distance: from the release's samples alone, as a receiver could (calibrated by distances among other patients).
    limit: of the upper end of the AUC's interval, by the policy; None where the attack is only reported.
    """

    name: Literal["distance", "critic"]
    auc: Interval
    true_positives_at_1: Interval
    limit: float | None


class AuditReport(Document):
    """set_aside: training cases without a generator, by case id, with the error code why; such a case has no pair.

    false_alarms: of hold-out images, judged by limits that were set without them. copying_z: Meehan et al. (2020);
    strongly negative where samples lie nearer to training cases than hold-out cases do, by copying or by being soft.
    nearer_to_training: samples nearer to a training case than to any of equally many hold-out cases; half of them,
    without copying. mask_copies: samples and hold-out cases whose mask is nearly a training case's.
    """

    format: Literal["synthward.audit/2"] = "synthward.audit/2"
    verdict: Verdict
    why: tuple[str, ...]
    sampled: int
    accepted: int
    rejected: dict[RejectionReason, int]
    training_patients: int
    holdout_patients: int
    checks: tuple[CheckResult, ...]
    false_alarms: Share
    controls: tuple[Control, ...]
    membership: tuple[Attack, ...]
    copying_z: float
    nearer_to_training: Share
    mask_copies: dict[Literal["samples", "between_patients"], Share]
    seconds: dict[str, float]
    set_aside: dict[str, str] = Field(default_factory=dict)

    def summary(self) -> AuditSummary:
        """What of this may leave: counts, the verdict, and how far the distance attack may reach, in whole percent."""
        reach = next((attack.auc.high for attack in self.membership if attack.name == "distance"), None)
        return AuditSummary(
            verdict=self.verdict,
            sampled=self.sampled,
            accepted=self.accepted,
            rejected=self.rejected,
            planted=sum(control.found.n for control in self.controls),
            planted_found=sum(control.found.k for control in self.controls),
            membership_auc=None if reach is None else math.ceil(100 * reach) / 100,
        )
