"""Utility against privacy: what each site's synthetic pairs are worth, over three measures of how well they protect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from coordinator.evaluation.cells import Cell, ends
from coordinator.evaluation.charts.axes import Axis, epsilon_axis, share_axis
from coordinator.evaluation.charts.plane import Point, Series, plane
from coordinator.evaluation.report_data import Release, ReportData

_AUC_AXIS = Axis(0.5, 1.0, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
_SHARES = Axis(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0), digits=2)


@dataclass(frozen=True)
class Trade:
    """One of the three charts: what its horizontal axis is, how to read it, and the drawing, or why it is empty."""

    title: str
    reading: str
    drawn: Markup | None
    empty: str = ""


def trades(data: ReportData, table: Sequence[Cell]) -> list[Trade]:
    """IoU at home of a network trained on a site's own synthetic pairs, over ε, membership AUC and acceptance rate."""
    worth = [
        cell for cell in table
        if cell.arm == "synthetic_own" and cell.trained_on == cell.site and cell.n is None and cell.iou is not None
    ]  # fmt: skip
    y = share_axis(ends(cell.iou for cell in worth if cell.iou is not None))
    mode = data.study.privacy.mode
    panels: tuple[tuple[str, str, Callable[[Release], float | None], str], ...] = (
        ("ε of the release", "smaller protects more", lambda release: release.epsilon,
         "No release claims an ε: the study's mode is audited." if mode == "audited" else "No release has an ε yet."),
        ("Membership AUC", "upper end of 95 %; 0.5 is a coin's throw; smaller protects more",
         lambda release: None if release.membership_auc is None else max(0.5, release.membership_auc),
         "No release tells how far an attack on its training patients reached."),
        ("Share of samples accepted", "how much was dropped, not how safe the rest is",
         lambda release: release.acceptance, "No release tells how many samples it was chosen from."),
    )  # fmt: skip
    drawn = []
    for title, reading, measure, empty in panels:
        series = _series(data, worth, measure)
        if not worth:
            empty = "No network was trained on one site's own pairs and tested there."
        if not series:
            drawn.append(Trade(title, reading, None, empty))
            continue
        xs = [point.x for one in series for point in one.points]
        x = epsilon_axis(xs) if title.startswith("ε") else _AUC_AXIS if title.startswith("M") else _SHARES
        drawn.append(Trade(title, reading, plane(series, x, y)))
    return drawn


def _series(
    data: ReportData, worth: Sequence[Cell], measure: Callable[[Release], float | None]
) -> list[Series]:  # fmt: skip
    by_site = {cell.site: cell.iou for cell in worth}
    found = []
    for index, site in enumerate(data.sites):
        figure = by_site.get(site.name)
        x = measure(site.release) if site.release is not None else None
        if figure is not None and x is not None:
            found.append(Series(site.name, index, (Point(x, figure, str(index + 1)),)))
    return found
