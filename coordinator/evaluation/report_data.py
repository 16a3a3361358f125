"""What a report is made from: one frozen document of figures, words and contact sheets, and nothing of a real image."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.metrics import Metrics
from shared.study import Sha256

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
RowKind = Literal["site", "pooled", "own_real"]


class _Part(BaseModel):
    # Bytes as base64, so that a report's data can be kept as JSON and rendered again.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_bytes="base64", val_json_bytes="base64")


class SiteData(_Part):
    """One site. rejected: how many samples the screening dropped, by reason. sheet_png: a PNG, or None without one."""

    name: str = Field(min_length=1)
    cases: Count
    patients: Count
    training_patients: Count
    holdout_patients: Count
    sampled: Count
    released: Count
    privacy_label: str
    privacy_sentences: tuple[str, ...]
    approved_by: tuple[str, ...]
    rejected: dict[str, Count]
    sheet_png: bytes | None
    sheet_pairs: Count = 0

    @model_validator(mode="after")
    def _png(self) -> SiteData:
        if self.sheet_png is not None and not self.sheet_png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise ValueError("sheet_png is not a PNG")
        return self


class DatasetData(_Part):
    """The dataset that was built from what the sites let out."""

    version: int = Field(ge=1)
    pairs: Count
    sha256: Sha256


class Cell(_Part):
    """A measurement, or the reason why there is none. Exactly one of the two."""

    metrics: Metrics | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _one_of_two(self) -> Cell:
        if (self.metrics is None) != bool(self.reason):
            raise ValueError("a cell has either metrics or a reason why there are none")
        return self


class MatrixRow(_Part):
    """What a network was trained on, and its cells by the name of the site at which it was tested.

    kind site: `site`'s synthetic pairs; pooled: all sites' synthetic pairs; own_real: in each column, the real training
    cases of the very site at which it is tested.
    """

    kind: RowKind
    site: str = ""
    cells: dict[str, Cell]

    @model_validator(mode="after")
    def _names_its_site(self) -> MatrixRow:
        if (self.kind == "site") != bool(self.site):
            raise ValueError("a row of kind site names its site, and no other row names one")
        return self


class ReportData(_Part):
    """Everything that a report says. `created` and `closes` carry a time zone.

    arms: arm -> site -> metrics. egress: site -> kind -> bytes. seconds: stage -> seconds, in order.
    peak_rss_mb: process -> MB. notes: loud remarks, shown before any figure. settings: name -> value, shown at the end.
    """

    study_id: str
    title: str
    purpose: str = ""
    closes: datetime
    created: datetime
    sites: tuple[SiteData, ...] = Field(min_length=1)
    dataset: DatasetData
    matrix: tuple[MatrixRow, ...]
    arms: dict[str, dict[str, Metrics]]
    egress: dict[str, dict[str, Count]]
    seconds: dict[str, Seconds]
    peak_rss_mb: dict[str, Annotated[float, Field(ge=0.0, allow_inf_nan=False)]]
    notes: tuple[str, ...] = ()
    settings: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> ReportData:
        if self.closes.tzinfo is None or self.created.tzinfo is None:
            raise ValueError("closes and created need a time zone")
        names = [site.name for site in self.sites]
        if len(set(names)) != len(names):
            raise ValueError("two sites have one name")
        strangers = {name for row in self.matrix for name in (*row.cells, row.site) if name} - set(names)
        strangers |= {name for sites in self.arms.values() for name in sites} - set(names)
        strangers |= self.egress.keys() - set(names)
        if strangers:
            raise ValueError(f"figures of sites that the report does not have: {sorted(strangers)}")
        return self
