"""The private generator: it starts as its prior, learns from patients by the critic alone, and says what it read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.dp.critic_step import Mechanism, PrivateCritic
from site_node.dp.noise import SecretChance
from site_node.generators.cohort.networks import DetailGenerator
from site_node.generators.private_cohort import training
from site_node.generators.private_cohort.generator import PrivateCohortGenerator, Spent, refined, stacked
from site_node.generators.private_cohort.presets import DEMO, PRIVATE_PRESETS, with_half_the_batch
from site_node.generators.private_cohort.prior import ENDOSCOPY, Phantoms, PublicPairs
from site_node.generators.private_cohort.training import Privacy, train_private_cohort
from site_node.generators.progress import Progress

TINY = replace(DEMO, critic_px=16, critic_widths=(8, 8), refiner_width=8, scenes=6, public_steps=3, batch=4)
PRIVACY = Privacy(sigma=1.0, clip=0.5, q=0.5, steps=4)
pytestmark = pytest.mark.usefixtures("one_thread")


class Coins:
    """Chance of which the coins are set, and the noise is not."""

    def __init__(self, coin: float) -> None:
        self._coin = coin

    def uniform(self, count: int) -> NDArray[np.float64]:
        return np.full(count, self._coin)

    def normal(self, count: int) -> NDArray[np.float64]:
        return SecretChance().normal(count)


def pair(seed: int, size_px: int = 32, channels: int = 3, brightness: int = 120) -> Pair:
    random = np.random.default_rng(seed)
    shape = (size_px, size_px, 3) if channels == 3 else (size_px, size_px)
    image = random.integers(0, 2 * brightness, shape, np.uint8)
    mask = np.zeros((size_px, size_px), np.uint8)
    mask[4:12, 5:14] = 255
    return Pair(image, mask)


def patients(*counts: int, channels: int = 3) -> list[list[Pair]]:
    return [[pair(100 * i + j, channels=channels) for j in range(count)] for i, count in enumerate(counts)]


def prior(channels: int = 3) -> PublicPairs:
    return PublicPairs.of([pair(seed, channels=channels) for seed in range(1000, 1004)])


def same(some: list[Pair], others: list[Pair]) -> bool:
    return all(
        np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask) for a, b in zip(some, others, strict=True)
    )


def weights(generator: PrivateCohortGenerator) -> torch.Tensor:
    return torch.cat([p.flatten() for p in generator.refiner.state_dict().values()])


@pytest.fixture(scope="module")
def trained() -> PrivateCohortGenerator:
    torch.set_num_threads(1)
    return train_private_cohort(patients(1, 2, 6), TINY, PRIVACY, prior(), seed=3)


def test_a_saved_generator_draws_the_same(trained: PrivateCohortGenerator, tmp_path: Path) -> None:
    trained.save(tmp_path / "generator.safetensors")
    loaded = PrivateCohortGenerator.load(tmp_path / "generator.safetensors")

    assert same(trained.sample(5, 3), loaded.sample(5, 3))
    assert not same(trained.sample(5, 3), trained.sample(6, 3))
    assert loaded.spent == trained.spent


def test_another_file_is_not_a_private_generator(tmp_path: Path) -> None:
    (tmp_path / "generator.safetensors").write_bytes(b"something else")

    with pytest.raises(SynthwardError) as caught:
        PrivateCohortGenerator.load(tmp_path / "generator.safetensors")

    assert caught.value.code == "storage.damaged"


def test_what_was_spent_is_said_as_the_ledger_takes_it(trained: PrivateCohortGenerator) -> None:
    assert trained.spent == (Spent("training", "poisson-sampled-gaussian", 1.0, 0.5, 4, 0.5, 3),)


def test_masks_are_the_scenes_own(trained: PrivateCohortGenerator) -> None:
    outlines = {np.rot90(m, k).tobytes() for m in (pair(0).mask, np.fliplr(pair(0).mask)) for k in range(4)}

    assert {drawn.mask.tobytes() for drawn in trained.sample(0, 8)} <= outlines


def test_the_seed_alone_does_not_give_the_generator_again() -> None:
    one, other = (train_private_cohort(patients(1, 1), TINY, PRIVACY, prior(), seed=3) for _ in range(2))

    assert not torch.equal(weights(one), weights(other))


def test_what_is_public_of_a_training_does_not_depend_on_who_was_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    states = []
    monkeypatch.setattr(training._Run, "_tell", lambda run, scale, step, steps: states.append(run._random.get_state()))
    ends = []
    for coin, people in ((0.0, patients(1, 5)), (1.0, patients(1, 5)), (0.0, patients(2, 1, 1))):
        states.clear()
        train_private_cohort(people, TINY, PRIVACY, prior(), seed=3, chance=Coins(coin))
        ends.append(torch.stack(states))

    assert all(torch.equal(ends[0], other) for other in ends[1:])


def test_only_the_mechanism_reads_patients(monkeypatch: pytest.MonkeyPatch) -> None:
    def unread(critic: PrivateCritic, *_: object, **__: object) -> None:
        critic.done += 1

    monkeypatch.setattr(PrivateCritic, "step", unread)
    one, other = (
        train_private_cohort(people, TINY, PRIVACY, prior(), seed=3) for people in (patients(1, 1), patients(4, 2, 1))
    )

    assert torch.equal(weights(one), weights(other))


def test_without_noise_patients_do_teach_the_generator() -> None:
    plain = Privacy(sigma=0.0, clip=1.0, q=1.0, steps=4)
    dark, bright = (
        train_private_cohort([[pair(1, brightness=b)]], TINY, plain, prior(), seed=3, chance=Coins(0.0))
        for b in (20, 127)
    )

    assert not torch.equal(weights(dark), weights(bright))


def test_every_private_step_is_taken_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Mechanism] = []
    real_step = PrivateCritic.step

    def counted(critic: PrivateCritic, *arguments: Any, **options: Any) -> None:
        real_step(critic, *arguments, **options)
        taken.append(critic.mechanism)

    monkeypatch.setattr(PrivateCritic, "step", counted)
    train_private_cohort(patients(1, 1, 1), TINY, PRIVACY, prior(), seed=0)

    assert taken == [Mechanism(1.0, 0.5, 0.5, 3)] * 4


def test_a_refiner_that_learnt_nothing_leaves_the_scenes_as_they_are() -> None:
    refiner = DetailGenerator(4, 8, torch.Generator().manual_seed(0))
    scenes = stacked([pair(seed) for seed in range(3)])

    for size_px in (16, 32, 64):
        assert torch.allclose(refined(refiner, scenes, size_px, torch.Generator()), scenes)


def test_a_share_of_the_change_is_made_and_the_mask_never_changes() -> None:
    refiner = DetailGenerator(4, 8, torch.Generator().manual_seed(0))
    torch.nn.init.normal_(refiner.tail.weight, 0.0, 0.02, generator=torch.Generator().manual_seed(1))
    refiner.requires_grad_(False)
    scenes = stacked([pair(seed) for seed in range(3)]) * 0.5
    none, half, whole = (
        refined(refiner, scenes, 16, torch.Generator().manual_seed(2), share) - scenes for share in (0.0, 0.5, 1.0)
    )

    assert not none.any()
    assert float(whole[:, :-1].abs().mean()) > 1e-3
    assert torch.allclose(half, 0.5 * whole, atol=1e-6)
    assert not whole[:, -1].any()


@settings(max_examples=5)
@given(size_px=st.sampled_from([16, 33, 48]), channels=st.sampled_from([1, 3]), critic_px=st.sampled_from([16, 32]))
def test_any_size_and_grey_give_what_was_asked(size_px: int, channels: int, critic_px: int) -> None:
    quick = replace(TINY, critic_px=critic_px)
    public = PublicPairs.of([pair(seed, size_px, channels) for seed in range(3)])
    own = [[pair(9, size_px, channels)]]

    (drawn,) = train_private_cohort(own, quick, replace(PRIVACY, steps=1), public, seed=0).sample(1)

    assert drawn.image.shape == ((size_px, size_px, 3) if channels == 3 else (size_px, size_px))
    assert drawn.image.dtype == np.uint8
    assert set(np.unique(drawn.mask)) <= {0, 255}


def test_phantoms_are_a_prior_too(tmp_path: Path) -> None:
    drawn = Phantoms(ENDOSCOPY, 32, 1)
    generator = train_private_cohort(patients(1, 1, channels=1), TINY, PRIVACY, drawn, seed=1)
    generator.save(tmp_path / "g.safetensors")

    assert PrivateCohortGenerator.load(tmp_path / "g.safetensors").prior == drawn
    assert generator.sample(0)[0].image.shape == (32, 32)


def test_progress_rises_to_the_end() -> None:
    told: list[Progress] = []
    train_private_cohort(patients(1), TINY, PRIVACY, prior(), seed=0, on_progress=told.append)

    assert [one.done for one in told] == sorted(one.done for one in told)
    assert told[-1].done == 1.0


def test_steps_beyond_the_limit_and_other_images_are_refused() -> None:
    for steps in (0, 1201):
        with pytest.raises(ValueError, match="private steps"):
            Privacy(1.0, 1.0, 0.5, steps)
    with pytest.raises(ValueError, match="channels"):
        train_private_cohort(patients(1, channels=1), TINY, PRIVACY, prior(), seed=0)
    with pytest.raises(SynthwardError) as none:
        train_private_cohort([], TINY, PRIVACY, prior(), seed=0)
    assert none.value.code == "training.none"
    with pytest.raises(SynthwardError) as unpaired:
        PublicPairs.of([])
    assert unpaired.value.code == "training.none"
    with pytest.raises(SynthwardError) as small:
        PublicPairs.of([pair(0, 14)])
    assert small.value.code == "training.too-small"


def test_less_memory_halves_what_is_public_of_a_step_and_nothing_else() -> None:
    preset = PRIVATE_PRESETS["fast"]

    assert with_half_the_batch(preset) == replace(preset, batch=preset.batch // 2)
    assert with_half_the_batch(replace(preset, batch=1)).batch == 1
