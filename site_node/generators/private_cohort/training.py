"""Teaches a refiner of public scenes from patients, through a critic that alone reads them, under the mechanism.

    public    the critic learns to tell scenes from recoloured scenes; nobody's image is read
    private   at most 1,200 steps: the critic under the mechanism, then the refiner by the critic's word

Promise: patients' pixels reach nothing but PrivateCritic.step. Every number in a preset is public. The result depends
on secret noise, so that no seed gives it twice; the seed decides what is public of it. What a checkpoint keeps was
noised or public before; the source of the noise is never in it, and a training that goes on takes a new one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from shared.augment import turn
from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.dp.critic_step import Mechanism, PrivateCritic, wasserstein
from site_node.dp.noise import Chance
from site_node.dp.tainted import PrivateTensor, private
from site_node.generators.cohort.adversarial import BETAS, rate_share, zero_centred
from site_node.generators.cohort.networks import DetailGenerator
from site_node.generators.inputs import stream
from site_node.generators.optimiser_state import moments, restore_moments
from site_node.generators.private_cohort.checkpoint import PrivateCheckpoint
from site_node.generators.private_cohort.generator import (
    PrivateCohortGenerator,
    Spent,
    refined,
    refiner_of,
    shrunk,
    stacked,
)
from site_node.generators.private_cohort.networks import SmallCritic
from site_node.generators.private_cohort.presets import MOST_STEPS, PrivatePreset
from site_node.generators.private_cohort.prior import Prior, check_size
from site_node.generators.progress import Progress
from site_node.generators.tensor_file import below

_TOLD_EVERY = 25
_RECOLOURED = 0.3  # largest change of a channel in the public phase, in units of half the range
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Privacy:
    """What the private steps may spend. sigma 0 keeps nothing private: for tests and for audits that must find a leak.

    sigma: noise over clip; clip: of a patient's gradient; q: probability of a patient in a step; steps: at most 1,200.
    """

    sigma: float
    clip: float
    q: float
    steps: int

    def __post_init__(self) -> None:
        if not 0 < self.steps <= MOST_STEPS:
            raise ValueError(f"{self.steps} private steps: 1 to {MOST_STEPS} are allowed")


def train_private_cohort(
    cases_by_patient: Sequence[Sequence[Pair]],
    preset: PrivatePreset,
    privacy: Privacy,
    prior: Prior,
    *,
    seed: int,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
    chance: Chance | None = None,
    checkpoint: PrivateCheckpoint | None = None,
) -> PrivateCohortGenerator:
    """A generator of pairs of the prior's size, back on the CPU.

    cases_by_patient: of each patient at least one pair, all squares with the prior's channels. The caller has charged
    the account before the call. checkpoint: written after every private step, so that a training that was killed does
    at most one of them again; without one, a second call is a second training, to be charged anew.
    on_progress is called every 25 steps. Raises training.none, training.too-small and training.diverged.
    """
    check_size(prior.size_px)
    patients = [_images(cases, prior, preset.critic_px) for cases in cases_by_patient]
    if not patients:
        raise SynthwardError("training.none", "there is no patient to learn from", do="import patients")
    mechanism = Mechanism(privacy.sigma, privacy.clip, privacy.q, len(patients))
    run = _Run(preset, prior, seed, device, on_progress, privacy.steps)
    begun, state = checkpoint.read() if checkpoint is not None else (0, {})
    if not begun:
        run.pretrain()
    run.train(patients, mechanism, chance, checkpoint, begun, state)
    spent = Spent(
        "training", "poisson-sampled-gaussian", privacy.sigma, privacy.q, privacy.steps, privacy.clip, len(patients)
    )
    refiner = refiner_of(run.refiner.channels, run.refiner.width, {k: v.cpu() for k, v in run.average.items()})
    return PrivateCohortGenerator(preset.name, prior, preset.critic_px, refiner, (spent,))


def _images(cases: Sequence[Pair], prior: Prior, size_px: int) -> PrivateTensor:
    """A patient's pairs as the critic sees them: [n, C + 1, s, s], marked as private."""
    if not cases:
        raise ValueError("each patient has one pair or more")
    small = []
    for pair in cases:  # one at a time at its full size
        if pair.channels != prior.channels or len(set(pair.mask.shape)) > 1:
            raise ValueError("pairs are squares with the prior's channels")
        small.append(shrunk(stacked([pair]), min(size_px, prior.size_px)))
    return private(torch.cat(small))


