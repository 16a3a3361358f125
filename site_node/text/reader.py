"""What text is in an image: lines that were burned in, such as a date, a counter, a name, a side.

Detector and recogniser are PP-OCR networks that lie in the installed package rapidocr (Apache-2.0), run by onnxruntime.
Promise: no network is used, nothing is downloaded, written or logged, and with one thread the same image gives the
same lines. What is read never leaves this machine: it may be a patient's.

Known limits: mirrored writing, handwriting, and letters under about 4 pixels are often missed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from shared.errors import SynthwardError
from shared.pairs import Pixels

LEAST_SIDE_PX = 32  # of an image that is read; a narrower one has no room for a line
# A small image is enlarged twice for reading, with its longer side between these. Measured on real frames of 256 px
# (512 finds more than 384) and on drawn letters of 3 to 6 px (in 64 and in 128 px, 256 finds as many as 512, for a
# quarter of the time). A larger image is read as it is, in windows, and one past _READ_AT_MOST_PX is reduced to it.
LEAST_READ_PX = 256
READ_SIDE_PX = 512
_READ_AT_MOST_PX = 2048
_WINDOW_PX = 896
_OVERLAP_PX = 128
# Strokes are thinner than this on the scale of READ_SIDE_PX, and what they are drawn on is not.
_STROKE_PX = 13
# What counts as text: (least number of letters and digits, least confidence). A single letter is what a round lesion, a
# glint or a fold is read as, with confidence up to 0.99; two letters come from tissue with up to 0.86.
TEXT_IS = ((3, 0.4), (2, 0.9))
_DETECTOR, _RECOGNISER = "PP-OCRv6_det_small.onnx", "PP-OCRv6_rec_small.onnx"


@dataclass(frozen=True)
class TextLine:
    """corners: (x, y) in pixels of the image, clockwise from the text's upper left; confidence in [0, 1]."""

    corners: tuple[tuple[float, float], ...]
    text: str
    confidence: float

    @property
    def height_px(self) -> float:
        """The length of the side that runs across the line."""
        (x0, y0), _, _, (x3, y3) = self.corners
        return float(np.hypot(x3 - x0, y3 - y0))

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """(left, top, right, bottom) in pixels."""
        xs, ys = zip(*self.corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


class TextReader:
    """Reads text in images, one at a time. The first in a process takes 0.6 s to make; the networks are kept."""

    def __init__(self, *, threads: int = 1) -> None:
        """threads: of the processor, for each of both networks.

        Raises SynthwardError (text.models-missing) where the installed package lacks its networks.
        """
        self._engine = _engine(*_networks(), threads)

    def lines(self, image: Pixels) -> list[TextLine]:
        """The lines of text in uint8 [H, W] or [H, W, 3] (RGB), from top to bottom; sides of 32 pixels and more.

        Reads twice, as it is and with its strokes brought out: each finds lines that the other misses.
        """
        found: list[TextLine] = []
        for view in (_as_it_is, _strokes):
            found += [line for line in self._lines(image, view) if not any(_same(line, known) for known in found)]
        return sorted(found, key=lambda line: line.bounds[1::-1])

    def has_text(self, image: Pixels) -> bool:
        """Whether there is text in it. Reads once, with strokes brought out, in half of the time of `lines`."""
        return bool(self._lines(image, _strokes))

    def _lines(self, image: Pixels, view: Callable[[Pixels], Pixels]) -> list[TextLine]:
        """The lines in one view of an image."""
        height, width = _checked(image)
        colour = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR if image.ndim == 2 else cv2.COLOR_RGB2BGR), np.uint8)
        scale = _scale(min(height, width), max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        if scale != 1:
            how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
            colour = np.asarray(cv2.resize(colour, size, interpolation=how), np.uint8)
        seen = view(colour)
        found: list[TextLine] = []
        for top, left in _windows(size[1], size[0]):
            window = np.ascontiguousarray(seen[top : top + _WINDOW_PX, left : left + _WINDOW_PX])
            for corners, text, confidence in self._read(window):
                moved = (corners + np.array([left, top])) * (width / size[0], height / size[1])  # [4, 2]
                moved = np.clip(moved, 0, (width, height))
                line = TextLine(tuple((float(x), float(y)) for x, y in moved), text, confidence)
                if not any(_same(line, other) for other in found):
                    found.append(line)
        return found

    def _read(self, window: Pixels) -> Iterator[tuple[Any, str, float]]:
        """(corners [4, 2], text, confidence) of what counts as text in uint8 [H, W, 3] (BGR)."""
        result = self._engine(window)
        if getattr(result, "boxes", None) is None or getattr(result, "txts", None) is None:
            return
        for corners, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
            if counts_as_text(text, float(score)):
                yield np.asarray(corners, np.float64), text, min(1.0, float(score))


def _as_it_is(image: Pixels) -> Pixels:
    return image


def _strokes(image: Pixels) -> Pixels:
    """uint8 [H, W, 3] in which thin strokes, light or dark, stand out from whatever they are drawn on.

    The smallest channel, because white writing has all three and tissue has not, plus its top hat and less its black
    hat: what opening and closing with a square wider than a stroke take away.
    """
    least = image.min(axis=2)  # [H, W]
    square = np.ones((_STROKE_PX, _STROKE_PX), np.uint8)
    light = cv2.morphologyEx(least, cv2.MORPH_TOPHAT, square).astype(np.float32)
    dark = cv2.morphologyEx(least, cv2.MORPH_BLACKHAT, square).astype(np.float32)
    grey = np.clip(0.5 * least + 2.0 * light - 2.0 * dark, 0, 255).astype(np.uint8)
    return np.stack([grey, grey, grey], axis=2)


def counts_as_text(text: str, confidence: float) -> bool:
    """Whether what was recognised is taken for writing, and not for tissue that looks like it."""
    letters = sum(sign.isalnum() for sign in text)
    return any(letters >= least and confidence >= limit for least, limit in TEXT_IS)


def place(line: TextLine, shape: tuple[int, ...]) -> str:
    """Where a line stands in an image of shape [H, W] or [H, W, C], in words and per cent."""
    height, width = shape[:2]
    left, top, right, bottom = line.bounds
    across, down = (
        f"{100 * low / size:.0f} to {100 * high / size:.0f} %"
        for low, high, size in ((left, right, width), (top, bottom, height))
    )
    return f"{across} of the width and {down} of the height"


def _checked(image: Pixels) -> tuple[int, int]:
    """(height, width) of an image that can be read. Raises ValueError: that would be our own mistake."""
    height, width = image.shape[:2]
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise ValueError(f"an image is uint8 [H, W] or [H, W, 3], not {image.dtype} {image.shape}")
    if min(height, width) < LEAST_SIDE_PX:
        raise ValueError(f"text is read in sides of {LEAST_SIDE_PX} px and more, not {width} x {height}")
    return height, width


def _scale(shorter_px: int, longer_px: int) -> float:
    """How much an image is enlarged for reading; below 1 where it is reduced, which leaves a strip its width."""
    if longer_px >= READ_SIDE_PX:
        return min(1.0, max(_READ_AT_MOST_PX / longer_px, LEAST_SIDE_PX / shorter_px))
    return min(READ_SIDE_PX, max(LEAST_READ_PX, 2 * longer_px)) / longer_px


def _windows(height: int, width: int) -> list[tuple[int, int]]:
    """(top, left) of windows that cover an image and overlap, so that a line that one cuts stands whole in another."""
    return [(top, left) for top in _starts(height) for left in _starts(width)]


def _starts(length: int) -> list[int]:
    if length <= _WINDOW_PX:
        return [0]
    count = -(-(length - _OVERLAP_PX) // (_WINDOW_PX - _OVERLAP_PX))
    return [round(number * (length - _WINDOW_PX) / (count - 1)) for number in range(count)]


def _same(one: TextLine, other: TextLine) -> bool:
    """Whether two windows have seen the same line: it covers half of the smaller of both bounds."""
    left, top, right, bottom = (
        pick(a, b) for pick, a, b in zip((max, max, min, min), one.bounds, other.bounds, strict=True)
    )
    shared = max(0.0, right - left) * max(0.0, bottom - top)
    smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one.bounds, other.bounds))
    return shared > 0.5 * smaller


