"""SinGAN-Seg: one pyramid for one case, fitted to its image and masks together, then sampled without end.

A trained generator is patient data: its samples resemble the case they come from, and it never leaves the site. It
holds neither the case's image nor the fixed noise z* that reproduces it: both are forgotten when training ends, z* is
derived from the image's own bytes besides the seed, and no sampling seed leads to it. (The authors' checkpoints hold
both.) Training keeps one pyramid in memory; sampling never changes it.

Thambawita et al., "SinGAN-Seg: Synthetic training data generation for medical image segmentation", PLOS ONE 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels
from site_node.generators.inputs import (
    are_exclusive,
    arrays_of,
    as_arrays,
    as_tensor,
    check_arrays,
    digest,
    stream,
)
from site_node.generators.per_case.checkpoints import Checkpoint, Saved, describe_scales, scale_tensors, scales_from
from site_node.generators.per_case.plan import CasePlan, plan_case
from site_node.generators.per_case.presets import Preset
from site_node.generators.per_case.pyramid import (
    BlockConfig,
    Critic,
    Scale,
    ScaleGenerator,
    draw,
    folded,
    grow,
    pad,
    rebuilding_noise,
)
from site_node.generators.per_case.training import ScaleTraining, Target, diverged
from site_node.generators.progress import Progress
from site_node.generators.scaling import Size, upscale
from site_node.generators.tensor_file import load_generator, write_tensors

_FORMAT = "synthward.singan-seg/2"
_RATES = (1.0, 0.5, 0.25)  # of the preset's learning rate: a training that diverged is tried again at the next
_PROGRESS_STEPS = 25
_COLLAPSED = 0.001  # contrast of a reconstruction over the image's, below which it shows nothing
_FAR_OFF = 2.0  # squared error of a reconstruction over that of doing nothing, above which training did harm
_log = structlog.get_logger("generators")


@dataclass(frozen=True)
class SinGanSeg:
    """A trained pyramid.

    size: (height_px, width_px) of what it draws; channels and classes: of its images and masks; exclusive: no pixel
    belongs to two classes; scales: coarsest first, frozen.
    """

    preset: str
    size: Size
    channels: int
    classes: int
    exclusive: bool
    scales: tuple[Scale, ...]

    def sample(self, seed: int) -> Pair:
        """Draws a pair, the same for the same seed: the image rounded to uint8, the mask cut at one half.

        A mask may come out empty or full: the screening judges that. Raises ValueError where the case was not a pair,
        that is, has other than 1 or 3 channels and one class.
        """
        if self.channels not in (1, 3) or self.classes != 1:
            raise ValueError(f"{self.channels} channels and {self.classes} classes make no pair: use sample_arrays")
        image, masks = self.sample_arrays(seed)
        return Pair(image[:, :, 0] if self.channels == 1 else image, masks[:, :, 0])

    @torch.no_grad()
    def sample_arrays(self, seed: int) -> tuple[Pixels, Pixels]:
        """As sample, for any case: image uint8 [H, W, C], masks uint8 [H, W, K] in {0, 255}."""
        out = draw(self.scales, 1, random=stream("sample", seed))
        if self.scales[-1].size != self.size:
            out = upscale(out, self.size)  # [1, C + K, h, w] -> [1, C + K, H, W]
        return as_arrays(out, self.channels, exclusive=self.exclusive)

    def save(self, path: Path) -> None:
        """Writes the generators' weights as safetensors, readable by the owner only; whole or not at all."""
        description = {
            "format": _FORMAT,
            "preset": self.preset,
            "size": self.size,
            "channels": self.channels,
            "classes": self.classes,
            "exclusive": self.exclusive,
            "scales": describe_scales(self.scales),
        }
        write_tensors(path, description, scale_tensors(self.scales))

    @classmethod
    def load(cls, path: Path) -> SinGanSeg:
        """The generator as it was saved. Raises SynthwardError storage.damaged, and FileNotFoundError."""
        return load_generator(path, _FORMAT, cls._restored)

    @classmethod
    def _restored(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> SinGanSeg:
        height, width = description["size"]
        return cls(
            preset=str(description["preset"]),
            size=(int(height), int(width)),
            channels=int(description["channels"]),
            classes=int(description["classes"]),
            exclusive=bool(description["exclusive"]),
            scales=scales_from(description["scales"], tensors),
        )


def train_case(
    pair: Pair,
    preset: Preset,
    *,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_every_s: float = 60.0,
) -> SinGanSeg:
    """Fits a pyramid to one pair; see train_arrays."""
    image, masks = arrays_of(pair)
    return train_arrays(
        image,
        masks,
        preset,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        on_progress=on_progress,
        checkpoint_every_s=checkpoint_every_s,
    )


def train_arrays(
    image: Pixels,
    masks: Pixels,
    preset: Preset,
    *,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    checkpoint_every_s: float = 60.0,
) -> SinGanSeg:
    """Fits a pyramid to one case; the same case, preset and seed give the same weights on one thread of a CPU.

    image: uint8 [H, W, C]; masks: uint8 [H, W, K] in {0, 255}. checkpoint: where the training's state is kept while it
    lasts, at each scale's start and every checkpoint_every_s seconds; with the same file a killed training goes on to
    the same weights. on_progress is called every 25 iterations and at each scale's end. What is returned lies on the
    CPU.

    A training that diverges is tried again from the start at half and at a quarter of the preset's learning rate.
    Raises SynthwardError training.diverged when the last has diverged too, and, before any training,
    training.too-small, training.constant-image, training.mask-none and training.mask-all.
    """
    check_arrays(image, masks)
    size: Size = (image.shape[0], image.shape[1])
    plan = plan_case(size, image.shape[2] + masks.shape[2], preset)
    secrets = (image.tobytes(), masks.tobytes())
    case = _Case(as_tensor(image, masks).to(device), plan, seed, secrets)
    fingerprint = digest(f"checkpoint {preset} {image.shape} {masks.shape}", seed, *secrets).hex()
    file = Checkpoint(checkpoint, fingerprint, checkpoint_every_s)

    saved = file.read()
    attempt = saved.attempt if saved else 0
    while True:
        slowed = replace(preset, learning_rate=preset.learning_rate * _RATES[attempt])
        try:
            scales = _train_scales(case, slowed, attempt, file, saved, on_progress)
            break
        except SynthwardError as error:
            if error.code != "training.diverged":
                raise
            attempt += 1
            if attempt == len(_RATES):
                file.remove()
                raise
            _log.warning("a training diverged and is tried again at a lower rate", attempt=attempt)
            saved = None
    return SinGanSeg(preset.name, size, image.shape[2], masks.shape[2], are_exclusive(masks), scales)


@dataclass(frozen=True)
class _Case:
    """whole: [1, C, H, W], on the training's device and in its precision; secrets: the bytes that it was made from."""

    whole: Tensor
    plan: CasePlan
    seed: int
    secrets: tuple[bytes, bytes]

    def real(self, size: Size) -> Tensor:
        """The case at a scale's size: [1, C, H, W] -> [1, C, h, w]; clipped, since bicubic may overshoot."""
        return F.interpolate(self.whole, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1.0, 1.0)


def _train_scales(
    case: _Case,
    preset: Preset,
    attempt: int,
    file: Checkpoint,
    saved: Saved | None,
    on_progress: Callable[[Progress], None] | None,
) -> tuple[Scale, ...]:
    """Trains all scales, coarsest first, or those that `saved` leaves to be trained."""
    channels = case.whole.shape[1]
    # The image's bytes go into the seed: who holds the generator and knows the seed cannot draw z* again.
    random = stream("train", case.seed, *case.secrets)
    noise = rebuilding_noise(channels, case.plan.scales[0], case.seed, *case.secrets).to(case.whole)
    scales: list[Scale] = []
    rebuilt: Tensor | None = None  # the finest reconstruction so far, [1, C, h, w]
    for scale in saved.scales if saved else ():
        scales.append(replace(scale, generator=scale.generator.to(case.whole)))
        rebuilt, noise = grow(rebuilt, scales[-1], noise), _no_noise(case, len(scales))
    training: ScaleTraining | None = None

    while len(scales) < len(case.plan.scales):
        index, size = len(scales), case.plan.scales[len(scales)]
        target = _target(case.real(size), rebuilt, noise, preset.noise_share)
        generator, critic = _networks(index, case.whole, preset, training, random)
        training = ScaleTraining(generator, critic, target, scales, preset, random)
        if saved is not None:
            training.restore(saved.training)
            saved = None
        else:
            file.write(Saved(attempt, tuple(scales), training.state()))
        while not training.ended:
            training.advance()
            if file.due():
                file.write(Saved(attempt, tuple(scales), training.state()))
            if on_progress is not None and (training.step % _PROGRESS_STEPS == 0 or training.ended):
                on_progress(case.plan.progress(index, training.step, training.steps))
        scales.append(Scale(size, folded(generator), target.amplitude))
        rebuilt, noise = grow(rebuilt, scales[-1], noise), _no_noise(case, index + 1)
        _refuse_ruins(rebuilt, target, index)
    return tuple(replace(scale, generator=scale.generator.cpu()) for scale in scales)


def _no_noise(case: _Case, index: int) -> Tensor:
    """Finer scales are rebuilt without noise: [1, C, H + 10, W + 10] of scale `index`, or of the last."""
    size = case.plan.scales[min(index, len(case.plan.scales) - 1)]
    return pad(case.whole.new_zeros(1, case.whole.shape[1], *size))


def _target(real: Tensor, rebuilt: Tensor | None, noise: Tensor, share: float) -> Target:
    """A scale's target. real: [1, C, H, W]; rebuilt: the coarser reconstruction, if any; noise: z* if there is none."""
    if rebuilt is None:
        return Target(real, noise, torch.zeros_like(real), 1.0)
    base = upscale(rebuilt, (real.shape[2], real.shape[3]))  # [1, C, h, w] -> [1, C, H, W]
    amplitude = share * float((base - real).square().mean().sqrt())
    return Target(real, pad(base), base, amplitude)


def _networks(
    index: int, like: Tensor, preset: Preset, before: ScaleTraining | None, random: torch.Generator
) -> tuple[ScaleGenerator, Critic]:
    """Generator and critic of a scale; they start from the previous scale's weights where the widths match."""
    channels, width = like.shape[1], preset.width_of(index)
    generator = ScaleGenerator(BlockConfig(channels, width, preset.generator_norm), random).to(like)
    critic = Critic(BlockConfig(channels, width, preset.critic_norm), random).to(like)
    if before is not None and before.generator.config.width == width:
        generator.load_state_dict(before.generator.state_dict())
        critic.load_state_dict(before.critic.state_dict())
    if index > 0 and preset.quiet_start:
        generator.start_as_plain_upscaling()
    return generator, critic


def _refuse_ruins(rebuilt: Tensor, target: Target, index: int) -> None:
    """Raises training.diverged where a reconstruction, [1, C, H, W], shows that its scale's training came to nothing.

    That is, where it is not finite, has no contrast, or is much further from the image than both the coarser scale's
    upscaling (grey at the coarsest) and a flat picture of the mean colours.
    """
    if not bool(torch.isfinite(rebuilt).all()):
        raise diverged(f"the reconstruction at scale {index} is not finite")
    real = target.real
    if float(rebuilt.std(dim=(2, 3)).max()) < _COLLAPSED * float(real.std(dim=(2, 3)).max()):
        raise diverged(f"the reconstruction at scale {index} is one colour everywhere")
    nothing = max(float(F.mse_loss(target.rebuilt_base, real)), float(real.var(dim=(2, 3)).mean()))
    if float(F.mse_loss(rebuilt, real)) > _FAR_OFF * nothing:
        raise diverged(f"the reconstruction at scale {index} is further from the image than no training at all")
