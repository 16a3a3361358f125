"""One step of a critic under differential privacy: what reads patients is clipped and noised, the rest comes after.

    g = (sum over sampled patients of clip(mean over its images of grad real_term + c) + N(0, (sigma clip)^2 I)) / (q N)
    gradient = g + grad of an ordinary term over drawn images

The first line is the subsampled Gaussian mechanism (Abadi et al., "Deep learning with differential privacy", CCS 2016)
with the patient as the unit: sensitivity `clip` under adding or removing one patient. The second is post-processing: it
knows the weights, drawn images and public ones, and no private pixel. Generators that learn from such a critic alone
are post-processing too.

c is 0, or the gradient of the mean score of drawn images: then a patient's part is the gradient of D(drawn) - D(real),
clipped as a whole. c knows no patient, so the sensitivity stays. Real and drawn images pull in nearly the same
direction, each with more than ten times the difference's force: without c the clip would be spent on what cancels out.

Gradients by image come from torch.func, which gives the critic one image at a time: no layer could mix two patients
even if it tried. Opacus' hooks give the same numbers in the same time (tests), but trust each layer to behave.

The number N of patients counts as public. What no accountant covers: the time that a step takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from shared.errors import SynthwardError
from site_node.dp.critic_checks import check_critic, check_free_of_private, check_optimiser, unclipped_optimiser
from site_node.dp.noise import Chance, SecretChance, gaussian
from site_node.dp.sampling import check_rate, poisson_batch
from site_node.dp.tainted import PrivateTensor, unmarked

View = Callable[[Tensor, Chance], Tensor]  # one patient's images [n, C, H, W] -> [m, C, H, W]
RealTerm = Callable[[Tensor], Tensor]  # scores [1] -> loss, a scalar
CHUNK = 32  # images whose gradients are held at once


@dataclass(frozen=True)
class Mechanism:
    """sigma: noise over clip, 0 for none (then nothing is private); clip: the most that one patient adds to the sum, in
    the norm over all weights together; q: probability that a step samples a patient; patients: N.
    """

    sigma: float
    clip: float
    q: float
    patients: int

    def __post_init__(self) -> None:
        check_rate(self.q)
        if not (self.sigma >= 0.0 and self.clip > 0.0 and self.patients > 0):
            raise ValueError(f"{self} is no mechanism")
        if math.isinf(self.sigma) or (math.isinf(self.clip) and self.sigma > 0.0):
            raise ValueError("noise without end hides the loss of everything")

    @property
    def denominator(self) -> float:
        """Patients expected in a step: fixed, since the number that came is private."""
        return self.q * self.patients


def wasserstein(score: Tensor) -> Tensor:
    """The real term -D(x)."""
    return -score.sum()


def logistic(score: Tensor) -> Tensor:
    """The real term softplus(-D(x)) of the non-saturating loss: like -D(x), but loses interest in what is settled."""
    return nn.functional.softplus(-score).sum()


def patient_gradients(critic: nn.Module, term: RealTerm, images_of: Sequence[Tensor], *, chunk: int = CHUNK) -> Tensor:
    """Of each patient the gradient of `term`, averaged over its images: [P, W], the weights in the critic's order.

    images_of: [n, C, H, W] by patient, n >= 1. chunk: images whose gradients are computed at once.
    """
    weights = {name: parameter.detach() for name, parameter in critic.named_parameters()}

    def of_image(at: dict[str, Tensor], image: Tensor) -> Tensor:
        return term(functional_call(critic, at, (image[None],)))  # [C, H, W] -> [1, C, H, W] -> [1] -> scalar

    by_image = vmap(grad(of_image), in_dims=(None, 0), chunk_size=chunk)
    found = [next(iter(weights.values())).new_zeros(0, sum(w.numel() for w in weights.values()))]
    for group in _groups([len(images) for images in images_of], chunk):
        images = torch.cat([unmarked(images_of[index]) for index in group])
        gradients = by_image(weights, images)  # name -> [images of the group, *shape]
        flat = torch.cat([gradients[name].flatten(1) for name in weights], dim=1)  # -> [images of the group, W]
        sizes = [len(images_of[index]) for index in group]
        found += [own.mean(0, keepdim=True) for own in torch.split(flat, sizes)]
    return torch.cat(found)


def _groups(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Neighbouring indices with at most `most` images together, or a single patient with more."""
    groups: list[list[int]] = []
    held = 0
    for index, size in enumerate(sizes):
        if not groups or held + size > most:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += size
    return groups


def clipped(gradients: Tensor, clip: float) -> Tensor:
    """[P, W], each row shortened to norm `clip` where it is longer; a row that is not finite becomes 0.

    No error is raised for such a row: that a training stops because of one patient would tell of that patient.
    """
    norms = gradients.double().norm(dim=1, keepdim=True)  # [P, 1]
    shares: Tensor = (clip / norms).clamp(max=1.0).to(gradients.dtype)  # a norm of 0 gives infinity, and so 1
    return torch.where(norms.isfinite(), gradients * shares, 0.0)


