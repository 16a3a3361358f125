"""Where a network fails, as pictures: synthetic pairs that it was not trained on, never a real image.

True outline: a solid line, as on every sheet. Outline that the network drew: a dotted one in another colour.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from shared.metrics import case_metrics
from shared.pairs import Pair, Pixels
from shared.segmenter import Segmenter, predict
from shared.sheets import GAP_PX, HALO, PAPER, outlined

PREDICTED = (255, 176, 0)
_COUNT, _CELL_PX, _CAPTION_PX, _DOT_PX = 6, 144, 20, 3


@dataclass(frozen=True)
class Judged:
    """A pair, what the network marked on it (bool [H, W]), and the overlap of that with the true mask in [0, 1]."""

    pair: Pair
    predicted: NDArray[np.bool_]
    iou: float


def worst_pairs(model: Segmenter, pairs: Sequence[Pair], count: int) -> list[tuple[Pair, NDArray[np.bool_], float]]:
    """The `count` pairs with the smallest IoU, worst first: (pair, predicted mask bool [H, W], IoU).

    pairs: synthetic ones, held back from the network's training, of the study's size and channels.
    """
    return [(judged.pair, judged.predicted, judged.iou) for judged in _judged(model, pairs)[:count]]


def failure_sheet(model: Segmenter, pairs: Sequence[Pair]) -> bytes:
    """A PNG of two rows: the pairs with the smallest IoU, and those around the median, each with its IoU under it.

    pairs: as for worst_pairs. Equal weights and pairs give equal bytes. Raises ValueError without a pair.
    """
    if not pairs:
        raise ValueError("a sheet of failures needs a pair")
    judged = _judged(model, pairs)
    middle = max(0, min(len(judged) - _COUNT, (len(judged) - _COUNT) // 2))
    rows = [judged[:_COUNT], judged[middle : middle + _COUNT]]
    if len(judged) < 2 * _COUNT:
        rows = [judged[:_COUNT]]  # of so few, both rows would show the same
    return _sheet(rows)


def _judged(model: Segmenter, pairs: Sequence[Pair]) -> list[Judged]:
    """All pairs by rising IoU; equal ones in the order in which they came."""
    found = []
    for pair in pairs:
        probability = predict(model, pair.image)
        found.append(Judged(pair, probability >= 0.5, case_metrics(probability, pair.mask >= 128).iou))
    return sorted(found, key=lambda judged: judged.iou)


def _sheet(rows: Sequence[Sequence[Judged]]) -> bytes:
    across, down = _CELL_PX + GAP_PX, _CELL_PX + _CAPTION_PX + GAP_PX
    width, height = max(map(len, rows)) * across - GAP_PX, len(rows) * down - GAP_PX
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for top, row in enumerate(rows):
        for left, judged in enumerate(row):
            place = (left * across, top * down)
            sheet.paste(Image.fromarray(drawn(judged)), place)
            pen.text((place[0] + 2, place[1] + _CELL_PX + 3), f"IoU {judged.iou:.2f}", fill=(0, 0, 0), font=font)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def drawn(judged: Judged) -> Pixels:
    """The image with both outlines: uint8 [144, 144, 3]."""
    image = outlined(judged.pair, _CELL_PX)
    soft = Image.fromarray(np.where(judged.predicted, 255, 0).astype(np.uint8))
    mask = np.asarray(soft.resize((_CELL_PX, _CELL_PX), Image.Resampling.BICUBIC)) >= 128
    inner = np.pad(mask, 2, mode="edge")
    core = inner[:-4, 2:-2] & inner[4:, 2:-2] & inner[2:-2, :-4] & inner[2:-2, 4:]
    rows, columns = np.indices(mask.shape)
    # Dots in turn with near-black: seen on bright and on dark ground, and told from a solid line without colour.
    dots = (rows + columns) // _DOT_PX % 2 == 0
    image[mask & ~core & dots] = PREDICTED
    image[mask & ~core & ~dots] = HALO
    return image
