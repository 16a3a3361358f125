"""What a private step refuses, each with the wrong that it would have done: in silence, but for a crash or two."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from shared.errors import SynthwardError
from site_node.dp.critic_checks import check_critic
from site_node.dp.critic_step import Mechanism, PrivateCritic, wasserstein
from site_node.dp.tainted import PrivateTensor, private, unmarked
from tests.unit.test_dp_training_step import SHAPE, critic_of, flat, people, plain_critic, private_critic

pytestmark = pytest.mark.usefixtures("one_thread")


class SpreadOfTheBatch(nn.Module):
    """The minibatch deviation of many critics: no weights, and every image's score depends on all the others."""

    def forward(self, x: Tensor) -> Tensor:
        return x + (x.var(0, unbiased=False, keepdim=True) + 1e-8).sqrt().mean()


class SpreadWithin(nn.Module):
    """The same, hidden in a module that has layers of known kinds below it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x + x.std(0, unbiased=False, keepdim=True).mean())


def refused(critic: nn.Module) -> str:
    with pytest.raises(SynthwardError) as caught:
        check_critic(critic, SHAPE)
    assert caught.value.code == "dp.critic"
    return caught.value.why


def sum_of_gradients(critic: nn.Module, images: Tensor) -> Tensor:
    """Of the real term over a batch, as an ordinary loop would get them before it clips by image."""
    critic.zero_grad(set_to_none=True)
    (-critic(images)).sum().backward()  # type: ignore[no-untyped-call]
    return torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None])


def influence_on_another(critic: nn.Module) -> float:
    """How far one patient's images change another's score."""
    one, other = (p.as_subclass(Tensor) for p in people(1, 1))
    with torch.no_grad():
        return float((critic(torch.cat([one, other])) - critic(torch.cat([one, 50 * other])))[0].abs())


@pytest.mark.parametrize("layer", [lambda: nn.BatchNorm2d(4), SpreadOfTheBatch, SpreadWithin])
def test_a_layer_through_which_patients_see_each_other(layer: Callable[[], nn.Module]) -> None:
    critic = critic_of(layer(), nn.Conv2d(4, 2, 3))

    assert influence_on_another(critic) > 0.1  # so one patient's clip would not bound what he changes
    assert influence_on_another(plain_critic()) == 0.0
    refused(critic)


def test_a_layer_with_running_statistics_keeps_private_values_without_noise() -> None:
    kept = []
    for images in people(1, 1):
        critic = critic_of(nn.InstanceNorm2d(4, track_running_stats=True), nn.Conv2d(4, 2, 3))
        critic(unmarked(images))
        kept.append(critic.body[0].running_mean.clone())  # type: ignore[union-attr, operator, index]

    assert not torch.allclose(kept[0], kept[1])
    assert "running statistics" in refused(critic)


def test_a_layer_in_place_breaks_the_hooks_of_opacus() -> None:
    critic = critic_of(nn.Conv2d(4, 4, 3), nn.LeakyReLU(0.2, inplace=True))
    images = people(2)[0].as_subclass(Tensor)

    with pytest.raises(RuntimeError, match=r"inplace|in-place"):
        GradSampleModule(copy.deepcopy(critic))(images).sum().backward()
    refused(critic)


def test_spectral_norm_changes_between_two_patients_of_one_step() -> None:
    critic = critic_of(spectral_norm(nn.Conv2d(4, 4, 3, padding=1)), nn.Conv2d(4, 2, 3))
    image = people(1)[0].as_subclass(Tensor)

    assert not torch.equal(sum_of_gradients(critic, image), sum_of_gradients(critic, image))
    assert "spectral norm" in refused(critic)


def test_a_layer_that_nobody_tested() -> None:
    critic = critic_of(nn.Conv2d(4, 4, 3), nn.Dropout2d(0.5))
    image = people(1)[0].as_subclass(Tensor)

    assert not torch.equal(sum_of_gradients(critic, image), sum_of_gradients(critic, image))
    assert "has not been tested" in refused(critic)


def test_a_critic_that_keeps_values_besides_its_weights() -> None:
    critic = plain_critic()
    critic.register_buffer("seen", torch.zeros(3))

    refused(critic)


def momentum_steps(images: Tensor) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A critic whose weights were put back after an ordinary step on private images; the momentum was not."""
    critic = plain_critic()
    before = copy.deepcopy(critic.state_dict())
    optimiser = torch.optim.Adam(critic.parameters(), 0.01)
    sum_of_gradients(critic, images)
    optimiser.step()
    critic.load_state_dict(before)
    return critic, optimiser


