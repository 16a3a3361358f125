"""Writing on images, with known place: what burned-in text is tested on."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shared.pairs import Pixels

Bounds = tuple[float, float, float, float]


def written(
    image: Pixels, text: str, *, at: tuple[float, float], font_px: int, value: int = 235
) -> tuple[Pixels, Bounds]:
    """(a copy of uint8 [H, W] or [H, W, 3] with the text, its left, top, right and bottom in pixels).

    at: (x, y) of the upper left corner as shares of width and height; value: grey level of the letters.
    """
    picture = Image.fromarray(image)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=font_px)
    corner = at[0] * picture.width, at[1] * picture.height
    draw.text(corner, text, fill=value if picture.mode == "L" else (value, value, value), font=font)
    return np.asarray(picture), draw.textbbox(corner, text, font=font)
