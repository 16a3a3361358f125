"""A pair on its way: an image and its mask. The PNG form in which both leave a site: shared/png.py."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from shared.errors import SynthwardError

Pixels = NDArray[np.uint8]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Pair:
    """image: uint8 [H, W, 3] or [H, W] in [0, 255]; mask: uint8 [H, W], 0 background and 255 lesion."""

    image: Pixels
    mask: Pixels

    def __post_init__(self) -> None:
        if self.image.dtype != np.uint8 or self.mask.dtype != np.uint8:
            raise ValueError("a pair holds uint8 arrays")
        if self.mask.ndim != 2 or self.image.shape[:2] != self.mask.shape:
            raise ValueError(f"image {self.image.shape} and mask {self.mask.shape} do not make a pair")
        if self.image.ndim != 2 and (self.image.ndim != 3 or self.image.shape[2] != 3):
            raise ValueError(f"an image is [H, W] or [H, W, 3], not {self.image.shape}")

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return 1 if self.image.ndim == 2 else int(self.image.shape[2])


class LazyPairs(Sequence[Pair], Generic[Item]):
    """Pairs that are read when they are asked for, and not kept: one at a time is in memory."""

    def __init__(self, items: Sequence[Item], load: Callable[[Item], Pair]) -> None:
        """items: what stands for each pair; load: reads one."""
        self._items = items
        self._load = load

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        if isinstance(index, slice):
            return LazyPairs(self._items[index], self._load)
        return self._load(self._items[index])


def sha256_hex(data: bytes) -> str:
    """SHA-256 of bytes, 64 hexadecimal digits: the name of an object."""
    return hashlib.sha256(data).hexdigest()


def check_mask(mask: Pixels) -> None:
    """Raises pairs.mask-not-binary unless mask is [H, W] with nothing but 0 and 255."""
    if mask.ndim != 2 or not bool(np.isin(mask, (0, 255)).all()):
        raise SynthwardError("pairs.mask-not-binary", "a mask has values other than 0 and 255")


def resize_pair(pair: Pair, size_px: int) -> Pair:
    """The pair at size_px x size_px: Lanczos for the image; area average, then a cut at one half, for the mask.

    The aspect is not kept: a study fixes one square size, as SinGAN-Seg's and SynthMed's evaluations do.
    """
    image = Image.fromarray(pair.image).resize((size_px, size_px), Image.Resampling.LANCZOS)
    mask = Image.fromarray(pair.mask).resize((size_px, size_px), Image.Resampling.BOX)
    return Pair(np.asarray(image), np.where(np.asarray(mask) >= 128, 255, 0).astype(np.uint8))


def with_channels(image: Pixels, channels: int) -> Pixels:
    """The image with 1 or 3 channels: RGB to grey by ITU-R 601 luma, grey to RGB by repetition."""
    mode = "L" if channels == 1 else "RGB"
    return np.asarray(Image.fromarray(image).convert(mode))