def _networks() -> tuple[Path, Path]:
    """The files of detector and recogniser."""
    spec = importlib.util.find_spec("rapidocr")
    folder = Path(spec.origin).parent / "models" if spec and spec.origin else None
    files = () if folder is None else (folder / _DETECTOR, folder / _RECOGNISER)
    if len(files) != 2 or not all(file.is_file() for file in files):
        raise SynthwardError(
            "text.models-missing",
            "the networks that read burned-in text are not installed",
            why="without them nobody could say that an image carries no name and no date",
            do="install Synthward again with its dependencies: the package rapidocr brings the networks",
        )
    return files


@lru_cache(maxsize=1)  # half a second and 150 MB: one is enough for a process
def _engine(detector: Path, recogniser: Path, threads: int) -> Any:
    # Else onnxruntime keeps a device id and records of each start in the user's home, to send them to its maker.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",  # it would log what it reads
            "Global.use_cls": False,
            "Global.text_score": 0.0,
            "Global.use_preprocess_img": False,
            "Global.use_vertical_padding": False,
            # Named files: what is not named would be looked for, and downloaded where it is missing or another.
            "Det.model_path": str(detector),
            "Rec.model_path": str(recogniser),
            # Half of the usual limits: the recogniser decides, and a box that it cannot read costs 10 ms.
            "Det.thresh": 0.2,
            "Det.box_thresh": 0.3,
            "Det.limit_side_len": 32,  # the image comes at the size at which it is to be read
            "EngineConfig.onnxruntime.intra_op_num_threads": threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
