"""A drawing of a colon through an endoscope: wall, folds, lumen, vessels, and one polyp, which is the mask."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from site_node.phantoms.drawing import Character, Field, blur, branch, grid, outline, smooth_noise, tinted


@dataclass(frozen=True)
class Scope:
    """What one hospital's endoscope does to every picture."""

    tissue: tuple[float, float, float]  # RGB of lit mucosa
    share: tuple[float, float]  # of the picture that a polyp takes: its least and its most
    octagon: bool  # the field of view: an octagon with sharp edges, or a soft circle
    vignette: float  # how much darker the rim of the field is
    contrast: float
    sharpness: float  # gain of an unsharp mask; below 0 blurs
    noise: float  # standard deviation of the sensor's noise
    cast: tuple[float, float, float]  # RGB gain of the white balance


SCOPES = {
    "endoscopy_warm": Scope((0.90, 0.50, 0.34), (0.07, 0.25), False, 0.55, 1.18, 0.7, 0.008, (1.04, 0.98, 0.90)),
    "endoscopy_cool": Scope((0.84, 0.60, 0.54), (0.03, 0.15), True, 0.25, 0.92, -0.4, 0.020, (0.95, 1.00, 1.08)),
}


def endoscopy(scope: Scope, who: Character, rng: np.random.Generator, side: int) -> tuple[Field, Field]:
    """RGB [S, S, 3] and the polyp's inside [S, S] as 0 and 1: a colon's wall, its folds and lumen, one polyp on it."""
    x, y = grid(side)
    share = float(np.clip(who.share * rng.uniform(0.75, 1.3), *scope.share))
    turn = rng.uniform(0.0, 2 * math.pi)
    squeeze = rng.uniform(0.78, 1.0)  # seen from the side
    reach = 1.45 * math.sqrt(4 * share / math.pi)
    away, bearing = max(0.0, 0.98 - reach) * math.sqrt(rng.uniform()), rng.uniform(0.0, 2 * math.pi)
    centre = away * math.cos(bearing), away * math.sin(bearing)
    rho = outline(x, y, centre, share, who, turn, squeeze)
    inside = (rho < 1.0).astype(np.float64)

    # The lumen lies away from the polyp, which sits on the wall.
    bearing += math.pi + rng.normal(0.0, 0.5)
    off = rng.uniform(0.35, 1.25)
    light, crest, depth = _folds(x, y, (off * math.cos(bearing), off * math.sin(bearing)), rng, side)
    mottle = 0.6 * smooth_noise(rng, side, 5) + 0.3 * smooth_noise(rng, side, 12)
    light *= 1.0 + 0.05 * mottle

    lamp = np.array([-0.45 * math.cos(bearing - math.pi), -0.35 - 0.2 * rng.uniform(), 1.0])
    lamp /= np.linalg.norm(lamp)
    radius = math.sqrt(4 * share / math.pi)
    shifted = outline(x + 0.35 * radius * lamp[0], y + 0.35 * radius * lamp[1], centre, share, who, turn, squeeze)
    shadow = blur((shifted < 1.04).astype(np.float64), 0.10 * radius * side / 2) * (1 - inside)
    lee = np.clip(0.5 - ((x - centre[0]) * lamp[0] + (y - centre[1]) * lamp[1]) / radius, 0.0, 1.0)
    crease = np.exp(-(((np.maximum(rho, 1.0) - 1.0) / 0.10) ** 2)) * (1 - inside) * lee
    light *= (1 - 0.50 * shadow) * (1 - 0.35 * crease)

    bumps, pits = smooth_noise(rng, side, max(4, int(3.2 / radius))), smooth_noise(rng, side, int(side / 5))
    normal = _dome(rho, radius, who, bumps, side)
    ground = float(light[(rho > 1.15) & (rho < 1.7)].mean())  # the polyp is as well lit as the wall that it sits on
    body = (0.30 + 0.78 * _towards(normal, lamp)) * max(0.70, min(1.05, 1.25 * ground))
    body *= 1.0 + who.roughness * (0.05 * pits + 0.05 * bumps)

    edge = blur(inside, 0.6)
    vessels = _vessels(rng, side, who.vessels) * (1 - 0.85 * edge) * np.clip(depth * 1.4, 0.0, 1.0)
    tissue = np.array(scope.tissue) * who.tint
    wall = tinted(light, tissue) * (1 + 0.05 * mottle[..., None] * np.array([0.2, 1.0, 0.9]))
    wall *= 1 - vessels[..., None] * np.array([0.22, 0.48, 0.42])
    polyp = tinted(body, tissue * who.lesion_tint)
    polyp *= 1 - who.roughness * 0.22 * np.clip(pits - 0.6, 0.0, 1.0)[..., None] * np.array([0.4, 1.0, 0.9])
    colours = wall * (1 - edge[..., None]) + polyp * edge[..., None]
    shine = _highlights(rng, side, crest * (1 - edge) * depth) + _glare(normal, lamp, rho, bumps)
    colours += (1 - colours) * np.clip(shine, 0.0, 1.0)[..., None] * np.array([1.0, 0.99, 0.95])
    return colours * _field_of_view(x, y, scope)[..., None], inside


