"""What a report is made from: one frozen document of figures, words and sheets, and nothing of a real image.

It is complete: report.html and report.csv are drawn from it alone, and report.json is it. A figure stands in it once:
in a site's comparison, where that has it, and else among `means`, which also say why a figure is missing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.bundle import Verdict
from shared.findings import Comparison, Distribution
from shared.metrics import Metrics, Unit
from shared.study import Arm, Sha256, Study

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Megabytes = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
_PNG = b"\x89PNG\r\n\x1a\n"


class Part(BaseModel):
    """Base of a report's parts: frozen, with bytes as base64, so that the data can be kept as JSON and drawn again."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class Release(Part):
    """What a site let out into this dataset version, by its manifests. planted_found: of the copies planted as control.

    acceptance: share of the samples that the screening let pass. epsilon: of the release alone, None in mode audited.
    membership_auc: the upper end (95 %) of an attack that tells who was trained on, None where there was none.
    sheet_png: a contact sheet of some of the pairs, sheet_pairs of them.
    """

    pairs: Count
    training_patients: Count
    sampled: Count
    rejected: dict[str, Count]
    planted: Count
    planted_found: Count
    verdict: Verdict
    software: tuple[str, ...]
    privacy_label: str
    privacy_sentences: tuple[str, ...]
    acceptance: Unit | None
    epsilon: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = None
    membership_auc: Unit | None = None
    approved_by: tuple[str, ...] = ()
    sheet_png: bytes | None = None
    sheet_pairs: Count = 0

    @model_validator(mode="after")
    def _png(self) -> Release:
        if self.sheet_png is not None and not self.sheet_png.startswith(_PNG):
            raise ValueError("sheet_png is not a PNG")
        return self


class DistributionAnswer(Part):
    """How far the pairs of a source are from a site's real ones, or why nobody knows. Exactly one of the two."""

    trained_on: str
    found: Distribution | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _one_of_two(self) -> DistributionAnswer:
        if (self.found is None) != bool(self.reason):
            raise ValueError("there is either a distribution or a reason why there is none")
        return self


class SiteData(Part):
    """One site. cases, patients: known only where the site told them. no_release: why there is none, where it is None.

    comparison: intervals and gains of what was measured here; without it, no_comparison says why.
    """

    name: str = Field(min_length=1)
    cases: Count | None = None
    patients: Count | None = None
    holdout_patients: Count | None = None
    release: Release | None = None
    no_release: str = ""
    comparison: Comparison | None = None
    no_comparison: str = ""
    distributions: tuple[DistributionAnswer, ...] = ()

    @model_validator(mode="after")
    def _says_what_is_missing(self) -> SiteData:
        if (self.release is None) != bool(self.no_release) or (self.comparison is None) != bool(self.no_comparison):
            raise ValueError("a site has each of release and comparison, or a reason why not")
        return self


class DatasetData(Part):
    """The dataset that was built from what the sites let out."""

    version: int = Field(ge=1)
    pairs: Count
    sha256: Sha256


class Means(Part):
    """What one site said of one network outside of a comparison: means over seeds, or the reason why there are none.

    arm, trained_on, n: as in an order (shared/orders.py). seeds: how many stand behind the means.
    """

    arm: Arm
    trained_on: str | None = None
    n: int | None = Field(default=None, ge=1)
    site: str
    seeds: Count = 0
    patients: Count | None = None
    metrics: Metrics | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _one_of_two(self) -> Means:
        if (self.metrics is None) != bool(self.reason) or (self.metrics is None) != (self.seeds == 0):
            raise ValueError("there are either means over some seeds or a reason why there are none")
        return self


class RunData(Part):
    """What only those know who ran all parties. egress: site -> kind -> bytes. seconds: stage -> seconds, in order.

    peak_rss_mb: process -> MB.
    """

    egress: dict[str, dict[str, Count]] = Field(default_factory=dict)
    seconds: dict[str, Seconds] = Field(default_factory=dict)
    peak_rss_mb: dict[str, Megabytes] = Field(default_factory=dict)


class ReportData(Part):
    """Everything that a report says. `created` carries a time zone.

    notes: loud remarks, shown before any figure. versions: package -> version, at the coordinator. failures_png: pairs
    on which a network failed, of synthetic ones.
    """

    study: Study
    study_sha256: Sha256
    created: datetime
    dataset: DatasetData
    sites: tuple[SiteData, ...] = Field(min_length=1)
    means: tuple[Means, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failures_png: bytes | None = None
    run: RunData | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ReportData:
        if self.created.tzinfo is None:
            raise ValueError("created needs a time zone")
        if self.failures_png is not None and not self.failures_png.startswith(_PNG):
            raise ValueError("failures_png is not a PNG")
        names = [site.name for site in self.sites]
        if len(set(names)) != len(names):
            raise ValueError("two sites have one name")
        strangers = {cell.site for cell in self.means} - set(names)
        strangers |= (self.run.egress.keys() if self.run else set()) - set(names)
        if strangers:
            raise ValueError(f"figures of sites that the report does not have: {sorted(strangers)}")
        return self

    @model_validator(mode="after")
    def _of_one_study(self) -> ReportData:
        about = (self.study_sha256, self.dataset.version)
        for site in self.sites:
            answers = [site.comparison, *(answer.found for answer in site.distributions)]
            if any(found and (found.study_sha256, found.dataset_version) != about for found in answers):
                raise ValueError(f"{site.name}: figures of another study or dataset version")
        return self

    @model_validator(mode="after")
    def _each_figure_once(self) -> ReportData:
        keys = [(cell.arm, cell.trained_on, cell.n, cell.site) for cell in self.means]
        keys += [(a.arm, a.trained_on, a.n, s.name) for s in self.sites if s.comparison for a in s.comparison.arms]
        if len(set(keys)) != len(keys):
            raise ValueError("a figure stands there twice")
        return self
