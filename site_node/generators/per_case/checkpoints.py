"""A training's state between two steps, in one safetensors file, so that a killed training goes on where it was.

It holds the finished scales, the current networks, their optimisers' moments and the random stream. It holds neither
the image nor z*: both are made again from the case and its seed, without which the file cannot be used. It is patient
data all the same, as every generator is, and is removed when its case ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from site_node.generators.checkpoint_file import CheckpointFile
from site_node.generators.per_case.pyramid import BlockConfig, Scale, ScaleGenerator
from site_node.generators.tensor_file import below

_FORMAT = "synthward.training/1"


@dataclass(frozen=True)
class Saved:
    """attempt: how often the training had diverged before; scales: finished; training: ScaleTraining's state."""

    attempt: int
    scales: tuple[Scale, ...]
    training: dict[str, Tensor]


class Checkpoint:
    """The checkpoint of one case's training, or none where path is None."""

    def __init__(self, path: Path | None, fingerprint: str, every_s: float) -> None:
        """fingerprint: of case, seed and preset; every_s: seconds between two writings within a scale."""
        self._file = CheckpointFile(path, f"{_FORMAT}:{fingerprint}", every_s)

    def read(self) -> Saved | None:
        """What was saved last; None where there is nothing to go on from."""
        found = self._file.read()
        if found is None:
            return None
        description, tensors = found
        scales = scales_from(description["scales"], tensors)
        return Saved(int(description["attempt"]), scales, below(tensors, "training"))

    def due(self) -> bool:
        """Whether it is time to write again."""
        return self._file.due()

    def write(self, saved: Saved) -> None:
        """Replaces what was saved, whole or not at all. Raises SynthwardError storage.full."""
        tensors = scale_tensors(saved.scales) | {f"training.{name}": value for name, value in saved.training.items()}
        self._file.write({"attempt": saved.attempt, "scales": describe_scales(saved.scales)}, tensors)

    def remove(self) -> None:
        """Once nothing is to be gone on from."""
        self._file.remove()


def describe_scales(scales: Sequence[Scale]) -> list[dict[str, Any]]:
    """What a file says of finished scales beside their tensors."""
    return [
        {
            "size": scale.size,
            "amplitude": scale.amplitude,
            "channels": scale.generator.config.channels,
            "width": scale.generator.config.width,
            "norm": scale.generator.config.norm,
        }
        for scale in scales
    ]


def scale_tensors(scales: Sequence[Scale]) -> dict[str, Tensor]:
    """The weights of finished scales by name."""
    return {
        f"{index}.{name}": tensor
        for index, scale in enumerate(scales)
        for name, tensor in scale.generator.state_dict().items()
    }


def scales_from(described: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> tuple[Scale, ...]:
    """The scales of describe_scales and scale_tensors again. Raises KeyError, TypeError, ValueError or RuntimeError."""
    scales = []
    for index, entry in enumerate(described):
        height, width = entry["size"]
        config = BlockConfig(int(entry["channels"]), int(entry["width"]), entry["norm"])
        generator = ScaleGenerator(config, torch.Generator())
        generator.load_state_dict(below(tensors, str(index)))
        generator.eval().requires_grad_(False)
        scales.append(Scale((int(height), int(width)), generator, float(entry["amplitude"])))
    return tuple(scales)