def _folds(
    x: Field, y: Field, lumen: tuple[float, float], rng: np.random.Generator, side: int
) -> tuple[Field, Field, Field]:
    """(light, crest, depth), each [S, S]: haustral folds around the lumen, each hiding a strip of wall behind it.

    Outwards from the lumen, the recess behind a fold is dark, then the fold's crest is suddenly bright, and the wall
    before it fades until the next recess: a saw's tooth in the logarithm of the distance, as perspective has it.
    """
    dx, dy = x - lumen[0], y - lumen[1]
    angle = np.arctan2(dy, dx)
    lobed = 1.0 + 0.14 * np.cos(3 * angle + rng.uniform(0, 6.3)) + 0.09 * np.cos(2 * angle + rng.uniform(0, 6.3))
    distance = np.hypot(dx, dy) * lobed + 0.03
    warp = 0.15 * smooth_noise(rng, side, 3) + 0.04 * smooth_noise(rng, side, 7)
    phase = rng.uniform(1.6, 3.6) * np.log(distance) + warp + rng.uniform()
    tooth = phase - np.floor(phase)
    # No fold goes all the way round, and each ends elsewhere.
    ring = np.floor(phase)
    presence = np.clip(0.6 + 0.5 * np.cos(angle * (1 + np.mod(ring, 2)) + 2.4 * ring + rng.uniform(0, 6.3)), 0.0, 1.0)
    crest = np.exp(-(((tooth - 0.13) / 0.13) ** 2)) * presence
    recess = np.clip((tooth - 0.45) / 0.55, 0.0, 1.0) ** 2 * presence
    depth = np.clip((distance - 0.10) / 0.62, 0.0, 1.0)
    depth = depth * depth * (3 - 2 * depth)
    near = np.clip(distance - 0.9, 0.0, 1.5)  # the wall beside the lens is the brightest
    light = (0.07 + 0.70 * depth + 0.16 * near) * (1 + 0.22 * crest - 0.55 * recess)
    return blur(light, 0.006 * side + 0.4), crest, depth


def _vessels(rng: np.random.Generator, side: int, count: int) -> Field:
    """[S, S]: thin branching vessels that enter from anywhere."""
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for _ in range(count):
        start = rng.uniform(-1.0, 1.0), rng.uniform(-1.0, 1.0)
        heading, bend = rng.uniform(0.0, 2 * math.pi), rng.normal(0.0, 0.8)
        branch(draw, rng, start, heading, bend, rng.uniform(0.5, 1.1), 0.009 * side, side, 3)
    return blur(np.asarray(canvas) / 255.0, 0.7)


def _dome(rho: Field, radius: float, who: Character, bumps: Field, side: int) -> Field:
    """Unit normals [S, S, 3] of a polyp's surface: a dome over its outline, uneven by its roughness."""
    height = who.height * radius * np.clip(1.0 - rho**2.2, 0.0, 1.0) ** 0.62
    height += 0.05 * radius * who.roughness * bumps * (rho < 1.0)
    height = blur(height, 0.02 * side * radius + 0.5)
    slope_y, slope_x = np.gradient(height, 2.0 / side)
    normal = np.stack([-slope_x, -slope_y, np.ones_like(height)], axis=-1)
    return np.asarray(normal / np.linalg.norm(normal, axis=-1, keepdims=True))


def _towards(normal: Field, direction: Field) -> Field:
    """[S, S] cosine in [0, 1] between normals [S, S, 3] and a unit vector [3]."""
    cosine = normal[..., 0] * direction[0] + normal[..., 1] * direction[1] + normal[..., 2] * direction[2]
    return np.asarray(np.clip(cosine, 0.0, 1.0))


def _glare(normal: Field, lamp: Field, rho: Field, bumps: Field) -> Field:
    """The lamp's own reflection on the wet dome: small, white, with a ragged edge."""
    half = lamp + np.array([0.0, 0.0, 1.0])
    mirror = _towards(normal, half / np.linalg.norm(half))
    return np.clip((mirror - 0.982 - 0.006 * bumps) / 0.008, 0.0, 0.95) * (rho < 0.92)


def _highlights(rng: np.random.Generator, side: int, wet: Field) -> Field:
    """[S, S]: some glints on the wall, most where a fold's crest faces the lamp."""
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    weights = (wet + 0.02).ravel()
    for spot in rng.choice(side * side, size=int(rng.integers(4, 15)), p=weights / weights.sum()):
        row, column = divmod(int(spot), side)
        reach, lean = side * rng.uniform(0.004, 0.022), rng.uniform(0.0, math.pi)
        ends = (column, row, column + reach * math.cos(lean), row + reach * math.sin(lean))
        draw.line(ends, fill=int(rng.integers(150, 256)), width=int(rng.integers(1, 2 + side // 64)))
    return blur(np.asarray(canvas) / 255.0, 0.006 * side)


def _field_of_view(x: Field, y: Field, scope: Scope) -> Field:
    """[S, S] gain: black outside the scope's field, darker towards its rim."""
    if scope.octagon:
        gap = np.minimum(0.97 - np.maximum(np.abs(x), np.abs(y)), (1.50 - np.abs(x) - np.abs(y)) / math.sqrt(2))
        field = np.clip(gap / 0.02, 0.0, 1.0)
    else:
        field = np.clip((1.10 - np.hypot(x, y)) / 0.07, 0.0, 1.0)
    return np.asarray(field * (1 - scope.vignette * np.clip(np.hypot(x, y), 0.0, 1.3) ** 2.5 / 1.3))


def camera(scope: Scope, colours: Field, rng: np.random.Generator) -> Field:
    """RGB [H, W, 3] as the scope's electronics give it: white balance, contrast, sharpness, noise."""
    lit = np.clip(colours * np.array(scope.cast), 0.0, 1.0)
    lit = lit + (scope.contrast - 1.0) * (lit - 0.45) * np.clip(lit * 4, 0.0, 1.0)  # black stays black
    soft = np.stack([blur(lit[..., channel], 0.8) for channel in range(3)], axis=-1)
    sharp = lit + scope.sharpness * (lit - soft)
    grain = rng.normal(0.0, scope.noise, lit.shape) * np.clip(0.25 + lit, 0.0, 1.0)
    return np.asarray(sharp + grain)
