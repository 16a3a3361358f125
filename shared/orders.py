"""What a coordinator may ask of a site after a release: signed orders, each for figures and nothing else.

    measurement   one network, one hold-out: means over patients
    comparison    of networks that were measured: intervals, and gains over a reference, patient by patient
    distribution  how far synthetic pairs are from the site's real ones, beside two halves of the real ones

What a site answers stands in shared/findings.py.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.study import FEW_ARMS, PAIRS_ARMS, WEIGHTS_ARMS, Arm, Document, Sha256, Slug

POOLED, OTHERS = "pooled", "others"


class Order(Document):
    """What every order names: itself, its study and the dataset version that it is about."""

    order_id: Slug
    study_sha256: Sha256
    dataset_version: int = Field(ge=1)


class MeasurementRequest(Order):
    """The order to measure one arm at one site with one seed. What comes with it is bound by its digest.

    trained_on: whose pairs the weights or pairs are: a site, "pooled" (all) or "others" (all but the asked); None where
    the site needs nothing. n: pairs a case of a synthetic arm (None: all), or cases of a few arm.
    """

    format: Literal["synthward.measurement/2"] = "synthward.measurement/2"
    arm: Arm
    trained_on: Slug | None = None
    n: int | None = Field(default=None, ge=1, le=10_000)
    seed: int = Field(ge=0, le=2**31 - 1)
    weights_sha256: Sha256 | None = None
    pairs_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _what_comes_with_it(self) -> MeasurementRequest:
        if (self.arm in WEIGHTS_ARMS) != (self.weights_sha256 is not None):
            raise ValueError("weights come with the arms whose network is trained on shared pairs, and with no other")
        if (self.arm in PAIRS_ARMS) != (self.pairs_sha256 is not None):
            raise ValueError("pairs come with real_and_others, and with no other arm")
        if (self.trained_on is None) != (self.arm not in WEIGHTS_ARMS + PAIRS_ARMS):
            raise ValueError("an order names whose pairs it brings, and only where it brings some")
        if self.arm in FEW_ARMS and self.n is None:
            raise ValueError("a few arm names how many cases")
        return self


class ComparisonRequest(Order):
    """The order to compare what was measured with every seed; gains are over the reference arm."""

    format: Literal["synthward.comparison/1"] = "synthward.comparison/1"
    reference: Arm = "real_own"


class DistributionRequest(Order):
    """The order to measure how far synthetic pairs, which come with it, are from the site's real ones."""

    format: Literal["synthward.distribution/1"] = "synthward.distribution/1"
    trained_on: Slug
    pairs_sha256: Sha256
