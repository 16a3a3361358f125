"""What more pairs, or more images, are worth: IoU over their number, a small chart for each site."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from coordinator.evaluation.cells import Cell, ends
from coordinator.evaluation.charts.axes import count_axis, share_axis
from coordinator.evaluation.charts.plane import Point, Series, plane
from coordinator.evaluation.report_data import ReportData
from coordinator.evaluation.summary import REAL
from coordinator.evaluation.words import ARM_WORDS
from shared.study import FEW_ARMS


@dataclass(frozen=True)
class Curves:
    """A small chart for each site with figures, the words of its series in order, and the sites without.

    empty: why there is no chart at all.
    """

    panels: tuple[tuple[str, Markup], ...]
    series: tuple[tuple[int, str], ...]
    empty: str = ""
    without: tuple[str, ...] = ()


def per_case_curves(data: ReportData, table: Sequence[Cell]) -> Curves:
    """IoU over the number of synthetic pairs a training case, at each site: its own pairs, and all sites'."""
    if not data.study.evaluation.per_case:
        return Curves((), (), "The study trains with all pairs of a training case, and with no smaller number.")
    most = data.study.generator.samples_per_case
    words = ((2, "its own synthetic pairs"), (5, "all sites' synthetic pairs"))
    panels = []
    for site in data.sites:
        own = [cell for cell in table if cell.arm == "synthetic_own" and cell.trained_on == cell.site == site.name]
        pooled = [cell for cell in table if cell.arm == "synthetic_pooled" and cell.site == site.name]
        series = [_series(w, look, cells, most) for (look, w), cells in zip(words, (own, pooled), strict=True)]
        panels.append((site.name, series))
    return _curves(panels, words, [*data.study.evaluation.per_case, most], table)


def few_curves(data: ReportData, table: Sequence[Cell]) -> Curves:
    """IoU over N at each site: the first N real images, and 10 N synthetic pairs drawn from those."""
    if not set(FEW_ARMS) & set(data.study.evaluation.arms):
        return Curves((), (), "The study does not ask what a site with few images would gain.")
    words = ((0, ARM_WORDS["few_real"]), (2, ARM_WORDS["few_synthetic"]))
    panels = []
    for site in data.sites:
        of = [[cell for cell in table if cell.arm == arm and cell.site == site.name] for arm in FEW_ARMS]
        panels.append((site.name, [_series(w, look, cells, 0) for (look, w), cells in zip(words, of, strict=True)]))
    return _curves(panels, words, data.study.evaluation.few_cases, table)


def _series(name: str, look: int, cells: Iterable[Cell], whole: int) -> Series:
    """whole: where on the axis a cell without n stands; one that was also measured under that n stands there once."""
    at = {float(cell.n or whole): cell.iou for cell in sorted(cells, key=lambda cell: cell.n is not None)}
    points = tuple(Point(x, figure) for x, figure in sorted(at.items(), key=lambda item: item[0]) if figure is not None)
    return Series(name, look, points, joined=True)


def _curves(
    panels: Sequence[tuple[str, list[Series]]], words: tuple[tuple[int, str], ...], xs: Sequence[float],
    table: Sequence[Cell],
) -> Curves:  # fmt: skip
    figures = [point.figure for _, series in panels for one in series for point in one.points]
    if not figures:
        return Curves((), (), "No site has such figures yet.")
    level = {cell.site: cell.iou.mean for cell in table if cell.key == REAL and cell.iou is not None}
    y = share_axis([*ends(figures), *(level[name] for name, _ in panels if name in level)])
    x = count_axis([float(value) for value in xs])
    drawn = tuple(
        (name, plane(series, x, y, level=level.get(name)))
        for name, series in panels
        if any(one.points for one in series)
    )
    return Curves(drawn, words, without=tuple(name for name, series in panels if not any(one.points for one in series)))
