"""What the page shows, computed from the report's table: the matrix, the arms of each site, gains and curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from coordinator.evaluation.cells import Cell, Figure, Key
from coordinator.evaluation.chance import STANDING_WORDS, standing
from coordinator.evaluation.charts.axes import Axis, count_axis, gain_axis, share_axis
from coordinator.evaluation.charts.colour import Shade, shade
from coordinator.evaluation.charts.plane import Point, Series, plane
from coordinator.evaluation.charts.rows import figure_row, gain_row
from coordinator.evaluation.report_data import ReportData
from coordinator.evaluation.summary import POOL, REAL
from coordinator.evaluation.words import (
    ARM_WORDS,
    SHORT_ARM_WORDS,
    interval,
    signed,
    signed_interval,
    trained_on_words,
)
from shared.study import FEW_ARMS, Arm

# Which mark an arm has: on real images, on both kinds, on synthetic pairs.
KINDS = ("real images only", "real images and synthetic pairs", "synthetic pairs only")
_LOOKS: dict[Arm, int] = {
    "real_own": 0, "real_plain": 0, "real_classical": 0, "real_and_others": 1, "refined": 1, "synthetic_pooled": 2,
    "synthetic_own": 2, "few_real": 0, "few_synthetic": 2,
}  # fmt: skip
_MISSING = "not measured"


@dataclass(frozen=True)
class HeatCell:
    """A cell of the matrix: a figure with its shade, or a reason. home: tested where its pairs or images are from."""

    site: str
    figure: Figure | None
    reason: str
    shade: Shade | None
    home: bool


@dataclass(frozen=True)
class HeatRow:
    """A row of the matrix: its words, and a cell for every site in the report's order."""

    words: str
    cells: tuple[HeatCell, ...]


@dataclass(frozen=True)
class ChartRow:
    """A row that is a chart: its words, the drawing, the same in figures, and what there is to say of it."""

    words: str
    drawn: Markup
    text: str
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Panel:
    """The chart rows of one site, or of one arm."""

    name: str
    rows: tuple[ChartRow, ...]


def matrix(data: ReportData, table: Sequence[Cell], top: float) -> list[HeatRow]:
    """Trained on the row, tested on the column; all pairs of each source."""
    by_key = {(cell.key, cell.site): cell for cell in table}
    sources = [site.name for site in data.sites if ("synthetic_own", site.name, None) in {cell.key for cell in table}]
    keys: list[tuple[str, Key]] = [(f"Synthetic pairs of {name}", ("synthetic_own", name, None)) for name in sources]
    shown = {cell.key for cell in table}
    keys += [("All sites' synthetic pairs", POOL)] if POOL in shown else []
    for arm in ("real_and_others", "refined", "real_own"):
        keys += [(f"At the tested site: {ARM_WORDS[arm]}", key) for key in sorted(shown, key=str) if key[0] == arm]
    rows = []
    for words, key in keys:
        found = [_heat(by_key.get((key, site.name)), site.name, key, top) for site in data.sites]
        rows.append(HeatRow(words, tuple(found)))
    return rows


def _heat(cell: Cell | None, site: str, key: Key, top: float) -> HeatCell:
    figure = cell.iou if cell is not None else None
    reason = "" if figure is not None else (cell.reason if cell is not None else _MISSING)
    home = key[1] == site or key[0] == "real_own"
    return HeatCell(site, figure, reason, shade(figure.mean, top) if figure is not None else None, home)


def arm_panels(data: ReportData, table: Sequence[Cell], axis: Axis) -> list[Panel]:
    """A panel for each site: every arm in one order, with its interval."""
    panels = []
    for site in data.sites:
        rows = []
        for arm in ARM_WORDS:
            if arm not in data.study.evaluation.arms or arm in FEW_ARMS:
                continue
            cell = _of(table, arm, site.name)
            if cell is None and arm == "synthetic_own":
                continue  # a site that released nothing has no such arm
            title = f"{site.name}, {ARM_WORDS[arm]}"
            figure = cell.iou if cell is not None else None
            reason = cell.reason if cell is not None else _MISSING
            drawn = figure_row(figure, axis, _LOOKS[arm], title)
            text = reason if figure is None else f"{figure.mean:.2f}"
            within = "" if figure is None else interval(figure.low, figure.high)
            remarks = tuple(part for part in (within, _runs(cell, data)) if part)
            rows.append(ChartRow(SHORT_ARM_WORDS[arm], drawn, text, remarks))
        panels.append(Panel(site.name, tuple(rows)))
    return panels


def panel_ends(data: ReportData, table: Sequence[Cell]) -> list[float]:
    """What the axis of the arms' panels has to reach."""
    shown = [_of(table, arm, site.name) for arm in ARM_WORDS if arm not in FEW_ARMS for site in data.sites]
    return ends(cell.iou for cell in shown if cell is not None and cell.iou is not None)


def gain_panels(data: ReportData, table: Sequence[Cell]) -> tuple[list[Panel], Axis]:
    """A panel for each arm that is not the reference: its gain at each site."""
    arms = [arm for arm in ARM_WORDS if arm not in FEW_ARMS]
    at_home = {arm: [_of(table, arm, site.name) for site in data.sites] for arm in arms}
    gains = {arm: [cell for cell in found if cell is not None and cell.gains] for arm, found in at_home.items()}
    shown = [cell.gains["iou"] for found in gains.values() for cell in found]
    axis = gain_axis([end for gain in shown for end in (gain.low, gain.high)])
    panels = []
    for arm, found in gains.items():
        rows = []
        for cell in found:
            gain = cell.gains["iou"]
            how = standing(gain, patients=cell.patients, seeds=cell.seeds)
            title = f"{ARM_WORDS[arm]} at {cell.site}"
            drawn = gain_row(gain, axis, _LOOKS[arm], title, filled=how == "beyond")
            rows.append(ChartRow(cell.site, drawn, signed(gain.mean), (signed_interval(gain), STANDING_WORDS[how])))
        if rows:
            panels.append(Panel(_capital(ARM_WORDS[arm]), tuple(rows)))
    return panels, axis


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


def ends(figures: Iterable[Figure]) -> list[float]:
    """Both ends of each interval, or the mean where there is none: what an axis has to reach."""
    return [
        value for figure in figures
        for value in ((figure.mean,) if figure.low is None or figure.high is None else (figure.low, figure.high))
    ]  # fmt: skip


def full_table(table: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    """(words of what was trained on, its cells by site) in the order of the arms, each with all of its data."""
    order = list(ARM_WORDS)
    keys = sorted({cell.key for cell in table if cell.n is None}, key=lambda key: (order.index(key[0]), key[1] or ""))
    return [(_capital(trained_on_words(*key)), [cell for cell in table if cell.key == key]) for key in keys]


def _of(table: Sequence[Cell], arm: Arm, site: str) -> Cell | None:
    """The cell of an arm with all its data at a site; of a site's own pairs where the arm has pairs of one site."""
    found = (cell for cell in table if cell.arm == arm and cell.site == site and cell.n is None)
    return next((cell for cell in found if arm != "synthetic_own" or cell.trained_on == site), None)


def _runs(cell: Cell | None, data: ReportData) -> str:
    declared = len(data.study.evaluation.seeds)
    if cell is None or cell.seeds in (0, declared):
        return ""
    return f"{cell.seeds} of {declared} training runs"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
