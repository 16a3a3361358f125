"""Pictures of nobody that a private generator starts from: drawn scenes, or public pairs that a site was given.

They are drawn anew for each sample, so a private generator draws no outline that it learnt from a patient. What a
patient must not be in, the caller answers for: public pairs are saved with the generator as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.augment import turn
from shared.errors import SynthwardError
from shared.pairs import Pair, with_channels
from site_node.phantoms.scenes import Look, scene

SMALLEST_PX = 16
ENDOSCOPY: tuple[Look, ...] = ("endoscopy_warm", "endoscopy_cool")
_SEEDS = 2**40  # scenes to choose from


class Prior(Protocol):
    """A source of public pairs."""

    @property
    def size_px(self) -> int:
        """S, the side of its pairs."""

    @property
    def channels(self) -> int:
        """Of an image: 1 or 3."""

    def draw(self, count: int, random: torch.Generator) -> list[Pair]:
        """Pairs: images uint8 [S, S, 3] or [S, S], masks uint8 [S, S] of 0 and 255."""

    def description(self) -> dict[str, Any]:
        """What it is, of JSON's types."""

    def tensors(self) -> dict[str, Tensor]:
        """What it is made of, by name."""


@dataclass(frozen=True)
class Phantoms:
    """Procedural scenes, the looks in equal shares. channels: 1 or 3."""

    looks: tuple[Look, ...]
    size_px: int
    channels: int = 3

    def __post_init__(self) -> None:
        if not self.looks or set(self.looks) - set(get_args(Look)):
            raise ValueError(f"no such looks: {self.looks}")

    def draw(self, count: int, random: torch.Generator) -> list[Pair]:
        """Scenes that were never drawn before, as far as chance goes."""
        which = torch.randint(len(self.looks), (count,), generator=random).tolist()
        seeds = torch.randint(_SEEDS, (count,), generator=random).tolist()
        drawn = (scene(self.looks[look], seed, self.size_px) for look, seed in zip(which, seeds, strict=True))
        return [Pair(with_channels(pair.image, self.channels), pair.mask) for pair in drawn]

    def description(self) -> dict[str, Any]:
        """Names alone: nothing of it is learnt."""
        return {"kind": "phantoms", "looks": self.looks, "size_px": self.size_px, "channels": self.channels}

    def tensors(self) -> dict[str, Tensor]:
        """None."""
        return {}


@dataclass(frozen=True)
class PublicPairs:
    """Pairs of a public set, turned and flipped by chance. images: uint8 [N, S, S, C]; masks: uint8 [N, S, S]."""

    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> PublicPairs:
        """Of at least one pair, all squares of one size. Raises training.none, training.too-small and ValueError."""
        if not pairs:
            raise SynthwardError(
                "training.none", "there is no public pair to start from", do="name a folder with images/ and masks/"
            )
        if len({(pair.image.shape, pair.mask.shape) for pair in pairs}) > 1:
            raise ValueError("public pairs of several sizes")
        height, width = pairs[0].mask.shape
        if height != width:
            raise ValueError("public pairs are squares")
        check_size(height)
        return cls(np.stack([np.atleast_3d(pair.image) for pair in pairs]), np.stack([pair.mask for pair in pairs]))

    @property
    def size_px(self) -> int:
        """S."""
        return int(self.masks.shape[1])

    @property
    def channels(self) -> int:
        """C, 1 or 3."""
        return int(self.images.shape[3])

    def draw(self, count: int, random: torch.Generator) -> list[Pair]:
        """With replacement."""
        which = torch.randint(len(self.masks), (count,), generator=random).numpy()
        stacked = np.concatenate([self.images[which], self.masks[which][..., None]], axis=3)  # [N, S, S, C + 1]
        x = torch.from_numpy(stacked).permute(0, 3, 1, 2)
        turned = turn(x, x[:, :1], torch.randint(8, (count,), generator=random))[0].permute(0, 2, 3, 1)
        pixels = turned.contiguous().numpy()
        grey = self.channels == 1
        return [Pair(one[..., 0] if grey else one[..., :-1].copy(), one[..., -1].copy()) for one in pixels]

    def description(self) -> dict[str, Any]:
        """The pairs themselves are among the tensors."""
        return {"kind": "public_pairs"}

    def tensors(self) -> dict[str, Tensor]:
        """images and masks, as they are."""
        return {"images": torch.from_numpy(self.images), "masks": torch.from_numpy(self.masks)}


def restored(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Prior:
    """The prior of that description and those tensors. Raises KeyError, ValueError or TypeError for another's."""
    if description["kind"] == "phantoms":
        looks = tuple(cast(Look, str(look)) for look in description["looks"])
        return Phantoms(looks, int(description["size_px"]), int(description["channels"]))
    if description["kind"] == "public_pairs":
        return PublicPairs(tensors["images"].numpy(), tensors["masks"].numpy())
    raise ValueError(f"no such prior: {description['kind']!r}")


def check_size(size_px: int) -> None:
    """Raises training.too-small."""
    if size_px < SMALLEST_PX:
        raise SynthwardError(
            "training.too-small", f"pairs of {size_px} px; a side needs {SMALLEST_PX} px", do="use larger images"
        )
