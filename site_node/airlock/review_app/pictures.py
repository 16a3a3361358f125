"""The pictures of a review, as PNG bytes: samples with their mask's outline, and what of a sample is a real image's.

Pure: pixels in, bytes out. These pictures are shown to a signed-in steward and kept nowhere.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.pairs import Pair, Pixels
from shared.sheets import outlined
from site_node.screening.positions import positions

_COMPARE_PX = 64
_GAIN = 2  # a difference of half the range is white already: copies that were recoloured still show their shapes
_MIN_PX = 256


def drawn(pair: Pair, size_px: int) -> bytes:
    """A PNG of the pair at size_px x size_px, the mask as an outline."""
    return _png(outlined(pair, size_px))


def plain(pixels: Pixels, size_px: int) -> bytes:
    """A PNG of an image or mask alone, enlarged without smoothing to at least size_px: each pixel as it is."""
    times = max(1, -(-size_px // pixels.shape[0]))
    return _png(np.repeat(np.repeat(pixels, times, axis=0), times, axis=1))


def best_position(sample: Pixels, real: Pixels) -> int:
    """Which of the eight positions of real correlates most with sample: 0 to 7, as in `positions`."""
    one = _small(sample)
    return int(np.argmax([float((one * _small(other)).sum()) for other in positions(real)]))


def turned_to_fit(sample: Pixels, real: Pair) -> Pair:
    """The real pair in the position in which it is most like the sample. Both squares of one size."""
    place = best_position(sample, real.image)
    return Pair(positions(real.image)[place], positions(real.mask)[place])


def difference(sample: Pixels, real: Pixels) -> Pixels:
    """uint8 [S, S]: the mean absolute difference over channels times _GAIN, cut at 255. Black is equal."""
    apart = np.abs(sample.astype(np.int16) - real.astype(np.int16))
    grey = apart if apart.ndim == 2 else apart.mean(axis=2)
    return np.asarray(np.clip(_GAIN * grey, 0, 255), dtype=np.uint8)


def picture_px(size_px: int) -> int:
    """The side at which a picture of a study with this image size is drawn: a whole multiple, at least _MIN_PX."""
    return size_px * max(1, -(-_MIN_PX // size_px))


def _small(image: Pixels) -> NDArray[np.float32]:
    """float32 [_COMPARE_PX, _COMPARE_PX]: luma with mean 0 and length 1; zeros for a flat image."""
    square = (_COMPARE_PX, _COMPARE_PX)
    grey = np.asarray(Image.fromarray(image).convert("L").resize(square, Image.Resampling.BOX), dtype=np.float32)
    grey = grey - grey.mean()
    length = float(np.linalg.norm(grey))
    return np.asarray(grey / length if length > 1e-6 else np.zeros_like(grey), dtype=np.float32)


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
