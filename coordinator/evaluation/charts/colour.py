"""Colours of the heat map, for light and for dark pages, and how well text reads on them.

Both scales run in one hue and order by lightness alone: for every kind of colour vision, and on a black-and-white
printer. The higher the value, the further from the page's own ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Rgb = tuple[int, ...]
# Anchors of ColorBrewer's sequential map "Blues" (nine classes), pale to dark.
_LIGHT: tuple[Rgb, ...] = (
    (247, 251, 255), (222, 235, 247), (198, 219, 239), (158, 202, 225), (107, 174, 214),
    (66, 146, 198), (33, 113, 181), (8, 81, 156), (8, 48, 107),
)  # fmt: skip
_DARK: tuple[Rgb, ...] = (
    (24, 34, 47), (20, 52, 84), (17, 72, 120), (27, 96, 156), (53, 124, 186),
    (93, 154, 206), (139, 184, 222), (184, 211, 236), (226, 238, 249),
)  # fmt: skip
# Pure black and white: with anything less, no text reaches 4.5:1 on the middle blues.
_INKS: tuple[Rgb, ...] = ((0, 0, 0), (255, 255, 255))


@dataclass(frozen=True)
class Shade:
    """CSS colours of a cell on a light page and on a dark one: its ground, and the text that reads well on it."""

    ground: str
    text: str
    dark_ground: str
    dark_text: str


def shade(value: float, top: float) -> Shade:
    """The shade of a value in [0, top]; whichever of black and white text has the higher contrast (WCAG 2)."""
    share = min(1.0, max(0.0, value / top))
    light, dark = _between(_LIGHT, share), _between(_DARK, share)
    return Shade(_css(light), _css(_ink(light)), _css(dark), _css(_ink(dark)))


def contrast(one: Sequence[int], other: Sequence[int]) -> float:
    """WCAG 2's contrast ratio of two sRGB colours, 1 to 21; 4.5 is what text needs."""
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def _between(anchors: Sequence[Rgb], share: float) -> Rgb:
    place = share * (len(anchors) - 1)
    low = min(int(place), len(anchors) - 2)
    return tuple(round(a + (b - a) * (place - low)) for a, b in zip(anchors[low], anchors[low + 1], strict=True))


def _ink(ground: Rgb) -> Rgb:
    return max(_INKS, key=lambda ink: contrast(ink, ground))


def _luminance(colour: Sequence[int]) -> float:
    def linear(channel: float) -> float:
        return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4

    red, green, blue = (linear(channel / 255) for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _css(colour: Sequence[int]) -> str:
    return f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"
