"""How long and how large a generator is trained, by name. Holds numbers only.

`full` is the authors' schedule, the other two were found by trying: `demo` for seconds a case, `fast` for half a minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Preset:
    name: str
    # Scales: see pyramid.scale_sizes.
    factor: float = 0.75
    shortest_px: int = 25
    longest_px: int = 250
    max_scales: int | None = None
    # Networks.
    width: int = 32
    double_every: int = 4
    max_width: int = 128
    norm: Literal["batch", "none"] = "batch"
    critic_norm: Literal["batch", "none"] = "batch"
    # Steps.
    iterations: int = 2000
    critic_steps: int = 3
    generator_steps: int = 3
    crop_px: int | None = None
    bank: int = 0
    # Losses and optimiser.
    learning_rate: float = 5e-4
    betas: tuple[float, float] = (0.5, 0.999)
    decay_at: float = 0.8
    decay: float = 0.1
    penalty_weight: float = 0.1
    penalty_every: int = 1
    reconstruction_weight: float = 10.0
    # Noise.
    noise_share: float = 0.1
    into_padding: bool = False
    fresh_tail: bool = False

    def width_of(self, scale: int) -> int:
        return min(self.width * 2 ** (scale // self.double_every), self.max_width)
