"""The generator of a whole cohort: it draws pairs, survives a kill, and says before training what it cannot do."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.generators.checkpoint_file import CheckpointFile
from site_node.generators.cohort import training as cohort_training
from site_node.generators.cohort.adversarial import Training, rate_share, zero_centred
from site_node.generators.cohort.augmentation import Augmentation, turned
from site_node.generators.cohort.generator import CohortGenerator
from site_node.generators.cohort.labeller import train_labeller
from site_node.generators.cohort.networks import DetailCritic, DetailGenerator, LayoutCritic, LayoutGenerator
from site_node.generators.cohort.presets import DEMO
from site_node.generators.cohort.scales import Reals, sizes_of
from site_node.generators.cohort.training import train_cohort
from site_node.generators.progress import Progress

TINY = replace(
    DEMO,
    layout_px=16,
    layout_widths=(8, 8),
    layout_critic_widths=(8, 8),
    layout=replace(DEMO.layout, steps=6, batch=4, penalty_every=2),
    detail_width=8,
    detail_critic_widths=(8, 8),
    detail=replace(DEMO.detail, steps=4, batch=2, penalty_every=2),
    crop_px=16,
    labeller_steps=0,
)


pytestmark = pytest.mark.usefixtures("one_thread")


def case(seed: int, height: int = 32, width: int = 32, channels: int = 3) -> Pair:
    """A bright round lesion on a dark ground with some noise."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    centre = (random.uniform(0.3, 0.7) * height, random.uniform(0.3, 0.7) * width)
    lesion = np.hypot(rows - centre[0], columns - centre[1]) < 0.2 * min(height, width)
    image = np.where(lesion, 200.0, 60.0)[:, :, None] + random.normal(0, 10, (height, width, channels))
    pixels = image.clip(0, 255).astype(np.uint8)
    return Pair(pixels if channels == 3 else pixels[:, :, 0], np.where(lesion, 255, 0).astype(np.uint8))


def cohort(count: int = 6, height: int = 32, width: int = 32, channels: int = 3) -> list[Pair]:
    return [case(seed, height, width, channels) for seed in range(count)]


def weights(generator: CohortGenerator) -> dict[str, torch.Tensor]:
    parts = {"layout": generator.layout} | {f"detail{i}": d for i, d in enumerate(generator.details)}
    found = {f"{part}.{name}": t for part, net in parts.items() for name, t in net.state_dict().items()}
    if generator.labeller is not None:
        found |= generator.labeller.tensors()
    return found


def same(one: CohortGenerator, other: CohortGenerator) -> bool:
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def same_pairs(one: list[Pair], other: list[Pair]) -> bool:
    return all(
        np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask) for a, b in zip(one, other, strict=True)
    )


@pytest.fixture(scope="module")
def trained() -> CohortGenerator:
    torch.set_num_threads(1)
    return train_cohort(cohort(), replace(TINY, labeller_steps=2), seed=3)


