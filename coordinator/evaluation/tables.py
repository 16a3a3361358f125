"""The report as CSV: one line for each network, site and metric, with its interval and gain or the reason for none."""

from __future__ import annotations

import csv
import io

from coordinator.evaluation.cells import Cell, cells
from coordinator.evaluation.report_data import ReportData
from shared.metrics import NAMES, MetricName

COLUMNS = (
    "arm", "trained_on", "n", "site", "metric", "mean", "low", "high", "gain", "gain_low", "gain_high", "seeds",
    "patients", "reason",
)  # fmt: skip
# What a spreadsheet would read as a formula. Numbers are no texts, and may begin with a minus.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def csv_text(data: ReportData) -> str:
    """UTF-8 text with a header. Empty means that there is none; a line without a mean has a reason."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for cell in cells(data):
        writer.writerows(_line(cell, name) for name in NAMES)
    return buffer.getvalue()


def _line(cell: Cell, name: MetricName) -> dict[str, object]:
    figure, gain = cell.figures.get(name), cell.gains.get(name)
    values = {
        "arm": cell.arm, "trained_on": cell.trained_on, "n": cell.n, "site": cell.site, "metric": name,
        "mean": figure.mean if figure else None, "low": figure.low if figure else None,
        "high": figure.high if figure else None, "gain": gain.mean if gain else None,
        "gain_low": gain.low if gain else None, "gain_high": gain.high if gain else None,
        "seeds": cell.seeds, "patients": cell.patients, "reason": cell.reason,
    }  # fmt: skip
    return {key: _safe(value) for key, value in values.items()}


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
