"""The report's charts: colours of the heat map, lengths of bars, and the dot plot of arms. No script, no font.

Colours run from pale to dark blue in one hue, so that they order by lightness alone: for every kind of colour vision,
and on a black-and-white printer. Arms differ by the shape of their mark as well as by colour.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

# Anchors of ColorBrewer's sequential map "Blues" (nine classes), pale to dark.
_BLUES = (
    (247, 251, 255), (222, 235, 247), (198, 219, 239), (158, 202, 225), (107, 174, 214),
    (66, 146, 198), (33, 113, 181), (8, 81, 156), (8, 48, 107),
)  # fmt: skip
# Pure black: with anything lighter, no text reaches 4.5:1 on the middle blues.
_INK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class Shade:
    """CSS colours of a cell: its ground, and the text that reads well on it."""

    ground: str
    text: str


def shade(value: float, top: float) -> Shade:
    """The shade of a value in [0, top]; whichever of dark and white text has the higher contrast (WCAG 2)."""
    place = min(1.0, max(0.0, value / top)) * (len(_BLUES) - 1)
    low = min(int(place), len(_BLUES) - 2)
    ground = tuple(round(a + (b - a) * (place - low)) for a, b in zip(_BLUES[low], _BLUES[low + 1], strict=True))
    text = max((_INK, _WHITE), key=lambda colour: contrast(colour, ground))
    return Shade(_css(ground), _css(text))


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """WCAG 2's contrast ratio of two sRGB colours, 1 to 21; 4.5 is what text needs."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Sequence[int]) -> float:
    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(channel / 255) for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _css(colour: Sequence[int]) -> str:
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"


def axis_top(values: Sequence[float]) -> float:
    """The end of a scale that starts at 0: the largest value rounded up to a tenth, from 0.1 to 1."""
    return min(1.0, max(0.1, math.ceil(round(10 * max(values, default=0.0), 6)) / 10))


def widths(values: Mapping[str, float]) -> dict[str, float]:
    """Length of each bar as a percentage of the longest, 0 to 100."""
    longest = max(values.values(), default=0.0)
    return {name: (100 * value / longest if longest > 0 else 0.0) for name, value in values.items()}


@dataclass(frozen=True)
class Arm:
    """A line of the dot plot's legend: key in the figures, words, colour, and the mark drawn at (0, 0)."""

    key: str
    words: str
    colour: str
    mark: Markup


# Okabe and Ito's colour-blind-safe colours, darkened to 4.5:1 on white where they lacked it.
ARMS = (
    Arm("real_own", "own real images", "#1a1a1a", Markup('<circle r="6"/>')),
    Arm("synthetic_pooled", "all sites' synthetic pairs", "#0065a3", Markup('<path d="M0-7.5 7.5 0 0 7.5-7.5 0z"/>')),
    Arm("synthetic_own", "own synthetic pairs", "#b34700", Markup('<path d="M-6-6H6V6H-6z"/>')),
)
_LABEL_PX, _ROW_PX = 22, 50


def dot_plot(sites: Sequence[str], arms: Mapping[str, Mapping[str, float]], top: float) -> Markup:
    """An inline SVG: a row for each site, a mark for each arm, on an axis from 0 to top.

    Places along the axis are percentages and nothing is scaled, so text keeps its size on any width of page.
    """
    parts: list[Markup] = []
    bottom = len(sites) * _ROW_PX + 6
    for tick in range(round(top * 10) + 1):
        if top > 0.5 and tick % 2 and tick != round(top * 10):
            continue
        place = 100 * tick / (10 * top)
        parts.append(
            Markup('<line x1="{0:.1f}%" x2="{0:.1f}%" y1="0" y2="{1}" class="grid"/>').format(place, bottom)
            + Markup('<text x="{:.1f}%" y="{}" class="tick" text-anchor="{}">{:.1f}</text>').format(
                place, bottom + 16, "start" if tick == 0 else "end" if place >= 100 else "middle", tick / 10
            )
        )
    for row, site in enumerate(sites):
        middle = row * _ROW_PX + _LABEL_PX + 14
        parts.append(Markup('<text x="0" y="{}" class="row">{}</text>').format(row * _ROW_PX + _LABEL_PX - 6, site))
        parts.append(Markup('<line x1="0" x2="100%" y1="{0}" y2="{0}" class="rule"/>').format(middle))
        for arm in ARMS:
            if site in arms.get(arm.key, {}):
                parts.append(_mark(arm, site, arms[arm.key][site], top, middle))
    return Markup('<svg class="dots" width="100%" height="{}" aria-hidden="true">{}</svg>').format(
        bottom + 22, Markup("").join(parts)
    )


def _mark(arm: Arm, site: str, value: float, top: float, middle: int) -> Markup:
    # A nested svg is what can stand at a percentage; its contents keep their pixels.
    return Markup(
        '<svg x="{:.2f}%" y="{}" overflow="visible"><g fill="{}"><title>{}: {}, {:.3f}</title>{}</g></svg>'
    ).format(100 * value / top, middle, arm.colour, site, arm.words, value, arm.mark)
