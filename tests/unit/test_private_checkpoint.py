"""A private training that is taken up again: the same end, one step done twice at most, no oftener than paid for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.pairs import Pair
from site_node.generators.private_cohort.checkpoint import PrivateCheckpoint
from site_node.generators.private_cohort.generator import PrivateCohortGenerator
from site_node.generators.private_cohort.presets import DEMO
from site_node.generators.private_cohort.prior import PublicPairs
from site_node.generators.private_cohort.training import Privacy, train_private_cohort
from tests.helpers import noise_pair

TINY = replace(DEMO, critic_px=16, critic_widths=(8, 8), refiner_width=8, scenes=4, public_steps=2, batch=2)
STEPS = 4
PRIOR = PublicPairs.of([noise_pair(seed) for seed in range(3)])
PATIENTS: list[list[Pair]] = [[noise_pair(10)], [noise_pair(11), noise_pair(12)]]
pytestmark = pytest.mark.usefixtures("one_thread")


class Heads:
    """Everybody is in every step, and nothing is noised: so that an end can be compared with another."""

    def uniform(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def normal(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)


class Killed(BaseException):
    """The process is gone."""


class Mortal(PrivateCheckpoint):
    """Dies when it is to write the state after a step: the step was done, and is not kept."""

    def __init__(self, path: Path, dies_at: int | None) -> None:
        super().__init__(path, "this training")
        self.dies_at, self.kept = dies_at, 0

    def write(self, done: int, state: Mapping[str, Tensor]) -> None:
        if done and done == self.dies_at and self.read()[0] < done:
            raise Killed
        super().write(done, state)


def trained(checkpoint: PrivateCheckpoint | None) -> PrivateCohortGenerator:
    privacy = Privacy(sigma=0.0, clip=1.0, q=1.0, steps=STEPS)
    return train_private_cohort(PATIENTS, TINY, privacy, PRIOR, seed=5, chance=Heads(), checkpoint=checkpoint)


def weights(generator: PrivateCohortGenerator) -> Tensor:
    return torch.cat([p.flatten() for p in generator.refiner.state_dict().values()])


@pytest.mark.parametrize("dies_at", [1, 2, STEPS])
def test_a_training_that_was_killed_ends_as_an_undisturbed_one(tmp_path: Path, dies_at: int) -> None:
    file = tmp_path / "state.safetensors"
    mortal = Mortal(file, dies_at)
    mortal.begin()
    with pytest.raises(Killed):
        trained(mortal)
    again = PrivateCheckpoint(file, "this training")
    assert again.read()[0] == dies_at - 1  # one step was done that is not kept
    assert again.resume(1)
    assert torch.equal(weights(trained(again)), weights(trained(None)))


def test_it_is_taken_up_no_oftener_than_there_are_steps_to_spare(tmp_path: Path) -> None:
    checkpoint = PrivateCheckpoint(tmp_path / "state", "this training")
    assert not checkpoint.resume(9)  # nothing lies there: nobody knows what was done
    checkpoint.begin()
    assert [PrivateCheckpoint(tmp_path / "state", "this training").resume(2) for _ in range(4)] == [
        True, True, False, False
    ]  # fmt: skip


def test_a_step_that_is_kept_does_not_forget_how_often_it_was_taken_up(tmp_path: Path) -> None:
    first = PrivateCheckpoint(tmp_path / "state", "this training")
    first.begin()
    second = PrivateCheckpoint(tmp_path / "state", "this training")
    assert second.resume(1)
    second.write(3, {"a": torch.ones(2)})
    third = PrivateCheckpoint(tmp_path / "state", "this training")
    assert third.read()[0] == 3
    assert not third.resume(1)


def test_another_reservations_state_is_not_gone_on_from(tmp_path: Path) -> None:
    PrivateCheckpoint(tmp_path / "state", "this training").begin()
    other = PrivateCheckpoint(tmp_path / "state", "another training")
    assert other.read() == (0, {})
    assert not other.resume(9)


def test_what_is_kept_has_neither_a_pixel_nor_the_source_of_noise(tmp_path: Path) -> None:
    checkpoint = PrivateCheckpoint(tmp_path / "state", "this training")
    checkpoint.begin()
    trained(checkpoint)
    done, state = checkpoint.read()
    assert done == STEPS
    assert {name.partition(".")[0] for name in state} == {
        "critic", "refiner", "average", "of_critic", "of_refiner", "random"
    }  # fmt: skip
    public = torch.Generator()
    public.set_state(state["random"])  # the one stream in it is that of scenes and turns
