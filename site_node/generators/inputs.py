"""A case as the generators take it, and back: arrays to tensors, what cannot be learnt from, and the random streams.

Any number of image channels and of mask classes: two views of a breast are two groups of channels, three tissues are
three masks. Every stream is made from a purpose, a seed and, in training, the case's own bytes; none is global.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels


def check_arrays(image: Pixels, masks: Pixels) -> None:
    """Raises SynthwardError where a generator has nothing to learn: training.constant-image, training.mask-none or
    training.mask-all. image: uint8 [H, W, C]; masks: uint8 [H, W, K] in {0, 255}.

    Of several classes some may be absent, but not all, and none may fill the picture. Raises ValueError on arrays of
    other shapes, types or values.
    """
    if image.dtype != np.uint8 or masks.dtype != np.uint8 or image.ndim != 3 or masks.ndim != 3:
        raise ValueError("an image is uint8 [H, W, C] and its masks are uint8 [H, W, K]")
    if image.shape[:2] != masks.shape[:2] or 0 in image.shape or 0 in masks.shape:
        raise ValueError(f"image {image.shape} and masks {masks.shape} do not make a case")
    if not np.isin(masks, (0, 255)).all():
        raise ValueError("masks hold 0 and 255 only")
    if bool((image == image[:1, :1]).all()):
        raise _unlearnable("training.constant-image", "the image has one colour everywhere")
    if not masks.any():
        raise _unlearnable("training.mask-none", "the mask marks nothing at this size")
    if bool(masks.all(axis=(0, 1)).any()):
        raise _unlearnable("training.mask-all", "the mask marks everything at this size")


def _unlearnable(code: str, what: str) -> SynthwardError:
    return SynthwardError(
        code,
        what,
        why="a generator fitted to it would draw that one picture or outline for ever",
        do="set the case aside, or import it at a larger size if the image itself is sound",
    )


def arrays_of(pair: Pair) -> tuple[Pixels, Pixels]:
    """A pair's image, [H, W, 1 or 3], and masks, [H, W, 1]."""
    return np.atleast_3d(pair.image), pair.mask[:, :, None]


def are_exclusive(masks: Pixels) -> bool:
    """Whether no pixel of masks [H, W, K] belongs to two classes."""
    return int((masks > 0).sum(axis=2).max()) <= 1


def as_tensor(image: Pixels, masks: Pixels) -> Tensor:
    """image [H, W, C] and masks [H, W, K] as float32 [1, C + K, H, W] in [-1, 1], the masks last."""
    stacked = np.concatenate([image, masks], axis=2).astype(np.float32) / 127.5 - 1.0  # -> [H, W, C + K]
    return torch.from_numpy(stacked).permute(2, 0, 1)[None].contiguous()  # -> [1, C + K, H, W]


def as_arrays(out: Tensor, channels: int, *, exclusive: bool) -> tuple[Pixels, Pixels]:
    """The way back: image uint8 [H, W, C], rounded, and masks uint8 [H, W, K], cut at one half.

    out: float [1, C + K, H, W]; channels: C. exclusive: of several classes a pixel keeps that of the largest value.
    """
    values = out[0].permute(1, 2, 0).cpu()  # [1, C + K, H, W] -> [H, W, C + K]
    image = ((values[:, :, :channels] + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8)
    masks = values[:, :, channels:]
    marked = masks > 0.0
    if exclusive:
        marked &= torch.nn.functional.one_hot(masks.argmax(dim=2), masks.shape[2]).bool()
    return image.contiguous().numpy(), np.where(marked.numpy(), 255, 0).astype(np.uint8)


def digest(purpose: str, seed: int, *secrets: bytes) -> bytes:
    """SHA-256 over a purpose, a seed and the secrets, each by its own digest."""
    hashed = hashlib.sha256(f"{purpose}:{seed}".encode())
    for secret in secrets:
        hashed.update(hashlib.sha256(secret).digest())
    return hashed.digest()


def stream(purpose: str, seed: int, *secrets: bytes) -> torch.Generator:
    """A stream of its own for each purpose, so that sampling with the training's seed repeats nothing of it."""
    return torch.Generator().manual_seed(int.from_bytes(digest(purpose, seed, *secrets)[:8], "big", signed=True))
