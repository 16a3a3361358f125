"""The loop that fits one scale of a cohort's generator: critic and generator by turns, on batches.

The loss is R3GAN's: relativistic pairing, with zero-centred gradient penalties on real and drawn pairs alike (Huang,
Gokaslan, Kuleshov and Tompkin, "The GAN is dead; long live the GAN!", NeurIPS 2024, eqs. 2 and 5). The penalties are
taken at each n-th step, n times as strong (Karras et al. 2020). What is kept is the average of the generator's weights
over the steps, since the weights themselves never settle.

Promise: deterministic for a torch.Generator on one kind of machine; nothing global is read or changed; the state after
a step is all that the next one needs, so a training that was killed goes on to the same weights.
"""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from shared.errors import SynthwardError
from site_node.generators.optimiser_state import moments, restore_moments
from site_node.generators.tensor_file import below

BETAS = (0.0, 0.99)
LAST_RATE = 0.05  # of the learning rate, at the end
VECTOR_SPREAD = 0.1  # of biases, norms and noise amplitudes


@dataclass(frozen=True)
class Schedule:
    """How long and how fast one scale is trained.

    learning_rate: of a weight, relative to the spread that it starts with (see _equalised); penalty: the weight of the
    zero-centred gradient penalties; reconstruction: the weight of the mean absolute error against the real image that
    a base came from, 0 where only the critic may see real images; average: share of the averaged weights that a step
    keeps.
    """

    steps: int
    batch: int
    learning_rate: float
    penalty: float
    penalty_every: int
    reconstruction: float = 0.0
    average: float = 0.998


@dataclass(frozen=True)
class Batch:
    """Real pairs float [N, C, H, W] in [-1, 1], and the coarser pairs that they would grow from, for finer scales."""

    real: Tensor
    base: Tensor | None


class Problem(Protocol):
    """One scale, as the loop sees it."""

    def batch(self, count: int, random: torch.Generator) -> Batch:
        """Real pairs to learn from."""

    def draw(self, generator: nn.Module, count: int, base: Tensor | None, random: torch.Generator) -> Tensor:
        """Pairs drawn by the generator, [N, C, H, W]; differentiable."""

    def shown(self, pairs: Tensor, random: torch.Generator) -> Tensor:
        """The pairs as the critic sees them: augmented, differentiably, real and drawn ones alike."""


