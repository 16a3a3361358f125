"""8-bit sRGB <-> CIE L*a*b*: the space in which a distance between colours is roughly what people see.

sRGB as IEC 61966-2-1 defines it, L*a*b* of CIE 1976 under the white D65. Grey has L* alone. Every 8-bit colour comes
back exactly once it is rounded; colours outside sRGB are cut to its borders.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pixels

Floats = NDArray[np.float64]

# Linear sRGB -> XYZ (IEC 61966-2-1), and the white that R = G = B = 1 gives.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = _TO_XYZ.sum(axis=1)
_FROM_XYZ = np.linalg.inv(_TO_XYZ)
# L* = 116 f(Y) - 16, a* = 500 (f(X) - f(Y)), b* = 200 (f(Y) - f(Z))
_TO_LAB = np.array([[0.0, 116.0, 0.0], [500.0, -500.0, 0.0], [0.0, 200.0, -200.0]])
_FROM_LAB = np.linalg.inv(_TO_LAB)
_BEND = 6.0 / 29.0  # where the cube root gives way to a line, so that black has a finite slope


def to_lab(image: Pixels) -> Floats:
    """uint8 [H, W, 3] -> float64 [H, W, 3] of L*, a*, b*; uint8 [H, W] -> [H, W, 1] of L*. L* is in [0, 100]."""
    linear = _LINEAR[image]
    if image.ndim == 2:
        grey: Floats = 116.0 * _root(linear)[:, :, None] - 16.0  # [H, W] -> [H, W, 1]
        return grey
    lab: Floats = _root(linear @ _TO_XYZ.T / _WHITE) @ _TO_LAB.T - np.array([16.0, 0.0, 0.0])
    return lab


def from_lab(lab: Floats) -> Floats:
    """[H, W, 3] or [H, W, 1] as to_lab gives them -> float64 [H, W, 3] or [H, W] in [0, 255], not rounded."""
    if lab.shape[2] == 1:
        return 255.0 * _encoded(_cube((lab[:, :, 0] + 16.0) / 116.0))  # [H, W, 1] -> [H, W]
    xyz = _cube((lab + np.array([16.0, 0.0, 0.0])) @ _FROM_LAB.T) * _WHITE
    return 255.0 * _encoded(xyz @ _FROM_XYZ.T)


def _root(t: Floats) -> Floats:
    root: Floats = np.where(t > _BEND**3, np.cbrt(t), t / (3 * _BEND**2) + 4.0 / 29.0)
    return root


def _cube(f: Floats) -> Floats:
    cube: Floats = np.where(f > _BEND, f**3, 3 * _BEND**2 * (f - 4.0 / 29.0))
    return cube


def _encoded(linear: Floats) -> Floats:
    """Linear light -> sRGB's curve, both in [0, 1]."""
    light = linear.clip(0.0, 1.0)
    encoded: Floats = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1.0 / 2.4) - 0.055)
    return encoded


def _linear(encoded: Floats) -> Floats:
    light: Floats = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return light


_LINEAR = _linear(np.arange(256) / 255.0)  # 8 bits have 256 values: no need to raise each pixel to a power
