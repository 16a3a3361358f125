"""Marks: shapes that are told apart without colour, whiskers, and the legend's small pictures."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

# Each drawn at (0, 0), about 12 px wide. The class says which colour the style sheet gives it.
_SHAPES = (
    Markup('<circle r="5.5"/>'),
    Markup('<path d="M0-7 7 0 0 7-7 0z"/>'),
    Markup('<path d="M-5-5H5V5H-5z"/>'),
    Markup('<path d="M0-6.5 6.5 5H-6.5z"/>'),
    Markup('<path d="M0 6.5 6.5-5H-6.5z"/>'),
    Markup('<path d="M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2z"/>'),
)


def mark(index: int, *, hollow: bool = False) -> Markup:
    """The mark of the index-th series; hollow ones are only outlined."""
    look = index % len(_SHAPES)
    return Markup('<g class="m{}{}">{}</g>').format(look, " hollow" if hollow else "", _SHAPES[look])


def at(x: float, y: float | str, drawn: Markup, title: str) -> Markup:
    """A mark at x percent and y px, with a title for who points at it."""
    # A nested svg is what can stand at a percentage; its contents keep their pixels.
    return Markup('<svg x="{:.2f}%" y="{}" overflow="visible"><title>{}</title>{}</svg>').format(x, y, title, drawn)


def whisker(low: float, high: float, y: float, index: int) -> Markup:
    """A horizontal interval from low to high percent, with ends."""
    look = index % len(_SHAPES)
    ends = Markup("").join(
        Markup('<line class="w{0}" x1="{1:.2f}%" x2="{1:.2f}%" y1="{2}" y2="{3}"/>').format(look, x, y - 4, y + 4)
        for x in (low, high)
    )
    line = Markup('<line class="w{}" x1="{:.2f}%" x2="{:.2f}%" y1="{y}" y2="{y}"/>').format(look, low, high, y=y)
    return line + ends


def upright(x: float, low: float, high: float, index: int) -> Markup:
    """A vertical interval at x percent, from low to high px."""
    look = index % len(_SHAPES)
    return Markup('<line class="w{0}" x1="{1:.2f}%" x2="{1:.2f}%" y1="{2:.1f}" y2="{3:.1f}"/>').format(
        look, x, low, high
    )


def legend(names: Sequence[str]) -> list[tuple[Markup, str]]:
    """(picture, words) of each series in order."""
    picture = Markup('<svg width="16" height="16" viewBox="-8 -8 16 16" class="chart" aria-hidden="true">{}</svg>')
    return [(picture.format(mark(index)), name) for index, name in enumerate(names)]
