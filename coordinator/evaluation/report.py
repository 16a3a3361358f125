"""The report of a study: one HTML file that needs nothing else, for stewards, clinicians and reviewers.

Promise: the file asks for nothing (its content security policy forbids it), holds no script, shows only figures that
sites let out and pairs that they released, and escapes every text that came from anywhere.
"""

from __future__ import annotations

import base64
import functools
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from coordinator.evaluation import views
from coordinator.evaluation.cells import cells
from coordinator.evaluation.charts.axes import axis_top, share_axis, widths
from coordinator.evaluation.charts.colour import shade
from coordinator.evaluation.charts.marks import legend, mark
from coordinator.evaluation.charts.rows import axis_row
from coordinator.evaluation.curves import few_curves, per_case_curves
from coordinator.evaluation.methods import methods, settings
from coordinator.evaluation.report_data import ReportData
from coordinator.evaluation.summary import summarise
from coordinator.evaluation.tables import csv_text
from coordinator.evaluation.trade import trades
from coordinator.evaluation.words import (
    ARM_WORDS,
    LOWER_IS_BETTER,
    MEASURE_WORDS,
    METRIC_WORDS,
    REJECTION_WORDS,
    VERDICT_WORDS,
    count,
    duration,
    interval,
    megabytes,
    moment,
    number,
    source_words,
)
from shared.files import write_atomic


def write_report(data: ReportData, folder: Path) -> tuple[Path, ...]:
    """Writes report.html, report.json (the whole data) and report.csv (a line a figure) into folder; their paths."""
    texts = {"html": render(data), "json": data.model_dump_json(indent=1) + "\n", "csv": csv_text(data)}
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"report.{ending}": text for ending, text in texts.items()}
    for path, text in paths.items():
        write_atomic(path, text.encode())
    return tuple(paths)


def render(data: ReportData) -> str:
    """The report as HTML: one self-contained document, UTF-8."""
    table = cells(data)
    means = [cell.iou.mean for cell in table if cell.iou is not None]
    top = axis_top(means)
    axis = share_axis(views.panel_ends(data, table))
    gains, gain_axis = views.gain_panels(data, table)
    return (
        _environment()
        .get_template("report.html")
        .render(
            data=data,
            summary=summarise(data),
            matrix=views.matrix(data, table, top),
            scale=[(tick / 10, shade(tick / 10, top)) for tick in range(round(top * 10) + 1)],
            panels=views.arm_panels(data, table, axis),
            axis=axis_row(axis),
            kinds=legend(views.KINDS),
            gains=gains,
            gain_axis=axis_row(gain_axis),
            references=sorted({ARM_WORDS[site.comparison.reference] for site in data.sites if site.comparison}),
            per_case=per_case_curves(data, table),
            few=few_curves(data, table),
            trades=trades(data, table),
            site_legend=legend([f"{place}  {site.name}" for place, site in enumerate(data.sites, 1)]),
            full=views.full_table(table),
            methods=methods(data),
            settings=settings(data.study),
            run=data.run,
            egress_widths=_egress_widths(data),
        )
    )


def _egress_widths(data: ReportData) -> dict[str, float]:
    egress = data.run.egress if data.run is not None else {}
    return widths({f"{site} {kind}": size for site, kinds in egress.items() for kind, size in kinds.items()})


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
        count=count, size=megabytes, duration=duration, moment=moment, data_uri=data_uri, source=source_words,
        number=number,
        widths=widths, picture=mark,
    )  # fmt: skip
    environment.globals.update(
        metric_words=METRIC_WORDS, lower_is_better=LOWER_IS_BETTER, rejection_words=REJECTION_WORDS,
        verdict_words=VERDICT_WORDS, measure_words=MEASURE_WORDS, interval=interval,
    )  # fmt: skip
    return environment


def data_uri(png: bytes) -> str:
    """A PNG as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
