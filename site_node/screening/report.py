"""The audit report: what the screening of one release did and found. Stays at the site, for its steward."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.bundle import AuditSummary, RejectionReason
from shared.study import Document


class Control(Document):
    """One kind of planted copy: how many were planted and found."""

    kind: str
    planted: int = Field(ge=0)
    found: int = Field(ge=0)


class Quantiles(Document):
    """Of nearest correlations: minimum, median, 95th percentile and maximum."""

    n: int
    low: float
    median: float
    p95: float
    high: float


class AuditReport(Document):
    """samples: of what was accepted, against all real images. between_patients: of each hold-out image against the
    training images, which is how near two different patients come to one another. set_aside: training cases without a
    generator, by case id, with the error code why; such a case has no pair in the release."""

    format: Literal["synthward.audit/1"] = "synthward.audit/1"
    max_correlation: float
    sampled: int
    accepted: int
    rejected: dict[RejectionReason, int]
    controls: tuple[Control, ...]
    samples: Quantiles
    between_patients: Quantiles
    seconds: dict[str, float]
    set_aside: dict[str, str] = Field(default_factory=dict)

    def summary(self) -> AuditSummary:
        """What of this may leave: counts and the limit."""
        return AuditSummary(
            sampled=self.sampled,
            accepted=self.accepted,
            rejected=self.rejected,
            planted=sum(control.planted for control in self.controls),
            planted_found=sum(control.found for control in self.controls),
            max_correlation=self.max_correlation,
        )
