"""The masks of a cohort's samples: a segmenter that learnt from the same training cases draws them.

A pyramid that draws image and mask together draws outlines beside its lesions; who trains on such pairs learns them.
The segmenter is the network that studies are judged with, trained on the site's own training cases and on no other
patient. It is patient data, like the rest of the generator, and never leaves the site.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from shared.pairs import LazyPairs, Pair, resize_pair
from shared.segmenter import Segmenter, from_arrays, predict, to_arrays
from shared.segmenter_training import train
from shared.study import EvaluationSpec, ImageSpec
from site_node.generators.scaling import Size

_MULTIPLE_PX = 32  # UNet++ halves its input five times
_LARGEST_PX = 128  # outlines are smooth: beyond, training would take gigabytes and draw no better ones


@dataclass(frozen=True)
class Labeller:
    """Draws the mask of an image. It works on squares of 128 px or less; others are brought to one and back."""

    segmenter: Segmenter

    def label(self, pair: Pair) -> Pair:
        """The pair's image with the segmenter's mask, cut at one half, in place of its own."""
        side = self.segmenter.image.size_px
        squared = pair if pair.mask.shape == (side, side) else resize_pair(pair, side)
        probability = predict(self.segmenter, squared.image)  # [S, S]
        if pair.mask.shape != probability.shape:
            height, width = pair.mask.shape
            resized = Image.fromarray(probability).resize((width, height), Image.Resampling.BILINEAR)
            probability = np.asarray(resized)  # [S, S] -> [H, W]
        return Pair(pair.image, np.where(probability > 0.5, 255, 0).astype(np.uint8))

    def tensors(self) -> dict[str, Tensor]:
        """The weights by name."""
        return {name: torch.from_numpy(array) for name, array in to_arrays(self.segmenter).items()}

    @classmethod
    def restored(cls, tensors: dict[str, Tensor], size: Size, image_channels: int) -> Labeller:
        """From the weights. Raises SynthwardError weights.mismatch."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return cls(from_arrays(arrays, EvaluationSpec(), _spec(size, image_channels)))


def train_labeller(
    pairs: Sequence[Pair], size: Size, *, steps: int, seed: int, on_step: Callable[[int, int], None] | None = None
) -> Labeller:
    """Trains the segmenter on pairs, for `steps` steps of 16. size: (height_px, width_px) of the pairs."""
    image = _spec(size, pairs[0].channels)
    squares = LazyPairs(pairs, lambda pair: resize_pair(pair, image.size_px))
    return Labeller(train(squares, EvaluationSpec(), image, seed=seed, steps=steps, on_step=on_step))


def _spec(size: Size, image_channels: int) -> ImageSpec:
    """The square that the segmenter works on: the longer side, rounded up to what it can halve, if not too large."""
    side = -(-max(size) // _MULTIPLE_PX) * _MULTIPLE_PX
    return ImageSpec(size_px=min(_LARGEST_PX, side), channels=1 if image_channels == 1 else 3)
