"""A private critic's step: exact gradients, a bound for each patient, noise as stated, and nothing real beside it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn

from shared.errors import SynthwardError
from site_node.dp.critic_checks import check_critic
from site_node.dp.critic_step import (
    Mechanism,
    PrivateCritic,
    clipped,
    logistic,
    patient_gradients,
    wasserstein,
)
from site_node.dp.noise import SecretChance
from site_node.dp.tainted import PrivateTensor, private
from site_node.generators.private_cohort.networks import SmallCritic

pytestmark = pytest.mark.usefixtures("one_thread")
SHAPE = (4, 8, 8)


class Everybody:
    """Chance that samples every patient (or, with `nobody`, none), and draws real noise."""

    def __init__(self, *, nobody: bool = False) -> None:
        self._coin = 1.0 if nobody else 0.0

    def uniform(self, count: int) -> NDArray[np.float64]:
        return np.full(count, self._coin)

    def normal(self, count: int) -> NDArray[np.float64]:
        return SecretChance().normal(count)


def critic_of(*layers: nn.Module, seed: int = 0) -> nn.Module:
    """Layers, then a score for each image; in float64."""

    class Critic(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(*layers, nn.Flatten())

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x).sum(1)  # type: ignore[no-any-return]

    torch.manual_seed(seed)
    critic = Critic().double()
    for parameter in critic.parameters():
        nn.init.normal_(parameter, 0.0, 0.3)
    return critic


def plain_critic(seed: int = 0) -> nn.Module:
    return critic_of(
        nn.Conv2d(4, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.LeakyReLU(0.2), nn.Conv2d(4, 2, 3), seed=seed
    )


def people(*counts: int, seed: int = 0) -> list[PrivateTensor]:
    """Patients with so many images each."""
    random = torch.Generator().manual_seed(seed)
    return [private(torch.randn(count, *SHAPE, generator=random, dtype=torch.float64)) for count in counts]


def one_at_a_time(critic: nn.Module, term: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The plain loop that a patient's gradient must equal: [W]."""
    total = torch.zeros_like(flat(critic))
    for image in images.as_subclass(Tensor):
        critic.zero_grad(set_to_none=True)
        term(critic(image[None])).backward()  # type: ignore[no-untyped-call]
        total += torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None]) / len(images)
    critic.zero_grad(set_to_none=True)
    return total


def private_critic(
    critic: nn.Module, mechanism: Mechanism, *, nobody: bool = False, rate: float = 1.0, **options: object
) -> PrivateCritic:
    """With plain gradient descent of a known rate, and every patient in the sample."""
    optimiser = torch.optim.SGD(critic.parameters(), rate)
    return PrivateCritic(critic, optimiser, mechanism, wasserstein, SHAPE, chance=Everybody(nobody=nobody), **options)  # type: ignore[arg-type]


def moved(critic: nn.Module, mechanism: Mechanism, patients: Sequence[PrivateTensor], **options: object) -> Tensor:
    """How a step of rate 1 moves the weights of a copy of the critic, as one vector: minus the gradient."""
    after = copy.deepcopy(critic)
    private_critic(after, mechanism, **options).step(patients)  # type: ignore[arg-type]
    return flat(after) - flat(critic)


def flat(critic: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in critic.parameters()])


LAYERS: dict[str, Callable[[], list[nn.Module]]] = {
    "conv": lambda: [nn.Conv2d(4, 3, 4, stride=2, padding=1)],
    "grouped conv": lambda: [nn.Conv2d(4, 4, 3, groups=2)],
    "linear": lambda: [nn.Flatten(), nn.Linear(256, 3)],
    "group norm": lambda: [nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4), nn.Tanh()],
    "instance norm": lambda: [nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, affine=True), nn.Tanh()],
    "layer norm": lambda: [nn.LayerNorm([8, 8]), nn.Tanh()],
    "leaky relu": lambda: [nn.Conv2d(4, 4, 3), nn.LeakyReLU(0.2)],
    "relu": lambda: [nn.Conv2d(4, 4, 3), nn.ReLU()],
    "silu": lambda: [nn.Conv2d(4, 4, 3), nn.SiLU()],
    "tanh": lambda: [nn.Conv2d(4, 4, 3), nn.Tanh()],
    "average pool": lambda: [nn.Conv2d(4, 4, 3), nn.AvgPool2d(2)],
    "adaptive pool": lambda: [nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(2)],
    "identity": lambda: [nn.Conv2d(4, 4, 3), nn.Identity()],
}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("term", [wasserstein, logistic])
def test_gradients_by_patient_equal_a_loop_over_one_image_at_a_time(
    layer: str, term: Callable[[Tensor], Tensor]
) -> None:
    critic, patients = critic_of(*LAYERS[layer]()), people(1, 3, 2)
    check_critic(critic, SHAPE)

    for found, images in zip(patient_gradients(critic, term, patients, chunk=2), patients, strict=True):
        assert torch.allclose(found, one_at_a_time(critic, term, images), rtol=0.0, atol=1e-10)


