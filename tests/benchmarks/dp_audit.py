"""An audit of private training with planted canaries, in one run: what epsilon it can rule out from below.

Each of m canary patients takes part by a coin of its own; after the training an auditor who saw every noised gradient
says of each whether it did. Under (epsilon, delta)-differential privacy few of these guesses can be right (Steinke,
Nasr and Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, theorem 5.2 and the code of its
appendix D). The audit certifies a lower bound at 95 % confidence, and no more than m canaries can show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from site_node.dp.critic_step import Mechanism, PrivateCritic, clipped, patient_gradients, wasserstein
from site_node.dp.tainted import private, unmarked
from site_node.generators.cohort.adversarial import zero_centred
from site_node.generators.private_cohort.networks import SmallCritic

CONFIDENCE = 0.95
_MOST = 50.0  # epsilon that is looked for
_LEAST_RIDGE = 1e-9


@dataclass(frozen=True)
class Audit:
    """right of guesses were right; lower_bound: epsilon that is ruled out below it; most: had all been right."""

    canaries: int
    guesses: int
    right: int
    lower_bound: float
    most: float


class WatchedCritic(PrivateCritic):
    """A critic whose noised gradients an auditor sees, who estimates from each which canaries were sampled."""

    canaries: Sequence[Tensor] = ()
    scores: Tensor

    def _noised(self, images_of: Sequence[Tensor], centre: Tensor) -> Tensor:
        own = patient_gradients(self.critic, self._term, self.canaries) + centre
        answer = super()._noised(images_of, centre)
        seen = answer.double() * self.mechanism.denominator
        each = clipped(own, self.mechanism.clip).double()  # [m, weights]
        # Canaries' gradients resemble each other: least squares, with a ridge as large as the noise, tells them apart.
        ridge = max((self.mechanism.sigma * self.mechanism.clip) ** 2, _LEAST_RIDGE) * torch.eye(len(each))
        self.scores = self.scores + torch.linalg.solve(each @ each.T + ridge.double(), each @ seen)
        return answer


def run(
    canaries: int, *, sigma: float, clip: float, q: float, steps: int, delta: float, size_px: int = 16, seed: int = 0
) -> Audit:
    """Trains a critic on canaries alone, images of coloured noise each unlike all others, and audits the training.

    A third of the guesses' worth of canaries, those with scores in the middle, is not guessed at.
    """
    random = torch.Generator().manual_seed(seed)
    images = [private(torch.rand(1, 4, size_px, size_px, generator=random) * 2 - 1) for _ in range(canaries)]
    member = torch.rand(canaries, generator=random) < 0.5
    taking_part = [image for image, is_in in zip(images, member.tolist(), strict=True) if is_in]
    critic = SmallCritic(4, (size_px, size_px), (16, 16), random)
    watched = WatchedCritic(
        critic, torch.optim.Adam(critic.parameters(), 1e-3, (0.0, 0.99)),
        Mechanism(sigma, clip, q, len(taking_part)), wasserstein, (4, size_px, size_px),
    )  # fmt: skip
    watched.canaries, watched.scores = [unmarked(image) for image in images], torch.zeros(canaries).double()
    for _ in range(steps):
        drawn = torch.rand(8, 4, size_px, size_px, generator=random) * 2 - 1
        watched.step(taking_part, _flat_at(critic, drawn), against=drawn)
    return judged(watched.scores.numpy(), member.numpy(), guesses=canaries // 3 * 2, delta=delta)


def _flat_at(critic: nn.Module, drawn: Tensor) -> Callable[[], Tensor]:
    def loss() -> Tensor:
        points = drawn.detach().requires_grad_(True)
        return zero_centred(critic(points), points)

    return loss


def judged(scores: np.ndarray, member: np.ndarray, *, guesses: int, delta: float) -> Audit:
    """Says "took part" of the highest scores and "did not" of as many of the lowest. scores, member: [m]."""
    order = np.argsort(scores)
    half = guesses // 2
    right = int((~member[order[:half]]).sum() + member[order[len(order) - half :]].sum())
    return Audit(
        len(scores), 2 * half, right,
        lower_bound(len(scores), 2 * half, right, delta), lower_bound(len(scores), 2 * half, 2 * half, delta),
    )  # fmt: skip


def lower_bound(canaries: int, guesses: int, right: int, delta: float) -> float:
    """The largest epsilon under which so many right guesses have a probability of 5 % or less; 0 where none."""
    if p_value(canaries, guesses, right, 0.0, delta) > 1 - CONFIDENCE:
        return 0.0
    low, high = 0.0, _MOST
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if p_value(canaries, guesses, right, middle, delta) <= 1 - CONFIDENCE else (low, middle)
        )
    return low


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """The probability of at least `right` right guesses under (epsilon, delta), from above: in [0, 1]."""
    hit = 1.0 / (1.0 + math.exp(-epsilon))
    mass = [_binomial(guesses, k, hit) for k in range(guesses + 1)]
    alpha, total = 0.0, 0.0
    for i in range(1, right + 1):
        total += mass[right - i]
        alpha = max(alpha, total / i)
    return min(1.0, sum(mass[right:]) + 2.0 * alpha * delta * canaries)


def _binomial(n: int, k: int, p: float) -> float:
    if p >= 1.0:
        return float(k == n)
    chosen = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(chosen + k * math.log(p) + (n - k) * math.log1p(-p))