def test_an_optimiser_that_remembers_unclipped_gradients() -> None:
    after = []
    for images in (people(1)[0], 100 * people(1, seed=1)[0]):
        critic, optimiser = momentum_steps(unmarked(images))
        for parameter in critic.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimiser.step()  # of a private step in which nobody was sampled, and without noise
        after.append(flat(critic))
    assert not torch.allclose(after[0], after[1], atol=1e-3)  # it tells the two patients apart all the same

    with pytest.raises(SynthwardError) as caught:
        PrivateCritic(critic, optimiser, Mechanism(1.0, 1.0, 1.0, 1), wasserstein, SHAPE)

    assert caught.value.code == "dp.optimiser"


def test_an_optimiser_that_took_a_step_of_its_own_in_between() -> None:
    critic, patients = plain_critic(), people(1, 1)
    optimiser = torch.optim.SGD(critic.parameters(), 0.1)  # keeps no state: only its steps tell
    step = PrivateCritic(critic, optimiser, Mechanism(1.0, 1.0, 1.0, 2), wasserstein, SHAPE)
    step.step(patients)
    step.step(patients)
    optimiser.step()

    with pytest.raises(SynthwardError) as caught:
        step.step(patients)

    assert caught.value.code == "dp.optimiser"
    assert step.done == 2


def test_an_optimiser_of_another_network() -> None:
    other = torch.optim.SGD(plain_critic().parameters(), 0.1)

    with pytest.raises(ValueError, match="other weights"):
        PrivateCritic(plain_critic(), other, Mechanism(1.0, 1.0, 1.0, 1), wasserstein, SHAPE)


def penalty_at(critic: nn.Module, points: Tensor) -> Tensor:
    points = points.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return (gradient.square().sum((1, 2, 3)).sqrt() - 1.0).square().mean()


def between(real: Tensor, drawn: Tensor) -> Tensor:
    return 0.5 * real + 0.5 * drawn


def test_a_penalty_at_points_that_contain_a_real_image() -> None:
    critic, drawn = plain_critic(), people(2, seed=5)[0].as_subclass(Tensor)
    clip, gradients = 1e-3, []
    for images in people(2, 2):
        critic.zero_grad(set_to_none=True)
        penalty_at(critic, between(unmarked(images), drawn)).backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([p.grad.flatten() for p in critic.parameters() if p.grad is not None]))
    assert float((gradients[0] - gradients[1]).norm()) > 10 * clip  # far more than one patient may change

    patients, before = people(2), flat(critic)
    with pytest.raises(SynthwardError) as caught:
        private_critic(critic, Mechanism(1.0, clip, 1.0, 1)).step(
            patients, lambda: penalty_at(critic, between(patients[0], drawn))
        )

    assert caught.value.code == "dp.private-points"
    assert torch.equal(flat(critic), before)


def test_a_comparison_with_images_that_are_not_drawn_but_real() -> None:
    critic, patients = plain_critic(), people(1, 1)
    before = flat(critic)

    with pytest.raises(SynthwardError) as caught:  # it would move every other patient's part, before the clip
        private_critic(critic, Mechanism(1.0, 1.0, 1.0, 2)).step(patients, against=patients[0])

    assert caught.value.code == "dp.private-points"
    assert torch.equal(flat(critic), before)


@pytest.mark.parametrize(
    "derive",
    [
        lambda x: x * 0.5 + 1.0,
        lambda x: torch.cat([torch.zeros(1, *SHAPE), x]),
        lambda x: torch.stack(list(x)),
        lambda x: nn.functional.interpolate(x, size=(4, 4)),
        lambda x: x.detach().clone()[:1].mean(),
        lambda x: torch.zeros(1, *SHAPE).lerp(x, 0.3),
        lambda x: torch.where(x > 0, 1.0, 0.0).sum(),
    ],
)
def test_whatever_is_computed_from_private_images_stays_marked(derive: Callable[[Tensor], Tensor]) -> None:
    assert isinstance(derive(private(torch.randn(2, *SHAPE))), PrivateTensor)


def test_what_has_nothing_to_do_with_private_images_is_not_marked() -> None:
    assert not isinstance(torch.randn(2) + 1, PrivateTensor)
    assert not isinstance(unmarked(private(torch.ones(2))) + 1, PrivateTensor)


def test_a_cohort_of_another_size_is_not_sampled_from() -> None:
    with pytest.raises(ValueError, match="patients"):
        private_critic(plain_critic(), Mechanism(0.0, math.inf, 1.0, 3)).step(people(1, 1))
