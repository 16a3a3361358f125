"""Rows of a table that are charts: a mark with its interval on the axis that all rows of the table share."""

from __future__ import annotations

from markupsafe import Markup

from coordinator.evaluation.cells import Figure
from coordinator.evaluation.charts.axes import Axis
from coordinator.evaluation.charts.marks import at, mark, whisker
from coordinator.evaluation.words import gain_text, interval
from shared.findings import Gain

_HEIGHT_PX, _AXIS_PX = 26, 20


def figure_row(figure: Figure | None, axis: Axis, look: int, title: str) -> Markup:
    """A mean with its interval, where it has one; without a figure only the grid. look: of the mark."""
    if figure is None:
        return _row(_grid(axis))
    drawn = _grid(axis)
    if figure.low is not None and figure.high is not None:
        drawn += whisker(axis.place(figure.low), axis.place(figure.high), _HEIGHT_PX / 2, look)
    within = interval(figure.low, figure.high, 3)
    words = f"{title}: {figure.mean:.3f}{f' ({within})' if within else ', without an interval'}"
    return _row(drawn + at(axis.place(figure.mean), _HEIGHT_PX / 2, mark(look, hollow=figure.low is None), words))


def gain_row(gain: Gain, axis: Axis, look: int, title: str, *, filled: bool) -> Markup:
    """A gain with its interval around 0. filled: whether it may be called beyond chance."""
    zero = Markup('<line class="zero" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="{1}"/>').format(
        axis.place(0.0), _HEIGHT_PX
    )
    drawn = _grid(axis) + zero + whisker(axis.place(gain.low), axis.place(gain.high), _HEIGHT_PX / 2, look)
    drawn += at(axis.place(gain.mean), _HEIGHT_PX / 2, mark(look, hollow=not filled), f"{title}: {gain_text(gain)}")
    return _row(drawn)


def axis_row(axis: Axis) -> Markup:
    """The ticks' labels, under or over the rows."""
    drawn = Markup("").join(
        Markup('<text class="tick" x="{:.2f}%" y="14" text-anchor="middle">{}</text>').format(
            axis.place(tick), _label(axis, tick)
        )
        for tick in _labelled(axis)
    )
    return Markup('<svg class="chart" width="100%" height="{}" aria-hidden="true">{}</svg>').format(_AXIS_PX, drawn)


def _labelled(axis: Axis) -> tuple[float, ...]:
    """As many ticks as have room on a narrow screen, both ends among them."""
    inner = len(axis.ticks) - 1
    apart = next(apart for apart in range(1, inner + 1) if inner % apart == 0 and inner // apart <= 3)
    return axis.ticks[::apart]


def _label(axis: Axis, tick: float) -> str:
    text = axis.label(tick)
    return f"+{text}" if axis.low < 0 < tick else text.replace("-", "\N{MINUS SIGN}")


def _grid(axis: Axis) -> Markup:
    return Markup("").join(
        Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="0" y2="{1}"/>').format(axis.place(tick), _HEIGHT_PX)
        for tick in axis.ticks
    )


def _row(drawn: Markup) -> Markup:
    return Markup('<svg class="chart" width="100%" height="{}" aria-hidden="true">{}</svg>').format(_HEIGHT_PX, drawn)
