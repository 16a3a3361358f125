"""One file of the hospital's -> a decoded picture that stands upright, or a refusal that says what to do.

Promise: what comes back is the whole picture as a viewer shows it, nothing filled up. Its size is checked on the
header, before a pixel is decoded. Never here: any format or decoder beyond the four that are named.

Known limit: a JPEG whose damage was closed again with a proper end marker decodes without complaint.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps, UnidentifiedImageError

from shared.errors import SynthwardError
from site_node.intake.png_length import png_is_complete
from site_node.intake.problems import shown

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*")


@dataclass(frozen=True)
class IntakeLimits:
    """max_pixels: width x height as the header states them (Pillow's own limit of 89 megapixels holds besides);
    min_side_px: the shorter side."""

    max_pixels: int = 4096 * 4096
    min_side_px: int = 32


def open_picture(path: Path, limits: IntakeLimits) -> Image.Image:
    """The decoded picture in the mode that its file has, EXIF orientation applied; no file stays open.

    Raises SynthwardError (intake.folder-unreadable, intake.not-an-image, intake.truncated, intake.too-large,
    intake.too-small).
    """
    name = shown(path)
    head = b""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata; what matters raises
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            head = file.read(4)
            file.seek(0)
            with Image.open(file, formats=_FORMATS) as picture:
                _check_size(picture.size, name, limits)
                _check_whole(picture, file, name)
                picture.load()
                return ImageOps.exif_transpose(picture)
    except (SynthwardError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, "more pixels than can be decoded safely", limits) from error
    except Exception as error:  # a decoder may raise anything on damaged bytes
        if isinstance(error, OSError) and error.errno is not None:
            raise SynthwardError(
                "intake.folder-unreadable",
                f"{name} cannot be read ({error.strerror})",
                do="give the account that runs synthward-site the right to read it",
            ) from error
        if isinstance(error, UnidentifiedImageError) and head and not head.startswith(_SIGNATURES):
            raise SynthwardError(
                "intake.not-an-image",
                f"{name} is not a PNG, JPEG, BMP or TIFF, whatever its name ends in",
                do="export it again as PNG, or take it out of the folder",
            ) from error
        raise _truncated(name) from error


def _check_size(size: tuple[int, int], name: str, limits: IntakeLimits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise _too_large(name, f"{width} x {height} pixels", limits)
    if min(width, height) < limits.min_side_px:
        raise SynthwardError(
            "intake.too-small",
            f"{name} has {width} x {height} pixels; the shorter side must have at least {limits.min_side_px}",
            do="export the original instead of a thumbnail, or take the pair out",
        )


def _check_whole(picture: Image.Image, file: BinaryIO, name: str) -> None:
    if picture.format == "PNG":
        position = file.tell()
        if not png_is_complete(file):
            raise _truncated(name)
        file.seek(position)  # Pillow goes on reading where its header ended
    # A JPEG with a preview (MPO) has its picture first; pages of a TIFF or an animation are pictures of their own.
    if picture.format in ("PNG", "TIFF") and getattr(picture, "n_frames", 1) != 1:
        raise SynthwardError(
            "intake.not-an-image",
            f"{name} holds several pages or frames; a case is one image",
            do="save each page as a file of its own, with a mask of its own",
        )


def _too_large(name: str, size: str, limits: IntakeLimits) -> SynthwardError:
    return SynthwardError(
        "intake.too-large",
        f"{name} states {size}; this site accepts {limits.max_pixels} in all",
        why="it was refused from its header, before anything was decoded",
        do="export it smaller; what a camera or scanner makes is well under the limit",
    )


def _truncated(name: str) -> SynthwardError:
    return SynthwardError(
        "intake.truncated",
        f"{name} ends too early or is damaged",
        why="the part that is missing would count as background",
        do="copy or export it again, and compare the file's size with the original's",
    )
