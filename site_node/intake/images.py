"""An image or mask file -> pixels in the one form that the rest of the site works with.

Promise: the same file gives the same pixels, by rules that look at no other pixel: no stretching of contrast, no
resizing, no guess at what a value means.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import SynthwardError
from shared.pairs import Pixels
from site_node.intake.opening import IntakeLimits, open_picture
from site_node.intake.problems import shown

_BYTE_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX")
_PALETTE_MODES = ("P", "PA")
_VALUES_LISTED = 8
_COLOUR = 1 << 24  # set in the label of a palette colour, so that it is never taken for a grey level


def read_image(path: Path, limits: IntakeLimits) -> Pixels:
    """The picture: uint8 [H, W] for grey, [H, W, 3] in RGB for anything in colour, in [0, 255].

    EXIF orientation is applied. 16-bit samples lose their low byte: the file's own full range 0..65535 becomes 0..255,
    the same in every file, whatever this image's minimum and maximum are. A palette becomes its colours, or grey if
    they all are. Alpha is laid over black, so that nothing survives which no viewer shows.
    Raises SynthwardError (open_picture's; intake.constant-image).
    """
    pixels = _eight_bit(open_picture(path, limits), path)
    lowest = pixels.min(axis=(0, 1))
    if bool(np.all(lowest == pixels.max(axis=(0, 1)))):
        raise SynthwardError(
            "intake.constant-image",
            f"{shown(path)} has one value everywhere ({lowest.tolist()} of 255)",
            why="there is nothing in it to learn from; a 16-bit file whose samples use only the low byte looks so too",
            do="export the image again, or take it out together with its mask",
        )
    return pixels


def read_mask(path: Path, limits: IntakeLimits) -> Pixels:
    """The mask: uint8 [H, W], 0 background and 255 lesion.

    Takes two values of which the lower is 0 (0 and 1, 0 and 255, 0 and anything), as 1-bit, grey of any depth, RGB
    with equal channels, or a palette of black and one colour. EXIF orientation and alpha as in read_image.
    Raises SynthwardError (open_picture's; intake.mask-not-binary, intake.mask-empty, intake.mask-full).
    """
    values = _labels(open_picture(path, limits), path)
    found = [int(value) for value in np.unique(values)]
    if found == [0]:
        raise SynthwardError(
            "intake.mask-empty",
            f"{shown(path)} marks nothing: every value is 0",
            do="draw the lesion, or take the mask out together with its image",
        )
    if len(found) == 1:
        raise SynthwardError(
            "intake.mask-full",
            f"{shown(path)} marks everything: every value is {_label_name(found[0])}",
            do="draw the lesion's outline, or take the mask out together with its image",
        )
    if len(found) > 2 or found[0] != 0:
        more = f" and {len(found) - _VALUES_LISTED} more" if len(found) > _VALUES_LISTED else ""
        listed = ", ".join(_label_name(value) for value in found[:_VALUES_LISTED])
        raise SynthwardError(
            "intake.mask-not-binary",
            f"{shown(path)} has the values {listed}{more}; a mask has two, and the lower is 0",
            why="it is not clear which of them is the lesion",
            do="save the mask as PNG with 0 for background and 255 for the lesion (JPEG blurs a mask's edges)",
        )
    return np.where(values == found[1], 255, 0).astype(np.uint8)


def _eight_bit(picture: Image.Image, path: Path) -> Pixels:
    """uint8 [H, W] or [H, W, 3] of a decoded picture of any mode that has a full range."""
    mode = picture.mode
    if mode.startswith("I;16"):
        return (np.asarray(picture) >> 8).astype(np.uint8)  # as Pillow does itself with 16-bit colour
    if mode not in (*_BYTE_MODES, "CMYK", "YCbCr"):
        raise SynthwardError(
            "intake.not-an-image",
            f"{shown(path)} stores its samples as {mode!r}",
            why="such samples have no full range of their own, so every scaling to 8 bits would be a guess",
            do="export the image with 8 or 16 bits a sample, grey or RGB",
        )
    coloured = _over_black(picture)
    if mode in ("1", "L", "LA", "La") or (mode in _PALETTE_MODES and _is_grey(coloured)):
        return np.ascontiguousarray(coloured[..., 0])
    return coloured


def _labels(picture: Image.Image, path: Path) -> NDArray[np.integer]:
    """[H, W] of a mask's values: grey levels as stored, not scaled; 0 or _COLOUR | 0xRRGGBB from a coloured palette."""
    mode = picture.mode
    if mode == "I" or mode.startswith("I;16"):
        return np.asarray(picture)
    if mode not in _BYTE_MODES:
        raise SynthwardError(
            "intake.mask-not-binary",
            f"{shown(path)} stores its samples as {mode!r}, which no mask does",
            do="save the mask as PNG with 0 for background and 255 for the lesion",
        )
    coloured = _over_black(picture)
    if _is_grey(coloured):
        return coloured[..., 0]
    if mode not in _PALETTE_MODES:
        raise SynthwardError(
            "intake.mask-not-binary",
            f"{shown(path)} is a picture in colour: its red, green and blue differ",
            do="check that image and mask were not mixed up; save the mask as PNG with 0 and 255",
        )
    # By colour, not by index: a palette may list its colours in any order, and black is what people see as background.
    wide = coloured.astype(np.int32)
    packed = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    return np.where(packed == 0, 0, packed | _COLOUR)


def _over_black(picture: Image.Image) -> Pixels:
    """RGB [H, W, 3] of any 8-bit picture, with what is transparent laid over black."""
    if not picture.has_transparency_data:
        return np.asarray(picture.convert("RGB"))
    seen = picture.convert("RGBA")
    ground = Image.new("RGBA", seen.size, (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(ground, seen).convert("RGB"))


def _is_grey(coloured: Pixels) -> bool:
    red, green, blue = coloured[..., 0], coloured[..., 1], coloured[..., 2]
    return bool(np.array_equal(red, green) and np.array_equal(green, blue))


def _label_name(value: int) -> str:
    return str(value) if value < _COLOUR else f"#{value & (_COLOUR - 1):06x}"
