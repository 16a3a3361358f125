"""What training one case will take, said beforehand from its size alone: scales, work and memory."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import SynthwardError
from site_node.generators.per_case.presets import Preset
from site_node.generators.per_case.pyramid import RECEPTIVE_FIELD_PX, scale_sizes
from site_node.generators.per_case.training import DRAWN_AT_ONCE
from site_node.generators.progress import Progress
from site_node.generators.scaling import Size

_BYTES = 4  # of a float32
_FIXED = 115 * 2**20  # what libraries load with the first steps
_MAPS_TRAINING = 55  # feature maps alive in the penalty's backward pass through a critic with norms
_MAPS_DRAWING = 5
_PICTURES = 10  # the case, its targets, noise and reconstructions


@dataclass(frozen=True)
class CasePlan:
    """scales: sizes, coarsest first; work: of each scale, in pixels x width^2 x iterations, so that two cases' times
    compare as their sums do; memory_bytes: a training process's peak over the interpreter with its libraries."""

    scales: tuple[Size, ...]
    work: tuple[float, ...]
    memory_bytes: int

    def progress(self, scale: int, step: int, steps: int) -> Progress:
        """The progress after `step` of `steps` iterations of a scale."""
        done = (sum(self.work[:scale]) + self.work[scale] * step / steps) / sum(self.work)
        return Progress(scale, len(self.scales), step, steps, min(1.0, done))


def plan_case(size: Size, channels: int, preset: Preset) -> CasePlan:
    """The plan for a case. size: (height_px, width_px); channels: the image's and the masks' together.

    Raises SynthwardError training.too-small where a scale would be smaller than what a critic sees at once.
    """
    scales = scale_sizes(
        size,
        factor=preset.factor,
        shortest_px=preset.shortest_px,
        longest_px=preset.longest_px,
        max_scales=preset.max_scales,
    )
    smallest = min(min(scale) for scale in scales)
    if smallest < RECEPTIVE_FIELD_PX:
        raise SynthwardError(
            "training.too-small",
            f"a case of {size[0]} x {size[1]} px has a scale of {scales[0][0]} x {scales[0][1]} px, and none may have "
            f"a side under {RECEPTIVE_FIELD_PX} px",
            why="the critic judges patches of that size",
            do="use larger images, or crop long ones",
        )
    seen = [_seen_px(scale, preset) for scale in scales]
    work = tuple(
        float(pixels * preset.width_of(index) ** 2 * preset.iterations_of(index)) for index, pixels in enumerate(seen)
    )
    return CasePlan(scales, work, _memory_bytes(scales, channels, preset))


def _seen_px(scale: Size, preset: Preset) -> int:
    """Pixels that one pass sees."""
    height, width = (side if preset.crop_px is None else min(side, preset.crop_px) for side in scale)
    return height * width


def _memory_bytes(scales: tuple[Size, ...], channels: int, preset: Preset) -> int:
    """Fitted to peaks of resident memory over the interpreter with its libraries, on one thread of a CPU.

    Measured at 64, 128 and 250 px: `fast` 129, 152 and 218 MiB (435 at 512 px), `faithful` 162, 335 and 1623; this says
    130, 158, 235 (476) and 171, 338, 1803.
    """
    maps = []  # bytes of one layer's feature maps, in a training step of each scale
    for index, scale in enumerate(scales):
        maps.append(_BYTES * _seen_px(scale, preset) * preset.width_of(index))
    bank = drawn = 0
    if preset.bank is not None and len(scales) > 1:
        height, width = scales[-2]  # the finest that a bank is drawn of
        bank = _BYTES * height * width * channels * preset.bank
        drawn = _BYTES * height * width * preset.width_of(len(scales) - 2) * min(preset.bank, DRAWN_AT_ONCE)
    pictures = _BYTES * scales[-1][0] * scales[-1][1] * channels * _PICTURES
    return _FIXED + bank + pictures + max(_MAPS_TRAINING * max(maps), _MAPS_DRAWING * drawn)
