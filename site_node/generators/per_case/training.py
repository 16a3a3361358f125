"""Trains one scale of a SinGAN-Seg pyramid: WGAN-GP and reconstruction, critic and generator by turns.

Promise: deterministic for a given torch.Generator on one thread; nothing global is read or changed; coarser scales are
drawn without gradients, as floats; a loss that is not finite ends the training with training.diverged; a training that
was taken up from its state goes on as if it had never stopped, bit for bit.

The losses are SinGAN's (Shaham et al. 2019): Wasserstein with gradient penalty (Gulrajani et al. 2017), the penalty's
norm taken over the channels at each pixel, plus the squared error of the reconstruction from one fixed noise z*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import SynthwardError
from site_node.generators.optimiser_state import moments, restore_moments
from site_node.generators.per_case.penalty import gradient_penalty
from site_node.generators.per_case.presets import Preset
from site_node.generators.per_case.pyramid import PAD_PX, Critic, Scale, ScaleGenerator, draw, draw_noise, pad
from site_node.generators.scaling import upscale
from site_node.generators.tensor_file import below

DRAWN_AT_ONCE = 8  # of a bank: bounds the memory that drawing takes
_MOMENTUM = 0.1  # of BatchNorm's running statistics, PyTorch's and the authors'


@dataclass(frozen=True)
class Target:
    """What one scale learns. All of it is the patient's and is forgotten after training.

    real: [1, C, H, W]; rebuilt_noisy: [1, C, H + 10, W + 10], the generator's input that shall give `real`;
    rebuilt_base: [1, C, H, W], the upscaled reconstruction of the coarser scale; amplitude: of the scale's noise.
    Their device and precision are those of the training.
    """

    real: Tensor
    rebuilt_noisy: Tensor
    rebuilt_base: Tensor
    amplitude: float


@dataclass(frozen=True)
class Losses:
    """One iteration's. critic: of each critic step, with the weighted penalty; rebuilt: squared error, not weighted."""

    critic: tuple[float, ...]
    adversarial: float
    rebuilt: float