class PrivateCritic:
    """A critic that learns from patients under the mechanism, step by step.

    done: private steps so far, empty batches included: what the ledger counts. Where memory runs out, a step's
    gradients are computed again in smaller chunks: of the same sample, and before anything of it was used.
    """

    def __init__(
        self,
        critic: nn.Module,
        optimiser: torch.optim.Optimizer,
        mechanism: Mechanism,
        term: RealTerm,
        shape: tuple[int, int, int],
        *,
        chance: Chance | None = None,
        chunk: int = CHUNK,
        view: View | None = None,
    ) -> None:
        """shape: (C, H, W) of an image. view: what a step sees of one patient's images, such as turns of them. Its
        chance must be the secret one that it is given: a public stream would be further on where more patients were
        sampled, and so change what is drawn of all others. Raises dp.critic and dp.optimiser where the step would be
        silently wrong.
        """
        check_critic(critic, shape)
        check_optimiser(optimiser, critic)
        self.critic, self.mechanism, self.done = critic, mechanism, 0
        self._optimiser, self._term, self._chunk, self._view = optimiser, term, chunk, view
        self._chance = SecretChance() if chance is None else chance
        self._moved = 0  # how often the optimiser moved the weights, whoever asked it to
        optimiser.register_step_post_hook(self._note_move)

    def step(
        self,
        patients: Sequence[PrivateTensor],
        ordinary: Callable[[], Tensor] | None = None,
        *,
        against: Tensor | None = None,
    ) -> None:
        """Samples patients, and moves the weights once.

        patients: [n, C, H, W] of each of the N patients. ordinary: a loss over drawn or public images, taken as it is.
        against: drawn images [M, C, H, W], whose mean score each patient's score is compared with before the clip.
        Raises dp.optimiser, dp.private-points and training.diverged, before the weights have moved.
        """
        if len(patients) != self.mechanism.patients:
            raise ValueError(f"{len(patients)} patients instead of {self.mechanism.patients}")
        if self._moved != self.done:
            raise unclipped_optimiser()
        chosen = poisson_batch(len(patients), self.mechanism.q, self._chance)
        images = [unmarked(patients[index]) for index in chosen]
        centre = self._centre(against)
        seen = images if self._view is None else [self._view(own, self._chance) for own in images]
        noised = self._noised(seen, centre)
        self._optimiser.zero_grad(set_to_none=True)
        if ordinary is not None:
            loss = ordinary()
            check_free_of_private(loss)
            if not math.isfinite(loss.item()):
                raise _diverged()
            loss.backward()  # type: ignore[no-untyped-call]
        weights = list(self.critic.parameters())
        parts = torch.split(noised, [weight.numel() for weight in weights])
        for weight, part in zip(weights, parts, strict=True):
            gradient = part.view(weight.shape)
            weight.grad = gradient if weight.grad is None else weight.grad + gradient
        self._optimiser.step()
        self.done += 1

    def _centre(self, against: Tensor | None) -> Tensor:
        """The gradient of the mean score of drawn images: [W], or [1] of 0."""
        weights = list(self.critic.parameters())
        if against is None:
            return torch.zeros_like(weights[0].detach().flatten()[:1])
        score = self.critic(against).mean()
        check_free_of_private(score)
        gradients = torch.autograd.grad(score, weights, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in gradients])

    def _noised(self, images_of: Sequence[Tensor], centre: Tensor) -> Tensor:
        """The mechanism's answer, [W]: noise even where nobody was sampled."""
        total = clipped(self._gradients(images_of) + centre, self.mechanism.clip).sum(0)  # [P, W] -> [W]
        std = self.mechanism.sigma * self.mechanism.clip if self.mechanism.sigma else 0.0
        return (total + gaussian(total, std, self._chance)) / self.mechanism.denominator

    def _gradients(self, images_of: Sequence[Tensor]) -> Tensor:
        while True:
            try:
                return patient_gradients(self.critic, self._term, images_of, chunk=self._chunk)
            except (MemoryError, RuntimeError) as error:
                if self._chunk == 1 or not _is_memory(error):
                    raise
                self._chunk //= 2

    def _note_move(self, *_: object) -> None:
        self._moved += 1


def _is_memory(error: Exception) -> bool:
    """PyTorch has a type for an accelerator's memory alone; the CPU's is told by its text."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _diverged() -> SynthwardError:
    return SynthwardError(
        "training.diverged",
        "a private critic's loss over drawn images was no longer finite",
        why="such a critic teaches nothing",
        do="train with a lower rate; the steps that were taken stay charged",
    )
