"""What a site answers to a comparison and a distribution order: figures, bounded, rounded by its metric gate.

They are the only shapes, beside shared.metrics.Metrics, in which anything learnt from real hold-outs leaves a site.
Each names the study and dataset version that it is about, so that one study's numbers cannot pass for another's.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.metrics import NAMES, MetricName, Unit
from shared.study import Arm, Document, Sha256, Slug

Signed = Annotated[float, Field(ge=-1.0, le=1.0, allow_inf_nan=False)]
Distance = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]  # an unbiased estimate may fall under 0
Patients = Annotated[int, Field(ge=2, le=10_000_000)]
MeasureName = Literal[
    "patch_wasserstein", "frechet", "kernel", "single_image_frechet", "kl_intensity", "kl_masks"
]  # fmt: skip


class _Estimate(Document):
    """A mean over patients, and its bootstrap interval."""

    mean: float
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError("an interval ends before it begins")
        return self


class Interval(_Estimate):
    """Of a metric."""

    mean: Unit
    low: Unit
    high: Unit


class Gain(_Estimate):
    """Of paired differences, arm less reference."""

    mean: Signed
    low: Signed
    high: Signed

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0.0 or self.high < 0.0


class ArmFigures(Document):
    """One arm at one site: each metric as a mean over patients of their means over seeds.

    seeds: how many. seed_spread: standard deviation over seeds of the mean IoU, 0 with one seed. gains: None for the
    reference itself, and where the reference was not measured.
    """

    arm: Arm
    trained_on: Slug | None = None
    n: int | None = Field(default=None, ge=1, le=10_000)
    seeds: int = Field(ge=1, le=20)
    seed_spread: Unit = 0.0
    figures: dict[MetricName, Interval]
    gains: dict[MetricName, Gain] | None = None

    @model_validator(mode="after")
    def _all_metrics(self) -> ArmFigures:
        if set(self.figures) != set(NAMES) or (self.gains is not None and set(self.gains) != set(NAMES)):
            raise ValueError("figures and gains name every metric once")
        return self


class Comparison(Document):
    """All arms of one dataset version at one site, on the same hold-out patients. confidence: of the intervals."""

    format: Literal["synthward.comparison-figures/1"] = "synthward.comparison-figures/1"
    study_sha256: Sha256
    dataset_version: int = Field(ge=1, le=1_000_000)
    reference: Arm
    patients: Patients
    confidence: float = Field(default=0.95, ge=0.5, le=0.999)
    resamples: int = Field(ge=100, le=1_000_000)
    arms: tuple[ArmFigures, ...] = Field(max_length=2_000)

    @model_validator(mode="after")
    def _each_once(self) -> Comparison:
        names = [(a.arm, a.trained_on, a.n) for a in self.arms]
        if len(set(names)) != len(names):
            raise ValueError("an arm stands there twice")
        return self


class Measure(Document):
    """One distance of synthetic from real pairs, and the same between two halves of the real ones (by patient)."""

    name: MeasureName
    value: Distance
    yardstick: Distance


class Distribution(Document):
    """How far `trained_on`'s pairs are from a site's real ones. images: of each side. features: whose network."""

    format: Literal["synthward.distribution-figures/1"] = "synthward.distribution-figures/1"
    study_sha256: Sha256
    dataset_version: int = Field(ge=1, le=1_000_000)
    trained_on: Slug
    patients: Patients
    images: int = Field(ge=2, le=1_000_000)
    features: Literal["none", "squeezenet", "vgg"] = "none"
    measures: tuple[Measure, ...] = Field(min_length=1, max_length=6)

    @model_validator(mode="after")
    def _each_once(self) -> Distribution:
        names = [measure.name for measure in self.measures]
        if len(set(names)) != len(names):
            raise ValueError("a measure stands there twice")
        return self