class ScaleTraining:
    """One scale's training, iteration by iteration. `step` iterations of `steps` are done."""

    def __init__(
        self,
        generator: ScaleGenerator,
        critic: Critic,
        target: Target,
        coarser: Sequence[Scale],
        preset: Preset,
        random: torch.Generator,
    ) -> None:
        """Trains the networks in place; draws the bank of coarser outputs at once, if the preset has one."""
        self.generator, self.critic = generator.train(), critic.train()
        self.step, self.steps = 0, preset.iterations_of(len(coarser))
        self._target, self._coarser, self._preset, self._random = target, coarser, preset, random
        self._size = (target.real.shape[2], target.real.shape[3])
        # fused: one kernel for all parameters; at these sizes the loop over them costs as much as a critic's pass.
        self._optimisers = {
            "critic": torch.optim.Adam(critic.parameters(), preset.learning_rate, preset.betas, fused=True),
            "generator": torch.optim.Adam(generator.parameters(), preset.learning_rate, preset.betas, fused=True),
        }
        self._bank_start = random.get_state()
        self._bank = _bank(coarser, preset.bank, random)

    @property
    def ended(self) -> bool:
        """Whether all iterations are done."""
        return self.step >= self.steps

    def advance(self) -> Losses:
        """One iteration: the critic's steps, then the generator's one.

        Raises SynthwardError training.diverged when a loss is no longer finite.
        """
        preset, target = self._preset, self._target
        decayed = self.step >= math.floor(self.steps * preset.decay_at)
        for optimiser in self._optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = preset.learning_rate * (preset.decay_factor if decayed else 1.0)

        critic_losses = []
        noise = self._noise() if preset.one_noise else None
        for turn in range(preset.critic_steps):
            window = _Window.draw(self._size, preset.crop_px, self._random)
            noisy, base = self._fake_input(noise)
            # Gradients only where the generator's step will use them.
            with torch.set_grad_enabled(preset.reuse_fake and turn == preset.critic_steps - 1):
                fake = self.generator(window.cut_padded(noisy), window.cut(base))  # -> [1, C, c, c]
            critic_losses.append(self._critic_step(window.cut(target.real), fake.detach(), turn))

        if not preset.reuse_fake:
            window = _Window.draw(self._size, preset.crop_px, self._random)
            noisy, base = self._fake_input(noise)
            fake = self.generator(window.cut_padded(noisy), window.cut(base))
        adversarial, rebuilt = self._generator_step(fake, window)
        self.step += 1
        return Losses(tuple(critic_losses), adversarial, rebuilt)

    def _critic_step(self, real: Tensor, fake: Tensor, turn: int) -> float:
        """real, fake: [1, C, c, c]."""
        preset = self._preset
        self._optimisers["critic"].zero_grad(set_to_none=True)
        # Each part is gone through backwards before the next is made: a third of the memory of doing all at once.
        loss = self._backward(self.critic(fake).mean()) + self._backward(-self.critic(real).mean())
        if (self.step * preset.critic_steps + turn) % preset.penalty_every == 0:
            share = torch.rand(1, 1, 1, 1, generator=self._random).to(real)
            penalty = gradient_penalty(self.critic, share * real + (1.0 - share) * fake)
            loss += self._backward(preset.penalty_weight * preset.penalty_every * penalty)
        self._optimisers["critic"].step()
        return loss

    def _generator_step(self, fake: Tensor, window: _Window) -> tuple[float, float]:
        """fake: [1, C, c, c], with its graph. Returns the adversarial loss and the squared error of the rebuilding."""
        preset, target = self._preset, self._target
        self._optimisers["generator"].zero_grad(set_to_none=True)
        self.critic.requires_grad_(False)  # its gradients are not wanted here, and cost a third of its pass
        adversarial = self._backward(-self.critic(fake).mean())
        self.critic.requires_grad_(True)
        with _counted_as(preset.rebuilt_passes, self.generator):
            rebuilt = self.generator(window.cut_padded(target.rebuilt_noisy), window.cut(target.rebuilt_base))
        error = F.mse_loss(rebuilt, window.cut(target.real))
        self._backward(preset.reconstruction_weight * error)
        self._optimisers["generator"].step()
        return adversarial, error.item()

    def _backward(self, loss: Tensor) -> float:
        value = loss.item()
        if not math.isfinite(value):
            raise diverged(f"a loss was no longer finite at scale {len(self._coarser)}, iteration {self.step}")
        loss.backward()  # type: ignore[no-untyped-call]
        return value

    def _noise(self) -> Tensor:
        """[1, C, H + 10, W + 10], scaled by the amplitude."""
        channels = self._target.real.shape[1]
        noise = draw_noise(1, channels, self._size, coarsest=not self._coarser, random=self._random)
        return self._target.amplitude * noise.to(self._target.real)

    def _fake_input(self, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        """The generator's noisy input, [1, C, H + 10, W + 10], on a coarser output, and that output, [1, C, H, W]."""
        if noise is None:
            noise = self._noise()
        if not self._coarser:
            return noise, torch.zeros_like(self._target.real)
        if self._bank is None:
            drawn = draw(self._coarser, 1, random=self._random)  # [1, C, h, w]
        else:
            index = int(torch.randint(len(self._bank), (1,), generator=self._random))
            drawn = self._bank[index : index + 1]
        base = upscale(drawn, self._size)  # [1, C, h, w] -> [1, C, H, W]
        return pad(base) + noise, base

    def state(self) -> dict[str, Tensor]:
        """All that a training needs to go on from here, on the CPU; neither the image nor z* is part of it."""
        state = {"step": torch.tensor(self.step), "random": self._random.get_state(), "bank_start": self._bank_start}
        networks: dict[str, nn.Module] = {"critic": self.critic, "generator": self.generator}
        for name, network in networks.items():
            state |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
            state |= {f"{name}_adam.{key}": value for key, value in moments(self._optimisers[name]).items()}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Goes back to where `state` was taken. Raises KeyError, ValueError or RuntimeError where it does not fit."""
        self._random.set_state(state["bank_start"])
        self._bank_start = state["bank_start"]
        self._bank = _bank(self._coarser, self._preset.bank, self._random)
        networks: dict[str, nn.Module] = {"critic": self.critic, "generator": self.generator}
        for name, network in networks.items():
            network.load_state_dict(below(state, name))
            restore_moments(self._optimisers[name], below(state, f"{name}_adam"))
        self._random.set_state(state["random"])
        self.step = int(state["step"])


def diverged(what: str) -> SynthwardError:
    """The error of a training that has nothing to show; `what` says where."""
    return SynthwardError(
        "training.diverged",
        what,
        why="such a generator draws nothing of use, and the case's other scales would be built on it",
        do="train the case again with another seed, or set it aside",
    )


@contextmanager
def _counted_as(passes: int, generator: ScaleGenerator) -> Iterator[None]:
    """Within, one pass moves BatchNorm's running statistics as far as `passes` equal ones would."""
    norms = [layer for layer in generator.trunk.layers if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0 - (1.0 - _MOMENTUM) ** passes
    try:
        yield
    finally:
        for norm in norms:
            norm.momentum = _MOMENTUM


def _bank(coarser: Sequence[Scale], count: int | None, random: torch.Generator) -> Tensor | None:
    """Coarser outputs to pick from, [count, C, h, w]; None where there is none, or each step draws its own."""
    if count is None or not coarser:
        return None
    sizes = [min(DRAWN_AT_ONCE, count - start) for start in range(0, count, DRAWN_AT_ONCE)]
    return torch.cat([draw(coarser, size, random=random) for size in sizes])


@dataclass(frozen=True)
class _Window:
    """A crop; exact, since generators pad nothing: the crop of the input, with its margin, gives that of the output."""

    top: int
    left: int
    height: int
    width: int

    @classmethod
    def draw(cls, size: tuple[int, int], crop_px: int | None, random: torch.Generator) -> _Window:
        if crop_px is None or crop_px >= max(size):
            return cls(0, 0, *size)
        height, width = (min(side, crop_px) for side in size)
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
