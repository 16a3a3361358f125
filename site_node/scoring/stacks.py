"""Pairs as one array of numbers, as the distribution measures read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from shared.pairs import Pair, with_channels


def stacked(pairs: Sequence[Pair]) -> Tensor:
    """float32 [N, 4, H, W] in [0, 1]: red, green, blue, mask. pairs: of one size; grey images repeat their channel."""
    if len({pair.mask.shape for pair in pairs}) != 1:
        raise ValueError("pairs to be measured together have one size, and there is at least one")
    arrays = [np.dstack([with_channels(pair.image, 3), pair.mask]) for pair in pairs]
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255  # [N, H, W, 4] -> [N, 4, H, W]
