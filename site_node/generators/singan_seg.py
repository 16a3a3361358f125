"""SinGAN-Seg: one pyramid for one case, fitted to its image and mask together, then sampled without end.

A trained generator is patient data: its samples resemble the case they come from, and it never leaves the site. It
holds neither the case's image nor the fixed noise z* that reproduces it: both are forgotten when training ends, z* is
derived from the image's own bytes besides the seed, and no sampling seed leads to it. (The authors' checkpoints hold
both.) Training keeps one pyramid in memory; sampling never changes it.

Thambawita et al., "SinGAN-Seg: Synthetic training data generation for medical image segmentation", PLOS ONE 2022.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.errors import SynthwardError
from shared.files import write_private
from shared.pairs import Pair
from site_node.generators.presets import Preset
from site_node.generators.pyramid import (
    RECEPTIVE_FIELD_PX,
    BlockConfig,
    Critic,
    Scale,
    ScaleGenerator,
    Size,
    draw,
    draw_noise,
    grow,
    pad,
    scale_sizes,
    upscale,
)
from site_node.generators.training import Target, diverged, train_scale

_FORMAT = "synthward.singan-seg/1"


@dataclass(frozen=True)
class SinGanSeg:
    """A trained pyramid. size: (height_px, width_px) of the pairs it draws; scales: coarsest first, frozen."""

    preset: str
    size: Size
    scales: tuple[Scale, ...]

    @torch.no_grad()
    def sample(self, seed: int) -> Pair:
        """Draws a pair, the same for the same seed: the image rounded to uint8, the mask cut at one half.

        A mask may come out empty or full: the screening judges that.
        """
        out = draw(self.scales, 1, random=_random("sample", seed))
        if self.scales[-1].size != self.size:
            out = upscale(out, self.size)  # [1, C, h, w] -> [1, C, H, W]
        image, mask = out[0, :-1], out[0, -1]  # [1, C, H, W] -> [C - 1, H, W] and [H, W]
        pixels = ((image + 1.0) * 127.5).round().clamp(0.0, 255.0).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        lesion = np.where(mask.numpy() > 0.0, 255, 0).astype(np.uint8)
        return Pair(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels, lesion)

    def save(self, path: Path) -> None:
        """Writes the generators' weights as safetensors, readable by the owner only; whole or not at all."""
        tensors = {
            f"{index}.{name}": tensor.contiguous()
            for index, scale in enumerate(self.scales)
            for name, tensor in scale.generator.state_dict().items()
        }
        description = {
            "format": _FORMAT,
            "preset": self.preset,
            "size": self.size,
            "scales": [
                {
                    "size": scale.size,
                    "amplitude": scale.amplitude,
                    "channels": scale.generator.config.channels,
                    "width": scale.generator.config.width,
                    "norm": scale.generator.config.norm,
                }
                for scale in self.scales
            ],
        }
        write_private(path, safetensors.torch.save(tensors, {"synthward": json.dumps(description, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> SinGanSeg:
        """The generator as it was saved. Raises SynthwardError storage.damaged, and FileNotFoundError."""
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                description = json.loads((file.metadata() or {})["synthward"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if description["format"] != _FORMAT:
                raise ValueError(f"format {description['format']!r} is not {_FORMAT!r}")
            scales = tuple(_restored(index, entry, tensors) for index, entry in enumerate(description["scales"]))
            height, width = description["size"]
            return cls(str(description["preset"]), (int(height), int(width)), scales)
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise SynthwardError(
                "storage.damaged",
                f"{path} is not a generator that this version can read ({error})",
                why="a generator that is not what was saved draws something else",
                do="remove the file and train the case again",
            ) from error


def train_case(
    pair: Pair, preset: Preset, *, seed: int, on_scale: Callable[[int, int], None] | None = None
) -> SinGanSeg:
    """Fits a pyramid to one case; the same pair, preset and seed give the same weights on one thread.

    on_scale is called after each scale with how many are done and how many there are. Raises SynthwardError
    training.diverged, and ValueError where a side is too short for the critic's 11 px.
    """
    size: Size = (pair.mask.shape[0], pair.mask.shape[1])
    sizes = scale_sizes(
        size,
        factor=preset.factor,
        shortest_px=preset.shortest_px,
        longest_px=preset.longest_px,
        max_scales=preset.max_scales,
    )
    if min(sizes[0]) < RECEPTIVE_FIELD_PX:
        raise ValueError(f"a pair of {size} px has a scale of {sizes[0]}: the critic needs {RECEPTIVE_FIELD_PX} px")
    whole = _as_tensor(pair)
    # The image's bytes go into the seed: who holds the generator and knows the seed cannot draw z* again.
    random = _random("train", seed, pair.image.tobytes(), pair.mask.tobytes())
    scales: list[Scale] = []
    critic: Critic | None = None
    rebuilt: Tensor | None = None  # the finest reconstruction so far, [1, C, h, w]

    for index, scale_size in enumerate(sizes):
        # [1, C, H, W] -> [1, C, h, w]; bicubic may overshoot
        real = F.interpolate(whole, scale_size, mode="bicubic", antialias=True, align_corners=False).clamp(-1.0, 1.0)
        noise, target = _target(real, rebuilt, preset.noise_share, random)
        generator, critic = _networks(index, real.shape[1], preset, scales, critic, random)
        train_scale(generator, critic, target, scales, preset, random)
        generator.eval().requires_grad_(False)
        scales.append(Scale(scale_size, generator, target.amplitude))
        rebuilt = grow(rebuilt, scales[-1], noise)  # [1, C, h, w] -> [1, C, H, W]
        if not bool(torch.isfinite(rebuilt).all()):
            raise diverged(f"the reconstruction at scale {index} is not finite")
        if on_scale is not None:
            on_scale(index + 1, len(sizes))
    return SinGanSeg(preset.name, size, tuple(scales))


def _target(real: Tensor, rebuilt: Tensor | None, share: float, random: torch.Generator) -> tuple[Tensor, Target]:
    """The reconstruction noise of a scale, [1, C, H + 10, W + 10], and its target: z* at the coarsest, then zeros."""
    channels, size = real.shape[1], (real.shape[2], real.shape[3])
    if rebuilt is None:
        noise = draw_noise(1, channels, size, coarsest=True, random=random)
        return noise, Target(real, noise, torch.zeros_like(real), 1.0)
    base = upscale(rebuilt, size)  # [1, C, h, w] -> [1, C, H, W]
    noisy = pad(base)  # [1, C, H, W] -> [1, C, H + 10, W + 10]
    amplitude = share * float((base - real).square().mean().sqrt())
    return torch.zeros_like(noisy), Target(real, noisy, base, amplitude)


def _networks(
    index: int, channels: int, preset: Preset, scales: list[Scale], critic: Critic | None, random: torch.Generator
) -> tuple[ScaleGenerator, Critic]:
    """Generator and critic of a scale; they start from the previous scale's weights where the widths match."""
    width = preset.width_of(index)
    generator = ScaleGenerator(BlockConfig(channels, width, preset.generator_norm), random)
    fresh_critic = Critic(BlockConfig(channels, width, preset.critic_norm), random)
    if critic is not None and preset.width_of(index - 1) == width:
        generator.load_state_dict(scales[-1].generator.state_dict())
        fresh_critic.load_state_dict(critic.state_dict())
    if index > 0 and preset.quiet_start:
        generator.start_as_plain_upscaling()
    return generator, fresh_critic


def _as_tensor(pair: Pair) -> Tensor:
    """The pair as float [1, C, H, W] in [-1, 1], the mask the last channel."""
    stacked = np.dstack([pair.image, pair.mask]).astype(np.float32) / 127.5 - 1.0  # -> [H, W, C]
    return torch.from_numpy(stacked).permute(2, 0, 1)[None].contiguous()  # [H, W, C] -> [1, C, H, W]


def _random(purpose: str, seed: int, *secrets: bytes) -> torch.Generator:
    """A stream of its own for each purpose, so that sampling with the training's seed does not draw z* again."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode())
    for secret in secrets:
        digest.update(hashlib.sha256(secret).digest())
    return torch.Generator().manual_seed(int.from_bytes(digest.digest()[:8], "big", signed=True))


def _restored(index: int, entry: dict[str, Any], tensors: dict[str, Tensor]) -> Scale:
    """One scale from its description and the file's tensors."""
    height, width = entry["size"]
    config = BlockConfig(int(entry["channels"]), int(entry["width"]), entry["norm"])
    generator = ScaleGenerator(config, torch.Generator())
    prefix = f"{index}."
    generator.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    generator.eval().requires_grad_(False)
    return Scale((int(height), int(width)), generator, float(entry["amplitude"]))
