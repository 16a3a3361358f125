"""What the phantom scenes are drawn with: noise, blur, light, outlines and vessels, on a square grid.

Everything is a plain array on x, y in [-1, 1] (y down), colours in [0, 1], and depends on its arguments alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Field = NDArray[np.float64]  # [S, S], or [S, S, 3] in RGB


@dataclass(frozen=True)
class Character:
    """What stays the same in all pictures of one patient."""

    tint: Field  # [3] gain on the tissue's colour
    lesion_tint: Field  # [3] gain of the lesion over the tissue
    share: float  # of the picture, at middle distance
    lobes: Field  # [5] amplitudes of the outline's Fourier modes 2..6
    phases: Field  # [5] and their phases in radians
    height: float  # of the bump, in its radii
    roughness: float  # of the lesion's surface
    vessels: int  # how many enter the picture


def grid(side: int) -> tuple[Field, Field]:
    """x and y of every pixel's centre, each [S, S]."""
    line = (np.arange(side) + 0.5) * 2 / side - 1
    return np.broadcast_to(line[None, :], (side, side)), np.broadcast_to(line[:, None], (side, side))


def outline(
    x: Field, y: Field, centre: tuple[float, float], share: float, who: Character, turn: float, squeeze: float
) -> Field:
    """[S, S]: distance from the lesion's centre in radii of its outline, so that 1 is the outline.

    The outline is r(angle) = R (1 + sum of lobes_k cos(k angle + phase_k), k = 2..6), squeezed along one axis, with R
    such that it encloses `share` of the square.
    """
    area = math.pi * (1 + 0.5 * float((who.lobes**2).sum())) * squeeze  # of the outline with R = 1
    scale = math.sqrt(4 * share / area)
    cos, sin = math.cos(turn), math.sin(turn)
    along = ((x - centre[0]) * cos + (y - centre[1]) * sin) / scale
    across = (-(x - centre[0]) * sin + (y - centre[1]) * cos) / (scale * squeeze)
    angle = np.arctan2(across, along)
    once = np.exp(1j * angle)
    turned, bound = once, np.ones_like(along)
    for lobe, phase in zip(who.lobes, who.phases, strict=True):
        turned = turned * once
        bound += lobe * (turned.real * math.cos(phase) - turned.imag * math.sin(phase))
    return np.asarray(np.hypot(along, across) / bound)


def tinted(light: Field, colour: Field) -> Field:
    """RGB [S, S, 3] of tissue [3] under light [S, S]: shade is redder, because blood takes green and blue."""
    shade = np.clip(light, 1e-3, None)[..., None] ** np.array([0.88, 1.14, 1.20])
    return np.asarray(np.clip(shade * colour, 0.0, None) * 1.12)


def branch(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    start: tuple[float, float],
    heading: float,
    bend: float,
    length: float,
    width_px: float,
    side: int,
    forks: int,
) -> None:
    """Draws one vessel, thinner as it goes, and its forks. start, length in units of x, y; bend in radians a unit."""
    step = 0.07
    x, y = start
    steps = max(2, int(length / step))
    fork_at = set(rng.integers(steps // 3, steps, size=2).tolist()) if forks > 1 else set()
    for number in range(steps):
        heading += bend * step + rng.normal(0.0, 0.13)
        ahead = x + step * math.cos(heading), y + step * math.sin(heading)
        width = max(1.0, width_px * (1 - 0.6 * number / steps))
        ends = [((end + 1) * side / 2) for end in (x, y, *ahead)]
        draw.line(ends, fill=int(255 * min(1.0, 0.35 + 0.25 * width)), width=round(width))
        x, y = ahead
        if number in fork_at:
            turned = heading + rng.choice((-1.0, 1.0)) * rng.uniform(0.5, 0.9)
            branch(draw, rng, (x, y), turned, bend * 0.5, 0.55 * length, 0.65 * width, side, forks - 1)


def smooth_noise(rng: np.random.Generator, side: int, cells: int) -> Field:
    """[S, S]: noise of about unit deviation, with as many waves across as there are cells."""
    coarse = Image.fromarray(rng.normal(0.0, 1.3, (cells + 2, cells + 2)).astype(np.float32))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)).astype(np.float64)


def blur(field: Field, sigma_px: float) -> Field:
    """The field [S, S] under a Gaussian cut at three deviations, its border repeated.

    Summed tap by tap: a matrix product would be shorter, but its order of summation changes with the threads.
    """
    reach = max(1, math.ceil(3 * sigma_px))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_px) ** 2)
    taps /= taps.sum()
    side = field.shape[0]
    for axis in (0, 1):
        padded = np.pad(field, [(reach, reach) if axis == other else (0, 0) for other in (0, 1)], mode="edge")
        windows = (padded[at : at + side] if axis == 0 else padded[:, at : at + side] for at in range(len(taps)))
        field = np.asarray(sum(tap * window for tap, window in zip(taps, windows, strict=True)))
    return field
