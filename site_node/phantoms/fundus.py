"""A drawing of a retina through a fundus camera: vessels, macula, and the optic disc, which is the mask."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from site_node.phantoms.drawing import Character, Field, blur, branch, grid, outline, smooth_noise, tinted


def fundus(who: Character, rng: np.random.Generator, side: int) -> tuple[Field, Field]:
    """RGB [S, S, 3] and the optic disc's inside [S, S] as 0 and 1: a retina through a round stop."""
    x, y = grid(side)
    eye = float(rng.choice((-1.0, 1.0)))  # left or right
    share = float(np.clip(who.share * rng.uniform(0.9, 1.15), 0.03, 0.25))
    centre = eye * rng.uniform(0.30, 0.48), rng.uniform(-0.20, 0.20)
    turn = rng.uniform(-0.2, 0.2)
    rho = outline(x, y, centre, share, who, turn, rng.uniform(0.86, 1.0))
    inside = (rho < 1.0).astype(np.float64)
    macula = centre[0] - eye * rng.uniform(0.72, 0.84), centre[1] + rng.uniform(0.02, 0.12)

    choroid = 0.5 * smooth_noise(rng, side, 6) + 0.35 * smooth_noise(rng, side, 14)
    spot = np.exp(-((x - macula[0]) ** 2 + (y - macula[1]) ** 2) / 0.035)
    light = (0.92 - 0.30 * np.hypot(x, y) ** 2) * (1 + 0.06 * choroid) * (1 - 0.45 * spot)
    light *= 1 + rng.uniform(-0.15, 0.15) * x + rng.uniform(-0.15, 0.15) * y
    colours = tinted(light, np.array([0.84, 0.40, 0.17]) * who.tint)

    ragged = np.exp(-(((np.maximum(rho, 1.0) - 1.0) / (0.10 + 0.06 * np.clip(choroid, -1, 2))) ** 2)) * (1 - inside)
    edge = blur(inside, 0.8)
    colours += (1 - colours) * ragged[..., None] * np.array([0.55, 0.50, 0.30])
    cup = np.exp(-((rho / rng.uniform(0.40, 0.62)) ** 4))
    disc = (0.90 + 0.10 * cup + 0.03 * choroid)[..., None] * np.array([1.0, 0.78, 0.46])
    disc += cup[..., None] * np.array([0.0, 0.14, 0.26])
    colours = colours * (1 - edge[..., None]) + disc * edge[..., None]
    tree = _arcades(rng, side, centre, macula, eye)
    colours *= 1 - tree[..., None] * np.array([0.38, 0.68, 0.60])
    field = np.clip((0.96 - np.hypot(x, y)) / 0.03, 0.0, 1.0)
    colours = colours * field[..., None] + rng.normal(0.0, 0.012, colours.shape) * field[..., None]
    return colours, inside


def _arcades(
    rng: np.random.Generator,
    side: int,
    disc: tuple[float, float],
    macula: tuple[float, float],
    eye: float,
) -> Field:
    """[S, S]: arteries and veins out of the disc, the large ones in arcs above and below the macula.

    disc, macula: centres in x, y; eye: 1 where the disc lies right of the macula, -1 where it lies left of it.
    """
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    to_macula = math.atan2(macula[1] - disc[1], macula[0] - disc[0])
    for up in (-1.0, 1.0):
        for lane in (0.0, 0.16):  # artery and vein run side by side
            start = to_macula + eye * up * rng.uniform(1.15, 1.45) + lane
            bend = -eye * up * rng.uniform(0.9, 1.3)
            branch(draw, rng, disc, start, bend, 1.5, (0.017 if lane else 0.012) * side, side, 3)
            nasal = to_macula + math.pi + up * rng.uniform(0.35, 0.95)
            branch(draw, rng, disc, nasal, rng.normal(0.0, 0.3), 0.9, 0.010 * side, side, 2)
    return blur(np.asarray(canvas) / 255.0, 0.5)
