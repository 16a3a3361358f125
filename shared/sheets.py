"""Contact sheets: pairs side by side, each lesion's mask drawn as an outline over its image.

The outline is a double line, cyan inside and near-black outside: one of the two stands out on red mucosa, on white
highlights, on brown skin and on the black of an ultrasound image.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.pairs import Pair, Pixels

GAP_PX = 4
LINE = (0, 229, 255)
HALO = (6, 32, 40)
PAPER = (255, 255, 255)


def contact_sheet(pairs: Sequence[Pair], *, columns: int, cell_px: int) -> bytes:
    """A PNG of the pairs, row by row, each in a cell of cell_px x cell_px, at most columns in a row, on white.

    Equal pairs give equal bytes. Raises ValueError without a pair, without a column, or for cells under 16 px.
    """
    if not pairs or columns < 1 or cell_px < 16:
        raise ValueError("a contact sheet needs a pair, a column, and cells of at least 16 px")
    columns = min(columns, len(pairs))
    rows = -(-len(pairs) // columns)
    stride = cell_px + GAP_PX
    sheet = np.full((rows * stride - GAP_PX, columns * stride - GAP_PX, 3), PAPER, dtype=np.uint8)
    for index, pair in enumerate(pairs):
        top, left = (index // columns) * stride, (index % columns) * stride
        sheet[top : top + cell_px, left : left + cell_px] = outlined(pair, cell_px)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def outlined(pair: Pair, size_px: int) -> Pixels:
    """The image at size_px x size_px with its mask's outline: uint8 [size_px, size_px, 3]."""
    square = (size_px, size_px)
    image = np.array(Image.fromarray(pair.image).convert("RGB").resize(square, Image.Resampling.BICUBIC))
    # The mask is enlarged smoothly and cut, so that the outline follows the lesion and not the small image's pixels.
    mask = np.asarray(Image.fromarray(pair.mask).resize(square, Image.Resampling.BICUBIC)) >= 128
    image[~_shrunk(~mask, 1) & ~mask] = HALO
    image[mask & ~_shrunk(mask, max(1, size_px // 64))] = LINE
    return image


def _shrunk(mask: NDArray[np.bool_], by_px: int) -> NDArray[np.bool_]:
    """The mask without what lies within by_px, in steps along rows and columns, of its border. Edges are no border."""
    for _ in range(by_px):
        padded = np.pad(mask, 1, mode="edge")
        mask = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:] & mask
    return mask
