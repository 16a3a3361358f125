"""Trains one scale of a SinGAN-Seg pyramid: WGAN-GP and reconstruction, critic and generator by turns.

Promise: deterministic for a given torch.Generator on one thread; nothing global is read or changed; coarser scales are
drawn without gradients, as floats; a loss that is not finite ends the training with training.diverged.

The losses are SinGAN's (Shaham et al. 2019): Wasserstein with gradient penalty (Gulrajani et al. 2017), the penalty's
norm taken over the channels at each pixel, plus the squared error of the reconstruction from one fixed noise z*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from shared.errors import SynthwardError
from site_node.generators.presets import Preset
from site_node.generators.pyramid import PAD_PX, Critic, Scale, ScaleGenerator, draw, draw_noise, pad, upscale

_DRAWN_AT_ONCE = 8  # of a bank: bounds the memory that drawing takes


@dataclass(frozen=True)
class Target:
    """What one scale learns. All of it is the patient's and is forgotten after training.

    real: [1, C, H, W]; rebuilt_noisy: [1, C, H + 10, W + 10], the generator's input that shall give `real`;
    rebuilt_base: [1, C, H, W], the upscaled reconstruction of the coarser scale; amplitude: of the scale's noise.
    """

    real: Tensor
    rebuilt_noisy: Tensor
    rebuilt_base: Tensor
    amplitude: float


def train_scale(
    generator: ScaleGenerator,
    critic: Critic,
    target: Target,
    coarser: Sequence[Scale],
    preset: Preset,
    random: torch.Generator,
) -> None:
    """Trains generator and critic in place, preset.iterations_of(len(coarser)) times.

    Raises SynthwardError training.diverged when a loss is no longer finite.
    """
    index = len(coarser)
    size = (target.real.shape[2], target.real.shape[3])
    iterations = preset.iterations_of(index)
    optimisers = [
        # fused: one kernel for all parameters; at these sizes the loop over them costs as much as a critic's pass.
        torch.optim.Adam(network.parameters(), preset.learning_rate, preset.betas, fused=True)
        for network in (critic, generator)
    ]
    critic_optimiser, generator_optimiser = optimisers
    coarse = _coarse_source(coarser, preset.bank, random)
    channels = target.real.shape[1]

    def fake_input() -> tuple[Tensor, Tensor]:
        noise = target.amplitude * draw_noise(1, channels, size, coarsest=index == 0, random=random)
        base = torch.zeros_like(target.real) if index == 0 else upscale(coarse(), size)  # [1, C, h, w] -> [1, C, H, W]
        return pad(base) + noise, base

    critic_steps_done = 0
    for iteration in range(iterations):
        if iteration == math.floor(iterations * preset.decay_at):
            for optimiser in optimisers:
                for group in optimiser.param_groups:
                    group["lr"] *= preset.decay_factor

        for _ in range(preset.critic_steps):
            window = _Window.draw(size, preset.crop_px, random)
            real = window.cut(target.real)  # [1, C, H, W] -> [1, C, c, c]
            noisy, base = fake_input()
            with torch.no_grad():
                fake = generator(window.cut_padded(noisy), window.cut(base))  # -> [1, C, c, c]
            critic_loss = critic(fake).mean() - critic(real).mean()
            if critic_steps_done % preset.penalty_every == 0:
                share = torch.rand(1, 1, 1, 1, generator=random)
                penalty = gradient_penalty(critic, share * real + (1.0 - share) * fake)
                critic_loss = critic_loss + preset.penalty_weight * preset.penalty_every * penalty
            critic_steps_done += 1
            _step(critic_optimiser, critic_loss, index, iteration)

        critic.requires_grad_(False)  # its gradients are not wanted in the generator's steps, and cost a third of them
        for _ in range(preset.generator_steps):
            window = _Window.draw(size, preset.crop_px, random)
            noisy, base = fake_input()
            adversarial = -critic(generator(window.cut_padded(noisy), window.cut(base))).mean()
            rebuilt = generator(window.cut_padded(target.rebuilt_noisy), window.cut(target.rebuilt_base))
            error = F.mse_loss(rebuilt, window.cut(target.real))
            _step(generator_optimiser, adversarial + preset.reconstruction_weight * error, index, iteration)
        critic.requires_grad_(True)


def gradient_penalty(critic: Critic, between: Tensor) -> Tensor:
    """Mean over pixels of (|d sum(critic) / d pixel| - 1)^2, the norm taken over channels: [N, C, H, W] -> scalar.

    between: points on the lines from real to fake images (Gulrajani et al. 2017, eq. 3). Theirs is the norm over the
    whole image; SinGAN's, kept here, is over the channels at each pixel.
    """
    points = between.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    norms = gradient.norm(2, dim=1)  # [N, C, H, W] -> [N, H, W]
    penalty: Tensor = (norms - 1.0).square().mean()
    return penalty


def _step(optimiser: torch.optim.Optimizer, loss: Tensor, scale: int, iteration: int) -> None:
    if not math.isfinite(loss.item()):
        raise diverged(f"a loss was no longer finite at scale {scale}, iteration {iteration}")
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def diverged(what: str) -> SynthwardError:
    """The error of a training that has nothing to show; `what` says where."""
    return SynthwardError(
        "training.diverged",
        what,
        why="such a generator draws nothing of use, and the case's other scales would be built on it",
        do="train the case again with another seed, or set it aside",
    )


def _coarse_source(coarser: Sequence[Scale], bank: int | None, random: torch.Generator) -> Callable[[], Tensor]:
    """Gives a coarser output [1, C, h, w] at each call: drawn anew, or picked from a bank drawn now."""
    if bank is None or not coarser:
        return lambda: draw(coarser, 1, random=random)
    sizes = [min(_DRAWN_AT_ONCE, bank - start) for start in range(0, bank, _DRAWN_AT_ONCE)]
    drawn = torch.cat([draw(coarser, size, random=random) for size in sizes])  # [bank, C, h, w]

    def pick() -> Tensor:
        index = int(torch.randint(bank, (1,), generator=random))
        return drawn[index : index + 1]

    return pick


@dataclass(frozen=True)
class _Window:
    """A crop; exact, since generators pad nothing: the crop of the input, with its margin, gives that of the output."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def draw(cls, size: tuple[int, int], crop_px: int | None, random: torch.Generator) -> _Window:
        height, width = (side if crop_px is None else min(side, crop_px) for side in size)
        top = int(torch.randint(size[0] - height + 1, (1,), generator=random))
        left = int(torch.randint(size[1] - width + 1, (1,), generator=random))
        return cls(top, left, height, width)

    def cut(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, C, height, width]."""
        return x[:, :, self.top : self.top + self.height, self.left : self.left + self.width]

    def cut_padded(self, x: Tensor) -> Tensor:
        """[N, C, H + 10, W + 10] -> [N, C, height + 10, width + 10]."""
        bottom = self.top + self.height + 2 * PAD_PX
        return x[:, :, self.top : bottom, self.left : self.left + self.width + 2 * PAD_PX]