def test_the_generators_own_critic_is_exact_too_and_its_hooks_in_opacus_agree() -> None:
    critic = SmallCritic(4, (16, 16), (8, 8), torch.Generator().manual_seed(1)).double()
    images = private(torch.randn(3, 4, 16, 16, dtype=torch.float64))
    (found,) = patient_gradients(critic, wasserstein, [images])  # [1, W] -> [W]
    hooked = GradSampleModule(copy.deepcopy(critic), loss_reduction="sum")

    (-hooked(images.as_subclass(Tensor).clone().requires_grad_())).sum().backward()

    by_hooks = torch.cat([p.grad_sample.mean(0).flatten() for p in hooked._module.parameters()])
    assert torch.allclose(found, one_at_a_time(critic, wasserstein, images), rtol=0.0, atol=1e-10)
    assert torch.allclose(found, by_hooks, rtol=0.0, atol=1e-10)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), size=st.floats(1e-3, 1e6), clip=st.floats(1e-3, 10.0), images=st.integers(1, 4))
def test_no_patient_moves_the_sum_further_than_the_clip(seed: int, size: float, clip: float, images: int) -> None:
    critic = plain_critic(seed)
    patient = private(people(images, seed=seed)[0] * size)

    short = clipped(patient_gradients(critic, wasserstein, [patient]), clip)

    assert float(short.norm()) <= clip * (1 + 1e-9)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), clip=st.floats(0.01, 5.0))
def test_one_patient_more_or_less_moves_the_step_by_at_most_the_clip(seed: int, clip: float) -> None:
    critic, patients = plain_critic(seed), people(1, 2, 1, seed=seed)
    with_all = moved(critic, Mechanism(0.0, clip, 1.0, 3), patients) * 3
    without = moved(critic, Mechanism(0.0, clip, 1.0, 2), patients[:2]) * 2

    assert float((with_all - without).norm()) <= clip * (1 + 1e-6)


def test_without_noise_and_clip_a_step_is_the_ordinary_one() -> None:
    critic, patients, drawn = plain_critic(), people(2, 1, 1), people(3, seed=9)[0].as_subclass(Tensor)
    ordinary = copy.deepcopy(critic)
    loss = sum((-ordinary(p.as_subclass(Tensor)).mean() for p in patients), torch.zeros(())) / 3
    (loss + ordinary(drawn).mean() + 0.7 * penalty(ordinary, drawn)).backward()
    torch.optim.SGD(ordinary.parameters(), 0.1).step()

    step = private_critic(critic, Mechanism(0.0, math.inf, 1.0, 3), rate=0.1)
    step.step(patients, lambda: critic(drawn).mean() + 0.7 * penalty(critic, drawn))

    assert torch.allclose(flat(critic), flat(ordinary), rtol=0.0, atol=1e-12)


def test_compared_with_drawn_images_and_without_noise_and_clip_a_step_is_the_wasserstein_one() -> None:
    critic, patients, drawn = plain_critic(), people(2, 1, 1), people(3, seed=9)[0].as_subclass(Tensor)
    ordinary = copy.deepcopy(critic)
    real = sum((ordinary(p.as_subclass(Tensor)).mean() for p in patients), torch.zeros(())) / 3
    (ordinary(drawn).mean() - real + 0.7 * penalty(ordinary, drawn)).backward()
    torch.optim.SGD(ordinary.parameters(), 0.1).step()

    step = private_critic(critic, Mechanism(0.0, math.inf, 1.0, 3), rate=0.1)
    step.step(patients, lambda: 0.7 * penalty(critic, drawn), against=drawn)

    assert torch.allclose(flat(critic), flat(ordinary), rtol=0.0, atol=1e-12)


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), clip=st.floats(0.01, 5.0))
def test_compared_with_drawn_images_a_patient_moves_the_step_by_no_more_than_the_clip(seed: int, clip: float) -> None:
    patients, drawn = people(1, 2, 1, seed=seed), people(4, seed=seed + 1)[0].as_subclass(Tensor)
    steps = []
    for count in (3, 2):
        critic = plain_critic(seed)
        before = flat(critic)
        private_critic(critic, Mechanism(0.0, clip, 1.0, count)).step(patients[:count], against=drawn)
        steps.append((flat(critic) - before) * count)

    assert float((steps[0] - steps[1]).norm()) <= clip * (1 + 1e-6)


def penalty(critic: nn.Module, points: Tensor) -> Tensor:
    points = points.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return gradient.square().sum((1, 2, 3)).mean()


