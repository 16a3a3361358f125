"""Panels with two axes: points with their intervals, joined where they belong to one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from coordinator.evaluation.cells import Figure
from coordinator.evaluation.charts.axes import Axis
from coordinator.evaluation.charts.marks import at, mark, upright
from coordinator.evaluation.words import interval

_HEIGHT_PX = 170
_BELOW_PX = 22


@dataclass(frozen=True)
class Point:
    """A figure over x. label: a short text beside the mark."""

    x: float
    figure: Figure
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one kind, by x, drawn with the look-th mark. joined: by a line, dashed like no other."""

    name: str
    look: int
    points: tuple[Point, ...]
    joined: bool = False


def plane(series: Sequence[Series], x: Axis, y: Axis, *, level: float | None = None) -> Markup:
    """An inline SVG, as wide as its place; y is IoU, labelled left of it, outside. level: a line across, in y."""
    drawn = _grid(x, y)
    if level is not None:
        drawn += Markup('<line class="level" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>').format(_down(y, level))
    for one in series:
        drawn += _line(one, x, y) if one.joined else Markup("")
        for point in one.points:
            drawn += _point(one, point, x, y)
    return Markup('<svg class="chart" width="100%" height="{}" aria-hidden="true">{}</svg>').format(
        _HEIGHT_PX + _BELOW_PX, drawn
    )


def _down(y: Axis, value: float) -> float:
    return _HEIGHT_PX * (1 - y.place(value) / 100)


def _grid(x: Axis, y: Axis) -> Markup:
    drawn = Markup('<text class="tick" x="-7" y="-10" text-anchor="end">IoU</text>')
    for tick in y.ticks:
        drawn += Markup('<line class="grid" x1="0" x2="100%" y1="{0:.1f}" y2="{0:.1f}"/>').format(_down(y, tick))
        drawn += Markup('<text class="tick" x="-7" y="{:.1f}" text-anchor="end">{}</text>').format(
            _down(y, tick) + 4, y.label(tick)
        )
    for tick in x.ticks:
        drawn += Markup('<line class="grid" x1="{0:.2f}%" x2="{0:.2f}%" y1="{1}" y2="{2}"/>').format(
            x.place(tick), _HEIGHT_PX, _HEIGHT_PX + 4
        )
        drawn += Markup('<text class="tick" x="{:.2f}%" y="{}" text-anchor="middle">{}</text>').format(
            x.place(tick), _HEIGHT_PX + 18, x.label(tick)
        )
    return drawn


def _line(one: Series, x: Axis, y: Axis) -> Markup:
    return Markup("").join(
        Markup('<line class="w{} join{}" x1="{:.2f}%" x2="{:.2f}%" y1="{:.1f}" y2="{:.1f}"/>').format(
            one.look, one.look, x.place(a.x), x.place(b.x), _down(y, a.figure.mean), _down(y, b.figure.mean)
        )
        for a, b in pairwise(one.points)
    )


def _point(one: Series, point: Point, x: Axis, y: Axis) -> Markup:
    place, figure, drawn = x.place(point.x), point.figure, Markup("")
    if figure.low is not None and figure.high is not None:
        drawn += upright(place, _down(y, figure.high), _down(y, figure.low), one.look)
    within = interval(figure.low, figure.high, 3)
    words = f"{one.name} at {point.x:g}: {figure.mean:.3f}{f' ({within})' if within else ''}"
    beside = Markup('<text class="near" x="9" y="-6">{}</text>').format(point.label) if point.label else Markup("")
    shape = mark(one.look, hollow=figure.low is None) + beside
    return drawn + at(place, round(_down(y, figure.mean), 1), shape, words)