class Training:
    """One scale's training: networks, optimisers, and how many steps are done."""

    def __init__(self, generator: nn.Module, critic: nn.Module, schedule: Schedule, *, device: str = "cpu") -> None:
        self.schedule = schedule
        self.device = torch.device(device)
        self.generator = generator.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.critic = critic.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: tensor.detach().clone() for name, tensor in self.generator.state_dict().items()}
        self.generator_optimiser, self.critic_optimiser = (
            torch.optim.Adam(_equalised(network), schedule.learning_rate, BETAS, fused=True)
            for network in (self.generator, self.critic)
        )
        self.done = 0

    def step(self, problem: Problem, random: torch.Generator) -> None:
        """One step of the critic and one of the generator. Raises training.diverged."""
        rate = self.schedule.learning_rate * rate_share(self.done, self.schedule.steps)
        for optimiser in (self.generator_optimiser, self.critic_optimiser):
            for group in optimiser.param_groups:
                group["lr"] = rate * group["spread"]
        batch = problem.batch(self.schedule.batch, random)
        seen = self._critic_step(problem, batch, random)
        self._generator_step(problem, batch, seen, random)
        self.done += 1
        # Early on the average would be one of beginnings: it starts short and grows.
        keep = min(self.schedule.average, self.done / (self.done + 9))
        for name, tensor in self.generator.state_dict().items():
            self.average[name].lerp_(tensor.detach(), 1.0 - keep)

    def _critic_step(self, problem: Problem, batch: Batch, random: torch.Generator) -> Tensor:
        """Returns the real pairs as the critic saw them."""
        with torch.no_grad(), self._half():
            drawn = problem.draw(self.generator, len(batch.real), batch.base, random).float()
        real, fake = problem.shown(batch.real, random), problem.shown(drawn, random)
        if self.done % self.schedule.penalty_every == 0:
            real, fake = real.requires_grad_(True), fake.requires_grad_(True)
            of_real, of_fake = self.critic(real, batch.base), self.critic(fake, batch.base)  # [N], [N]
            strength = self.schedule.penalty / 2.0 * self.schedule.penalty_every
            penalty = zero_centred(of_real, real) + zero_centred(of_fake, fake)
            loss = F.softplus(of_fake - of_real).mean() + strength * penalty
            real, fake = real.detach(), fake.detach()
        else:
            base = None if batch.base is None else torch.cat([batch.base, batch.base])
            with self._half():
                of_real, of_fake = self.critic(torch.cat([real, fake]), base).chunk(2)  # [2 N] -> [N], [N]
            loss = F.softplus(of_fake - of_real).mean()
        self._descend(self.critic_optimiser, loss)
        return real

    def _generator_step(self, problem: Problem, batch: Batch, seen: Tensor, random: torch.Generator) -> None:
        self.critic.requires_grad_(False)  # its gradients are not wanted here, and cost a third of the step
        with self._half():
            drawn = problem.draw(self.generator, len(batch.real), batch.base, random)
            of_fake = self.critic(problem.shown(drawn.float(), random), batch.base)
            with torch.no_grad():
                of_real = self.critic(seen, batch.base)
        loss = F.softplus(of_real - of_fake).mean()
        if self.schedule.reconstruction:
            loss = loss + self.schedule.reconstruction * (drawn.float() - batch.real).abs().mean()
        self._descend(self.generator_optimiser, loss)
        self.critic.requires_grad_(True)

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
        if not math.isfinite(loss.item()):
            raise SynthwardError(
                "training.diverged",
                f"a loss was no longer finite at step {self.done + 1} of {self.schedule.steps}",
                why="such a generator draws nothing of use",
                do="it is tried again with half the rate; if that fails too, choose another preset",
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def _half(self) -> AbstractContextManager[Any]:
        """bfloat16 for convolutions where the processor has it: half the time or less. Weights stay float32."""
        if self.device.type == "cpu" and not has_bfloat16():
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def state(self) -> dict[str, Tensor]:
        """All that the next step needs besides the random state, by name."""
        state = {f"average.{name}": tensor for name, tensor in self.average.items()}
        for part, network in (("generator", self.generator), ("critic", self.critic)):
            state |= {f"{part}.{name}": tensor for name, tensor in network.state_dict().items()}
        for part, optimiser in (("of-generator", self.generator_optimiser), ("of-critic", self.critic_optimiser)):
            state |= {f"{part}.{name}": tensor for name, tensor in moments(optimiser).items()}
        return state

    def restore(self, state: dict[str, Tensor], done: int) -> None:
        """Goes on from the state after `done` steps. Raises KeyError, RuntimeError or ValueError for another's."""
        self.generator.load_state_dict(below(state, "generator"))
        self.critic.load_state_dict(below(state, "critic"))
        self.average = {name: tensor.to(self.device) for name, tensor in below(state, "average").items()}
        restore_moments(self.generator_optimiser, below(state, "of-generator"))
        restore_moments(self.critic_optimiser, below(state, "of-critic"))
        self.done = done


def _equalised(network: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups whose rate is in proportion to the spread that He's initialisation gives each weight.

    Adam moves every weight by about its rate. Wide layers start with small weights, so that at one rate for all they
    would change several times as fast as narrow ones, and a critic's head fastest: what broke these trainings. In
    effect the equalised learning rate of Karras et al. (ICLR 2018).
    """
    return [
        {"params": [p], "spread": math.sqrt(2.0 / p[0].numel()) if p.ndim > 1 else VECTOR_SPREAD}
        for p in network.parameters()
    ]


def rate_share(step: int, steps: int) -> float:
    """Share of the learning rate: 1 for the first half, then a line down to LAST_RATE."""
    return LAST_RATE + (1.0 - LAST_RATE) * min(1.0, 2.0 * (1.0 - step / steps))


def zero_centred(scores: Tensor, points: Tensor) -> Tensor:
    """Mean over the batch of |d score / d point|^2, R1 on real points and R2 on drawn: [N], [N, C, H, W] -> scalar."""
    (gradient,) = torch.autograd.grad(scores.sum(), points, create_graph=True)
    penalty: Tensor = gradient.square().sum((1, 2, 3)).mean()
    return penalty


def has_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16; elsewhere it would be emulated, and slower than float32."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
