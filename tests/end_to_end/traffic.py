"""Looks for real images in what sites sent: every image in the bytes is decoded and compared; raw pixels are sought.

Written apart from the screening on purpose: it must not share a mistake with what it checks.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"RIFF")
_SIDE_PX = 64
Array = NDArray[np.float64]


def images_in(data: bytes) -> Iterator[Image.Image]:
    """Every image that starts anywhere in data, decoded."""
    for start in _STARTS:
        position = data.find(start)
        while position >= 0:
            image = _decoded(data[position : position + 4_000_000])
            if image is not None:
                yield image
            position = data.find(start, position + 1)


def _decoded(data: bytes) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
    except Exception:  # noqa: BLE001 - most places that look like a start are none
        return None
    return image


def correlation(one: Image.Image, other: Image.Image) -> float:
    """The largest correlation of two grey images over the eight turns and mirrors."""
    a, b = (np.asarray(i.convert("L").resize((_SIDE_PX, _SIDE_PX)), dtype=np.float64) for i in (one, other))
    positions = [np.rot90(m, k) for m in (a, np.fliplr(a)) for k in range(4)]
    if a.std() < 1e-6 or b.std() < 1e-6:
        return 0.0
    return max(float(np.corrcoef(p.ravel(), b.ravel())[0, 1]) for p in positions)


def copies(data: bytes, real: Sequence[Path], *, limit: float) -> list[tuple[Path, float]]:
    """(real image, correlation) of each real image that some image in data equals or nearly equals."""
    found = list(images_in(data))
    worst = []
    for path in real:
        with Image.open(path) as image:
            nearest = max((correlation(sent, image) for sent in found), default=0.0)
        if nearest > limit:
            worst.append((path, nearest))
    return worst


def raw_pixels(data: bytes, real: Sequence[Path]) -> list[Path]:
    """Real images of which a row's pixels stand in data uncompressed, as bytes or as floats in usual ranges."""
    hits = []
    for path in real:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        middle = pixels[pixels.shape[0] // 2]
        scaled = middle.astype(np.float32) / np.float32(255)
        spellings = [middle.tobytes(), *(middle[:, c].tobytes() for c in range(3))]
        for floats in (scaled, scaled * 2 - 1):
            spellings += [floats.tobytes(), *(np.ascontiguousarray(floats[:, c]).tobytes() for c in range(3))]
        # A row of one colour (a black frame) stands everywhere.
        if len(np.unique(middle)) > 8 and any(spelling in data for spelling in spellings):
            hits.append(path)
    return hits
