"""The report of a study: one HTML file that needs nothing else, for stewards, clinicians and reviewers.

Promise: the file asks for nothing (its content security policy forbids it), holds no script, shows only figures that
sites let out and pairs that they released, and escapes every text that came from anywhere.
"""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from coordinator.evaluation import charts
from coordinator.evaluation.report_data import Cell, MatrixRow, ReportData
from coordinator.evaluation.summary import count, megabytes, summarise
from shared.metrics import NAMES

METRIC_WORDS = {
    "iou": "IoU",
    "f_score": "F-score",
    "recall": "Recall",
    "precision": "Precision",
    "accuracy": "Accuracy",
    "dice_loss": "Dice loss",
}
# Reasons of shared.bundle.RejectionReason, as a steward would put them.
REJECTION_WORDS = {
    "copy": "too near to a real image",
    "part-copy": "with a part too near to a real one",
    "mask-copy": "with a real outline",
    "text": "with writing in them",
    "implausible": "not plausible for the study",
    "duplicate": "too near to another sample",
    "mask-empty": "no lesion marked",
    "mask-full": "everything marked as lesion",
}
_NO_CELL = Cell(reason="not measured")


@dataclass(frozen=True)
class HeatCell:
    """A cell of the matrix. home: trained on what came from the site at which it is tested."""

    site: str
    cell: Cell
    shade: charts.Shade | None
    home: bool


@dataclass(frozen=True)
class HeatRow:
    """A row of the matrix: its words, and a cell for every site in the report's order."""

    words: str
    cells: tuple[HeatCell, ...]


def render(data: ReportData) -> str:
    """The report as HTML: one self-contained document, UTF-8."""
    sites = [site.name for site in data.sites]
    ious = [cell.metrics.iou for row in data.matrix for cell in row.cells.values() if cell.metrics is not None]
    arms = {arm: {site: metrics.iou for site, metrics in found.items()} for arm, found in data.arms.items()}
    top = charts.axis_top(ious)
    arms_top = charts.axis_top([iou for found in arms.values() for iou in found.values()])
    return (
        _environment()
        .get_template("report.html")
        .render(
            data=data,
            summary=summarise(data),
            matrix=[_heat_row(row, sites, top) for row in data.matrix],
            scale=[(tick / 10, charts.shade(tick / 10, top)) for tick in range(round(top * 10) + 1)],
            metric_words=METRIC_WORDS,
            arms=charts.ARMS,
            dot_plot=charts.dot_plot(sites, arms, arms_top),
            egress={site: dict(sorted(data.egress.get(site, {}).items(), key=lambda item: -item[1])) for site in sites},
            egress_widths=charts.widths(
                {f"{s} {k}": size for s, kinds in data.egress.items() for k, size in kinds.items()}
            ),
            seconds_widths=charts.widths(data.seconds),
            memory_widths=charts.widths(data.peak_rss_mb),
            rejection_words=REJECTION_WORDS,
        )
    )


def _heat_row(row: MatrixRow, sites: list[str], top: float) -> HeatRow:
    words = {"pooled": "All sites' synthetic pairs", "own_real": "The tested site's own real images"}
    cells = []
    for site in sites:
        cell = row.cells.get(site, _NO_CELL)
        shade = None if cell.metrics is None else charts.shade(cell.metrics.iou, top)
        cells.append(HeatCell(site, cell, shade, home=row.kind == "own_real" or row.site == site))
    return HeatRow(words.get(row.kind) or f"Synthetic pairs of {row.site}", tuple(cells))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("coordinator.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=count,
        size=megabytes,
        duration=duration,
        moment=moment,
        data_uri=data_uri,
        one_name=METRIC_WORDS.__getitem__,
    )
    assert set(METRIC_WORDS) == set(NAMES)  # noqa: S101  a new metric needs words
    return environment


def data_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(when: datetime) -> str:
    """`21 November 2026, 11:44 UTC`."""
    utc = when.astimezone(UTC)
    return f"{utc.day} {utc:%B %Y, %H:%M} UTC"
