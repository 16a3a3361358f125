"""From scale to scale: what the pyramids of a case and of a cohort have in common."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

Size = tuple[int, int]  # (height_px, width_px)


def halved(size: Size) -> Size:
    """The next coarser size; odd sides are rounded up."""
    height, width = size
    return (height + 1) // 2, (width + 1) // 2


def upscale(x: Tensor, size: Size) -> Tensor:
    """Bicubic, clipped to [-1, 1]: a coarser scale's output as the finer scale's base. [N, C, h, w] -> [N, C, H, W]."""
    return F.interpolate(x, size=size, mode="bicubic", align_corners=False).clamp_(-1.0, 1.0)