class _Run:
    """The networks of one training, and what is public of its steps."""

    def __init__(
        self, preset: PrivatePreset, prior: Prior, seed: int, device: str, on_progress: OnProgress | None, steps: int
    ) -> None:
        self._preset, self._on_progress, self._steps = preset, on_progress, steps
        self._device = torch.device(device)
        self._random = stream("train-private-cohort", seed)
        self._px = min(preset.critic_px, prior.size_px)
        self._scenes = shrunk(stacked(prior.draw(preset.scenes, self._random)), self._px)  # [M, C + 1, s, s]
        channels = prior.channels + 1
        self._shape = (channels, self._px, self._px)
        self.refiner = DetailGenerator(channels, preset.refiner_width, self._random).to(self._device)
        self.critic = SmallCritic(channels, (self._px, self._px), preset.critic_widths, self._random).to(self._device)
        self.average = {name: tensor.detach().clone() for name, tensor in self.refiner.state_dict().items()}

    def pretrain(self) -> None:
        """The critic's first steps: scenes against the same scenes with other colours."""
        optimiser = torch.optim.Adam(self.critic.parameters(), self._preset.critic_rate, BETAS)
        for step in range(self._preset.public_steps):
            real, drawn = self._base(), self._base()
            change = torch.rand(len(drawn), drawn.shape[1], 1, 1, generator=self._random) * 2.0 - 1.0
            change[:, -1] = 0.0  # the masks stay
            drawn = (drawn + _RECOLOURED * change.to(self._device)).clamp(-1.0, 1.0)
            loss = self.critic(drawn).mean() - self.critic(real).mean() + self._penalty(drawn)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            self._tell(0, step + 1, self._preset.public_steps)

    def train(
        self,
        patients: Sequence[PrivateTensor],
        mechanism: Mechanism,
        chance: Chance | None,
        checkpoint: PrivateCheckpoint | None,
        begun: int,
        state: dict[str, Tensor],
    ) -> None:
        """The private steps from `begun` on. The critic gets a new optimiser: what it learns from is noised from here
        on, and so is what a checkpoint gives back to it.
        """
        preset = self._preset
        of_critic = torch.optim.Adam(self.critic.parameters(), preset.critic_rate, BETAS)
        of_refiner = torch.optim.Adam(self.refiner.parameters(), preset.refiner_rate, BETAS)
        step_of = PrivateCritic(
            self.critic, of_critic, mechanism, wasserstein, self._shape, chance=chance, view=self._view
        )
        if begun:
            self._restore(state, of_critic, of_refiner)
        kept = [private(patient.to(self._device)) for patient in patients]
        for done in range(begun, self._steps):
            for optimiser, rate in ((of_critic, preset.critic_rate), (of_refiner, preset.refiner_rate)):
                for group in optimiser.param_groups:
                    group["lr"] = rate * rate_share(done, self._steps)
            with torch.no_grad():
                drawn = refined(self.refiner, self._base(), self._px, self._random)
            step_of.step(kept, partial(self._penalty, drawn), against=drawn)
            self._refiner_step(of_refiner, done)
            if checkpoint is not None:
                checkpoint.write(done + 1, self._state(of_critic, of_refiner))
            self._tell(1, done + 1, self._steps)

    def _state(self, of_critic: torch.optim.Optimizer, of_refiner: torch.optim.Optimizer) -> dict[str, Tensor]:
        """What the next step starts from: weights and moments that come after the noise, and the public stream."""
        parts = {
            "critic": self.critic.state_dict(), "refiner": self.refiner.state_dict(), "average": self.average,
            "of_critic": moments(of_critic), "of_refiner": moments(of_refiner),
        }  # fmt: skip
        named = {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}
        return named | {"random": self._random.get_state()}

    def _restore(
        self, state: dict[str, Tensor], of_critic: torch.optim.Optimizer, of_refiner: torch.optim.Optimizer
    ) -> None:
        self.critic.load_state_dict(below(state, "critic"))
        self.refiner.load_state_dict(below(state, "refiner"))
        self.average = {name: tensor.to(self._device) for name, tensor in below(state, "average").items()}
        restore_moments(of_critic, below(state, "of_critic"))
        restore_moments(of_refiner, below(state, "of_refiner"))
        self._random.set_state(state["random"])

    def _penalty(self, drawn: Tensor) -> Tensor:
        """For a flat slope at points between drawn images: nothing real is here. Wasserstein's critic needs a bound."""
        partners = drawn[torch.randperm(len(drawn), generator=self._random).to(drawn.device)]
        share = torch.rand(len(drawn), 1, 1, 1, generator=self._random).to(drawn.device)
        between = (share * drawn + (1.0 - share) * partners).requires_grad_(True)
        return 0.5 * self._preset.penalty * zero_centred(self.critic(between), between)

    def _refiner_step(self, optimiser: torch.optim.Optimizer, done: int) -> None:
        base = self._base()
        drawn = refined(self.refiner, base, self._px, self._random)
        change = (drawn - base).abs().mean()
        loss = self._preset.keep * change - self.critic(drawn).mean()
        if not math.isfinite(loss.item()):
            raise SynthwardError(
                "training.diverged",
                f"the refiner's loss was no longer finite at step {done + 1} of {self._steps}",
                why="such a generator draws nothing of use",
                do="choose another preset; the steps that were taken stay charged",
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        keep = min(self._preset.average, (done + 1) / (done + 10))  # the first averages are short
        for name, tensor in self.refiner.state_dict().items():
            self.average[name].lerp_(tensor.detach(), 1.0 - keep)

    def _base(self) -> Tensor:
        """Public scenes, turned by chance: [N, C + 1, s, s]."""
        which = torch.randint(len(self._scenes), (self._preset.batch,), generator=self._random)
        scenes = self._scenes[which]
        return turn(scenes, scenes[:, :1], torch.randint(8, (len(scenes),), generator=self._random))[0].to(self._device)

    def _view(self, images: Tensor, chance: Chance) -> Tensor:
        """Of one patient's images a few, each turned in a few ways: their gradients are averaged before the clip."""
        order = torch.from_numpy(chance.uniform(len(images)).argsort()[: self._preset.most_images])
        kept = images[order.to(images.device)].repeat(self._preset.views, 1, 1, 1)
        return turn(kept, kept[:, :1], torch.from_numpy((8.0 * chance.uniform(len(kept))).astype(np.int64)))[0]

    def _tell(self, scale: int, step: int, steps: int) -> None:
        if self._on_progress is None or (step % _TOLD_EVERY and step != steps):
            return
        public = self._preset.public_steps
        done = (step if scale == 0 else public + step) / (public + self._steps)
        self._on_progress(Progress(scale, 2, step, steps, min(1.0, done)))