def test_the_penalty_is_not_dropped() -> None:
    drawn = people(3, seed=9)[0].as_subclass(Tensor)
    after = []
    for strength in (0.0, 1.0):
        critic = plain_critic()
        step = private_critic(critic, Mechanism(0.0, 1.0, 1.0, 2))
        step.step(people(1, 1), lambda c=critic, s=strength: c(drawn).mean() + s * penalty(c, drawn))  # type: ignore[misc]
        after.append(flat(critic))
    critic = plain_critic()
    penalty(critic, drawn).backward()  # type: ignore[no-untyped-call]
    of_penalty = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten()
                            for p in critic.parameters()])  # fmt: skip

    assert float(of_penalty.norm()) > 0.01
    assert torch.allclose(after[0] - after[1], of_penalty, rtol=0.0, atol=1e-10)


def test_two_patients_with_the_same_images_count_as_two_and_one_patient_twice_as_one() -> None:
    critic, (one,) = plain_critic(), people(1)
    twice = private(torch.cat([one, one]))
    alone = moved(critic, Mechanism(0.0, 0.5, 1.0, 1), [one])

    assert float(alone.norm()) == pytest.approx(0.5)  # the clip holds here, so sums can be told from means
    assert torch.allclose(moved(critic, Mechanism(0.0, 0.5, 1.0, 2), [one, one]) * 2, 2 * alone, atol=1e-12)
    assert torch.allclose(moved(critic, Mechanism(0.0, 0.5, 1.0, 1), [twice]), alone, atol=1e-12)


def test_an_empty_batch_moves_the_weights_by_noise_of_the_stated_size() -> None:
    critic = critic_of(nn.Flatten(), nn.Linear(256, 40))
    patients, mechanism = people(*[1] * 5), Mechanism(2.0, 0.3, 0.4, 5)

    step = moved(critic, mechanism, patients, nobody=True)

    # 10,280 weights: the standard error of a standard deviation is 0.7 %.
    assert float(step.std()) == pytest.approx(2.0 * 0.3 / (0.4 * 5), rel=0.04)
    assert abs(float(step.mean())) < 5 * 0.3 / 10_280**0.5


def test_without_noise_an_empty_batch_changes_nothing() -> None:
    assert not moved(plain_critic(), Mechanism(0.0, 1.0, 0.5, 2), people(1, 1), nobody=True).any()


def test_the_denominator_is_the_expected_number_and_not_the_sampled_one() -> None:
    critic, patients = plain_critic(), people(1, 1)
    full = moved(critic, Mechanism(0.0, 0.5, 1.0, 2), patients)

    assert torch.allclose(moved(critic, Mechanism(0.0, 0.5, 0.25, 2), patients), 4 * full, atol=1e-12)


def test_chunks_and_a_lack_of_memory_change_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    critic, patients = plain_critic(), people(3, 1, 2)
    expected = moved(critic, Mechanism(0.0, 0.5, 1.0, 3), patients)
    asked: list[int] = []

    def scarce(*arguments: object, chunk: int) -> Tensor:
        asked.append(chunk)
        if chunk > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return patient_gradients(*arguments, chunk=chunk)  # type: ignore[arg-type]

    monkeypatch.setattr("site_node.dp.critic_step.patient_gradients", scarce)

    assert torch.allclose(moved(critic, Mechanism(0.0, 0.5, 1.0, 3), patients, chunk=8), expected, atol=1e-12)
    assert asked == [8, 4, 2]


def test_a_patient_whose_gradient_is_not_finite_adds_nothing_and_stops_nothing() -> None:
    critic, (one, other) = plain_critic(), people(1, 1)
    alone = moved(critic, Mechanism(0.0, 0.5, 1.0, 1), [one])

    for spoilt in (math.nan, math.inf, 1e300):
        both = moved(critic, Mechanism(0.0, 0.5, 1.0, 2), [one, private(other * spoilt)])
        assert torch.allclose(both * 2, alone, atol=1e-12)


def test_a_loss_over_drawn_images_that_is_not_finite_is_refused_before_the_weights_move() -> None:
    critic = plain_critic()
    before = flat(critic)

    with pytest.raises(SynthwardError) as caught:
        private_critic(critic, Mechanism(1.0, 1.0, 1.0, 1)).step(people(1), lambda: torch.tensor(math.nan))

    assert caught.value.code == "training.diverged"
    assert torch.equal(flat(critic), before)


@pytest.mark.parametrize(
    ("sigma", "clip", "q", "patients"),
    [(-1.0, 1.0, 0.5, 3), (1.0, 0.0, 0.5, 3), (1.0, 1.0, 0.0, 3), (1.0, 1.0, 1.1, 3), (1.0, 1.0, 0.5, 0),
     (1.0, math.inf, 0.5, 3), (math.nan, 1.0, 0.5, 3)],
)  # fmt: skip
def test_a_mechanism_without_meaning_is_refused(sigma: float, clip: float, q: float, patients: int) -> None:
    with pytest.raises(ValueError, match=r"mechanism|rate|noise"):
        Mechanism(sigma, clip, q, patients)
