"""What the page shows, computed from the report's table: the matrix, the arms of each site, and what they gain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from coordinator.evaluation.cells import Cell, Figure, Key, ends
from coordinator.evaluation.chance import STANDING_WORDS, standing
from coordinator.evaluation.charts.axes import Axis, gain_axis
from coordinator.evaluation.charts.colour import Shade, shade
from coordinator.evaluation.charts.rows import figure_row, gain_row
from coordinator.evaluation.report_data import ReportData
from coordinator.evaluation.summary import OTHERS_TOO, POOL, REAL
from coordinator.evaluation.words import (
    ARM_WORDS,
    SHORT_ARM_WORDS,
    interval,
    signed,
    signed_interval,
    trained_on_words,
)
from shared.orders import POOLED
from shared.study import FEW_ARMS, Arm

# Which mark an arm has: on real images, on both kinds, on synthetic pairs.
KINDS = ("real images only", "real images and synthetic pairs", "synthetic pairs only")
_LOOKS: dict[Arm, int] = {
    "real_own": 0, "real_plain": 0, "real_classical": 0, "real_and_others": 1, "refined": 1, "synthetic_pooled": 2,
    "synthetic_own": 2, "few_real": 0, "few_synthetic": 2,
}  # fmt: skip
_AT_THE_SITE: tuple[Key, ...] = (OTHERS_TOO, ("refined", POOLED, None), REAL)
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
    possible: list[tuple[str, Key]] = [
        *((f"Synthetic pairs of {site.name}", ("synthetic_own", site.name, None)) for site in data.sites),
        ("All sites' synthetic pairs", POOL),
        *((f"At the tested site: {ARM_WORDS[key[0]]}", key) for key in _AT_THE_SITE),
    ]
    shown = {cell.key for cell in table}
    return [
        HeatRow(words, tuple(_heat(by_key.get((key, site.name)), site.name, key, top) for site in data.sites))
        for words, key in possible
        if key in shown
    ]


def _heat(cell: Cell | None, site: str, key: Key, top: float) -> HeatCell:
    figure = cell.iou if cell is not None else None
    reason = "" if figure is not None else (cell.reason if cell is not None else _MISSING)
    home = key[1] == site or key[0] == "real_own"
    return HeatCell(site, figure, reason, shade(figure.mean, top) if figure is not None else None, home)


def arm_panels(data: ReportData, table: Sequence[Cell], axis: Axis) -> list[Panel]:
    """A panel for each site: every arm in one order, with its interval."""
    arms = [arm for arm in ARM_WORDS if arm in data.study.evaluation.arms and arm not in FEW_ARMS]
    seeds = len(data.study.evaluation.seeds)
    panels = []
    for site in data.sites:
        cells = [(arm, _of(table, arm, site.name)) for arm in arms]
        # A site that released nothing has no pairs of its own to train on: that is no gap.
        rows = [_arm_row(arm, c, site.name, axis, seeds) for arm, c in cells if c is not None or arm != "synthetic_own"]
        panels.append(Panel(site.name, tuple(rows)))
    return panels


def _arm_row(arm: Arm, cell: Cell | None, site: str, axis: Axis, seeds: int) -> ChartRow:
    figure = cell.iou if cell is not None else None
    drawn = figure_row(figure, axis, _LOOKS[arm], f"{site}, {ARM_WORDS[arm]}")
    if cell is None or figure is None:
        return ChartRow(SHORT_ARM_WORDS[arm], drawn, cell.reason if cell is not None else _MISSING)
    runs = "" if cell.seeds == seeds else f"{cell.seeds} of {seeds} training runs"
    remarks = tuple(part for part in (interval(figure.low, figure.high), runs) if part)
    return ChartRow(SHORT_ARM_WORDS[arm], drawn, f"{figure.mean:.2f}", remarks)


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
            how = standing(gain, patients=cell.patients, runs=cell.runs)
            title = f"{ARM_WORDS[arm]} at {cell.site}"
            drawn = gain_row(gain, axis, _LOOKS[arm], title, filled=how == "beyond")
            rows.append(ChartRow(cell.site, drawn, signed(gain.mean), (signed_interval(gain), STANDING_WORDS[how])))
        if rows:
            panels.append(Panel(_capital(ARM_WORDS[arm]), tuple(rows)))
    return panels, axis


def full_table(table: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    """(words of what was trained on, its cells by site) in the order of the arms, each with all of its data."""
    order = list(ARM_WORDS)
    keys = sorted({cell.key for cell in table if cell.n is None}, key=lambda key: (order.index(key[0]), key[1] or ""))
    return [(_capital(trained_on_words(*key)), [cell for cell in table if cell.key == key]) for key in keys]


def _of(table: Sequence[Cell], arm: Arm, site: str) -> Cell | None:
    """The cell of an arm with all its data at a site; of a site's own pairs where the arm has pairs of one site."""
    found = (cell for cell in table if cell.arm == arm and cell.site == site and cell.n is None)
    return next((cell for cell in found if arm != "synthetic_own" or cell.trained_on == site), None)


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]
