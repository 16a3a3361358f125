"""The plots of a review: inline SVG that needs no script, no font and no colour.

Samples are a filled shape, real images of different patients a hatched one with a dashed edge, a limit is a line with
its name. Colours come from the page's style sheet, so that a dark page gets a dark plot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from site_node.screening.report import Histogram, Share

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, _TOP = 640, 210, 46, 20, 44, 26
_ROW_WIDTH, _ROW_HEIGHT, _ROW_PAD = 170, 24, 9


def nearness_plot(histogram: Histogram, limit: float, *, name: str) -> Markup:
    """Samples and hold-out images over their nearness to training images, each as shares of its own number.

    name: unique on the page; it names the hatching.
    """
    low, high = min(_lowest(histogram), limit), max(histogram.edges[-1], limit)
    span = high - low or 1.0
    shares = [_shares(histogram.samples), _shares(histogram.between_patients)]
    top = max([0.1, *shares[0], *shares[1]])

    def x(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - low) / span

    def y(share: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * share / top

    hatch = f"hatch-{name}"
    parts = [
        Markup(
            '<defs><pattern id="{}" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
            '<line x1="0" x2="0" y1="0" y2="6" class="hatch"/></pattern></defs>'
        ).format(hatch)
    ]
    for share in _ticks(top):
        parts.append(
            Markup('<line x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}" class="grid"/>').format(
                _LEFT, _WIDTH - _RIGHT, y(share), y(share)
            )
            + Markup('<text x="{}" y="{:.1f}" text-anchor="end">{:.0f} %</text>').format(
                _LEFT - 6, y(share) + 4, 100 * share
            )
        )
    for value in [low + span * part / 4 for part in range(5)]:
        parts.append(
            Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{:.2f}</text>').format(
                x(value), _HEIGHT - _BOTTOM + 17, value
            )
        )
    parts.append(
        Markup(
            '<text x="{}" y="{}" text-anchor="middle">nearness to a real training image (right: nearer)</text>'
        ).format((_WIDTH + _LEFT - _RIGHT) // 2, _HEIGHT - 8)
    )
    for kind, values in (("samples", shares[0]), ("patients", shares[1])):
        corners = [f"{x(low):.1f},{y(0):.1f}"]
        for left, right, share in zip(histogram.edges, histogram.edges[1:], values, strict=False):
            if left < low:
                continue
            corners += [f"{x(left):.1f},{y(share):.1f}", f"{x(right):.1f},{y(share):.1f}"]
        corners.append(f"{x(histogram.edges[-1]):.1f},{y(0):.1f}")
        fill = Markup(' fill="url(#{})"').format(hatch) if kind == "patients" else ""
        parts.append(Markup('<polygon points="{}" class="{}"{}/>').format(" ".join(corners), kind, fill))
    place, near_right = x(limit), limit > low + 0.8 * span
    parts.append(
        Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2:.1f}" class="limit"/>').format(place, 14, y(0))
        + Markup('<text x="{:.1f}" y="11" text-anchor="{}" class="limit">limit {:.3f}</text>').format(
            place, "end" if near_right else "middle", limit
        )
    )
    return Markup('<svg class="nearness" viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
        _WIDTH, _HEIGHT, Markup("").join(parts)
    )


def share_plot(found: Share, floor: float, beside: Share) -> Markup:
    """A row on a scale from 0 to 1: the share found as a dot on its interval, the floor as a tick, the other method as
    a hollow diamond."""

    def x(value: float) -> float:
        return _ROW_PAD + (_ROW_WIDTH - 2 * _ROW_PAD) * value

    middle = _ROW_HEIGHT // 2
    parts = [
        Markup('<line x1="{}" x2="{}" y1="{}" y2="{}" class="grid"/>').format(x(0), x(1), middle, middle),
        Markup('<line x1="{0:.1f}" x2="{0:.1f}" y1="2" y2="{1}" class="limit"/>').format(x(floor), _ROW_HEIGHT - 2),
        Markup('<line x1="{:.1f}" x2="{:.1f}" y1="{}" y2="{}" class="range"/>').format(
            x(found.low), x(found.high), middle, middle
        ),
    ]
    if beside.n:
        parts.append(
            Markup('<path d="M{:.1f} {}l5 5-5 5-5-5z" class="beside"/>').format(x(beside.k / beside.n), middle - 5)
        )
    if found.n:
        parts.append(Markup('<circle cx="{:.1f}" cy="{}" r="4.5" class="dot"/>').format(x(found.k / found.n), middle))
    return Markup(
        '<svg class="share" width="{0}" height="{1}" viewBox="0 0 {0} {1}" aria-hidden="true">{2}</svg>'
    ).format(_ROW_WIDTH, _ROW_HEIGHT, Markup("").join(parts))


def _lowest(histogram: Histogram) -> float:
    """The edge at which the plot begins: one empty bar before the first that is not."""
    counts = zip(histogram.samples, histogram.between_patients, strict=True)
    filled = [place for place, both in enumerate(counts) if any(both)]
    return histogram.edges[max(0, filled[0] - 1) if filled else 0]


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _ticks(top: float) -> list[float]:
    """Two to five round shares from 0 up to top."""
    step = next(s for s in (0.05, 0.1, 0.2, 0.25, 0.5) if top / s < 5 or s == 0.5)
    return [step * place for place in range(math.floor(top / step + 1e-9) + 1)]