@given(height=st.integers(16, 600), width=st.integers(16, 600))
def test_scales_end_in_the_size_asked_for_and_each_is_half_the_next(height: int, width: int) -> None:
    sizes = sizes_of((height, width), 32)

    assert sizes[-1] == (height, width)
    assert max(sizes[0]) <= 32
    for coarse, fine in pairwise(sizes):
        assert coarse == ((fine[0] + 1) // 2, (fine[1] + 1) // 2)


@settings(max_examples=6, deadline=None)
@given(height=st.integers(17, 50), width=st.integers(17, 50), channels=st.sampled_from([1, 3]))
def test_any_aspect_odd_sizes_and_grey_give_what_was_asked(height: int, width: int, channels: int) -> None:
    quick = replace(TINY, layout=replace(TINY.layout, steps=1), detail=replace(TINY.detail, steps=1))

    (pair,) = train_cohort(cohort(4, height, width, channels), quick, seed=0).sample(1)

    assert pair.image.shape == ((height, width, 3) if channels == 3 else (height, width))
    assert set(np.unique(pair.mask)) <= {0, 255}


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    one, again, other = (train_cohort(cohort(), TINY, seed=seed) for seed in (1, 1, 2))

    assert same(one, again)
    assert not same(one, other)


def test_training_and_sampling_leave_the_global_random_state_alone(trained: CohortGenerator) -> None:
    before = torch.random.get_rng_state()

    train_cohort(cohort(), TINY, seed=1)
    trained.sample(0)

    assert torch.equal(before, torch.random.get_rng_state())


@settings(max_examples=5, deadline=None)
@given(stop_at=st.integers(1, 9))
def test_a_training_that_was_killed_goes_on_to_the_same_weights(
    stop_at: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("killed") / "cohort.checkpoint.safetensors"
    undisturbed = train_cohort(cohort(), TINY, seed=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointFile, "due", lambda self: True)  # a checkpoint after every step
        patch.setattr(cohort_training, "_TOLD_EVERY", 1)
        told: list[Progress] = []

        def kill(progress: Progress) -> None:
            told.append(progress)
            if len(told) == stop_at:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_cohort(cohort(), TINY, seed=5, checkpoint=path, on_progress=kill)
        steps_before = len(told)
        resumed = train_cohort(cohort(), TINY, seed=5, checkpoint=path, on_progress=told.append)

    assert same(undisturbed, resumed)
    # The step that was told last was not yet written: one step at most is done again.
    assert len(told) - steps_before <= TINY.layout.steps + TINY.detail.steps - stop_at + 1


def test_a_checkpoint_of_another_cohort_is_not_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "cohort.checkpoint.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckpointFile, "due", lambda self: True)
        patch.setattr(cohort_training, "_TOLD_EVERY", 3)

        def kill(progress: Progress) -> None:
            if progress.scale == 1:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_cohort(cohort(5), TINY, seed=5, checkpoint=path, on_progress=kill)
    assert path.exists()

    assert same(train_cohort(cohort(), TINY, seed=5, checkpoint=path), train_cohort(cohort(), TINY, seed=5))


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "cohort.checkpoint.safetensors"
    path.write_bytes(b"not a checkpoint")

    assert same(train_cohort(cohort(), TINY, seed=5, checkpoint=path), train_cohort(cohort(), TINY, seed=5))


def test_a_checkpoint_holds_no_pixel_of_the_cohort(tmp_path: Path) -> None:
    path = tmp_path / "cohort.checkpoint.safetensors"
    pairs = cohort()

    def kill(progress: Progress) -> None:
        if progress.scale == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_cohort(pairs, TINY, seed=5, checkpoint=path, on_progress=kill)
    tensors = safetensors.torch.load_file(path)
    reals = [Reals(pairs, size)[index] for size in ((16, 16), (32, 32)) for index in range(len(pairs))]

    assert tensors
    for tensor in tensors.values():
        assert not any(tensor.numel() == real.numel() and torch.allclose(tensor.view_as(real), real) for real in reals)
    assert path.stat().st_mode & 0o077 == 0


def test_the_same_sampling_seed_gives_the_same_pairs_and_another_seed_others(trained: CohortGenerator) -> None:
    assert same_pairs(trained.sample(7, 3), trained.sample(7, 3))
    assert not same_pairs(trained.sample(7, 3), trained.sample(8, 3))
    assert not same_pairs(trained.sample(7, 2)[:1], trained.sample(7, 2)[1:])


def test_a_loaded_generator_draws_the_same_pairs(trained: CohortGenerator, tmp_path: Path) -> None:
    path = tmp_path / "cohort.safetensors"
    trained.save(path)

    assert same_pairs(CohortGenerator.load(path).sample(7, 3), trained.sample(7, 3))
    assert path.stat().st_mode & 0o077 == 0


def test_the_critic_is_kept_with_the_generator_and_judges_as_before(trained: CohortGenerator, tmp_path: Path) -> None:
    trained.save(tmp_path / "cohort.safetensors")
    scores = CohortGenerator.load(tmp_path / "cohort.safetensors").critic_scores(cohort())
    assert len(set(scores)) == len(cohort())
    assert scores == trained.critic_scores(cohort())
    assert replace(trained, critic=None).critic_scores(cohort()) == []


@pytest.mark.parametrize("damage", ["empty", "cut", "other format", "missing tensor"])
def test_a_file_that_is_no_generator_is_refused(trained: CohortGenerator, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "cohort.safetensors"
    trained.save(path)
    data = path.read_bytes()
    if damage == "missing tensor":
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = safetensors.torch.load_file(path)
        tensors.pop("layout.tail.weight")
        data = safetensors.torch.save(tensors, metadata)
    path.write_bytes(
        {"empty": b"", "cut": data[:-100], "other format": data.replace(b"synthward.cohort/1", b"synthward.cohort/9")}
        .get(damage, data)
    )  # fmt: skip

    with pytest.raises(SynthwardError) as caught:
        CohortGenerator.load(path)

    assert caught.value.code == "storage.damaged"


@pytest.mark.parametrize(
    ("pairs", "code"), [(cohort(3), "training.too-few"), (cohort(4, 12, 40), "training.too-small")]
)
def test_what_cannot_be_trained_on_is_told_before_training(pairs: list[Pair], code: str) -> None:
    with pytest.raises(SynthwardError) as caught:
        train_cohort(pairs, TINY, seed=0, on_progress=lambda progress: pytest.fail(f"trained: {progress}"))

    assert caught.value.code == code
    assert caught.value.do


def test_a_training_that_diverges_is_tried_again_at_lower_rates_and_then_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []
    original = Training.step

    def failing(self: Training, *arguments: object) -> None:
        rates.append(self.schedule.learning_rate)
        if self.schedule.learning_rate > 0.3 * TINY.layout.learning_rate:
            with torch.no_grad():
                next(self.critic.parameters()).fill_(float("nan"))
        original(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Training, "step", failing)
    train_cohort(cohort(), TINY, seed=0)

    assert list(dict.fromkeys(rates))[:3] == pytest.approx([TINY.layout.learning_rate * s for s in (1.0, 0.5, 0.25)])

    with pytest.raises(SynthwardError) as caught:
        train_cohort(cohort(), replace(TINY, layout=replace(TINY.layout, learning_rate=1e9)), seed=0)
    assert caught.value.code == "training.diverged"


def test_progress_never_goes_back_and_ends_at_the_whole() -> None:
    told: list[Progress] = []

    train_cohort(cohort(), replace(TINY, labeller_steps=2), seed=0, on_progress=told.append)

    shares = [progress.done for progress in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {progress.scale for progress in told} == {0, 1, 2}


def test_drawn_pairs_come_to_look_like_the_cohort() -> None:
    """After few steps the ground is dark, the lesion bright, and the mask lies on it."""
    preset = replace(
        TINY,
        layout_widths=(24, 16),
        layout_critic_widths=(16, 24),
        layout=replace(TINY.layout, steps=120, batch=8, penalty_every=4),
    )
    pairs = train_cohort(cohort(12, 16, 16), preset, seed=0).sample(0, 16)
    marked = [p for p in pairs if 0.02 < (p.mask > 0).mean() < 0.6]

    assert len(marked) >= 12
    contrast = [float(p.image[p.mask > 0].mean() - p.image[p.mask == 0].mean()) for p in marked]
    assert float(np.median(contrast)) > 60  # 140 in the cohort


def test_the_labeller_marks_the_lesions() -> None:
    pairs = cohort(8)
    labeller = train_cohort(pairs, replace(TINY, labeller_steps=20), seed=0).labeller
    assert labeller is not None

    unmarked = [Pair(pair.image, np.zeros_like(pair.mask)) for pair in cohort(12)[8:]]
    for pair, real in zip([labeller.label(pair) for pair in unmarked], cohort(12)[8:], strict=True):
        both = ((pair.mask > 0) & (real.mask > 0)).sum()
        either = ((pair.mask > 0) | (real.mask > 0)).sum()
        assert both / either > 0.5


@pytest.mark.parametrize("size", [(20, 45), (300, 300)])
def test_an_image_of_any_shape_is_labelled_at_its_own_size(trained: CohortGenerator, size: tuple[int, int]) -> None:
    assert trained.labeller is not None
    assert trained.labeller.label(case(0, *size)).mask.shape == size


def test_a_large_cohort_is_labelled_at_a_size_that_fits_into_memory() -> None:
    labeller = train_labeller(cohort(4, 160, 256), (160, 256), steps=1, seed=0)

    assert labeller.segmenter.image.size_px == 128
    assert labeller.label(case(0, 160, 256)).mask.shape == (160, 256)


@pytest.mark.parametrize("critic_of", ["layout", "detail"])
def test_a_critic_treats_each_image_alone(critic_of: str) -> None:
    """Per-patient gradients need it: what one image scores does not depend on what else is in the batch."""
    random = torch.Generator().manual_seed(0)
    x, base = torch.randn(2, 5, 4, 16, 16, generator=random).unbind(0)
    critic = (
        LayoutCritic(4, (16, 16), (8, 8), random) if critic_of == "layout" else DetailCritic(4, (8, 8), random)
    ).double()  # fmt: skip
    for parameter in critic.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.1, generator=random)
    together = critic(x.double(), base.double())
    alone = torch.cat([critic(a, b) for a, b in zip(x.double().split(1), base.double().split(1), strict=True)])

    assert together.std() > 0
    assert torch.allclose(together, alone)


def test_detail_starts_as_plain_upscaling_and_differs_by_its_noise_later() -> None:
    random = torch.Generator().manual_seed(0)
    detail = DetailGenerator(4, 8, random)
    base = torch.randn(2, 4, 16, 16, generator=random)

    assert torch.equal(detail(base, detail.draw_noise(2, (16, 16), random)), base)
    torch.nn.init.normal_(detail.tail.weight, 0.0, 0.1, generator=random)
    noises = [detail.draw_noise(2, (16, 16), random) for _ in range(2)]
    assert not torch.equal(detail(base, noises[0]), detail(base, noises[1]))


def test_the_zero_centred_penalty_is_the_squared_gradient() -> None:
    """Of scores a . x^2 / 2 the gradient is a x, so the penalty is the mean over the batch of |a x|^2."""
    x = torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    a = torch.randn(2, 4, 4, dtype=torch.float64)

    penalty = zero_centred((a * x.square() / 2).sum((1, 2, 3)), x)

    assert torch.allclose(penalty, (a * x).square().sum((1, 2, 3)).mean())


@given(steps=st.integers(1, 5000), share=st.floats(0.0, 1.0))
def test_the_rate_holds_for_half_the_steps_and_then_falls(steps: int, share: float) -> None:
    rate = rate_share(int(share * steps), steps)

    assert 0.05 <= rate <= 1.0
    if share <= 0.5:
        assert rate == pytest.approx(1.0)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), channels=st.sampled_from([1, 3]))
def test_augmentation_moves_a_mask_with_its_image_and_keeps_its_values(seed: int, channels: int) -> None:
    random = torch.Generator().manual_seed(seed)
    mask = (torch.rand(4, 1, 16, 16, generator=random) > 0.5).float() * 2.0 - 1.0
    x = torch.cat([mask.expand(-1, channels, -1, -1) * 0.5, mask], dim=1)

    out = Augmentation.draw(4, (16, 16), random)(x, channels)

    assert out.shape == x.shape
    assert set(out[:, channels:].unique().tolist()) <= {-1.0, 1.0}
    # The image is a recoloured copy of its mask: after the same shift it still has one value for each of the mask's.
    for image, moved in zip(out[:, 0], out[:, channels], strict=True):
        assert all(float(image[moved == value].std(correction=0)) < 1e-5 for value in moved.unique())


def test_augmentation_lets_gradients_through() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, 16, 16, generator=random, requires_grad=True)

    Augmentation.draw(2, (16, 16), random)(x, 3).sum().backward()

    assert x.grad is not None
    assert bool((x.grad != 0).any())


def test_an_oblong_batch_is_turned_without_changing_its_shape() -> None:
    x = torch.arange(2 * 4 * 6 * 8, dtype=torch.float32).view(2, 4, 6, 8)
    for seed in range(8):
        out = turned(x, torch.Generator().manual_seed(seed))
        assert out.shape == x.shape
        assert torch.equal(out.flatten(1).sort().values, x.flatten(1).sort().values)


def test_images_beyond_the_memory_kept_are_read_again_and_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Reals(cohort(), (16, 16))
    monkeypatch.setattr("site_node.generators.cohort.scales._KEPT_BYTES", 0)
    read = Reals(cohort(), (16, 16))

    assert all(torch.equal(kept[index], read[index]) for index in range(len(kept)))


def test_a_layout_generator_gives_any_size_and_different_noise_gives_different_layouts() -> None:
    random = torch.Generator().manual_seed(0)
    layout = LayoutGenerator(4, (13, 21), (8, 8, 8), random)

    drawn = layout(layout.draw_noise(2, random))

    assert drawn.shape == (2, 4, 13, 21)
    assert not torch.equal(drawn[0], drawn[1])
