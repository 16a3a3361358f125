"""A generator of one case: it learns, it can be kept, and what is kept holds neither the image nor a way back to it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.generators.inputs import arrays_of, as_tensor, stream
from site_node.generators.per_case import singan_seg
from site_node.generators.per_case.penalty import gradient_penalty, nested_gradient, plain_gradient
from site_node.generators.per_case.presets import DEMO, FAITHFUL, FAST, PRESETS, Preset
from site_node.generators.per_case.pyramid import (
    BlockConfig,
    Critic,
    Norm,
    ScaleGenerator,
    draw_noise,
    pad,
    rebuilding_noise,
    scale_sizes,
)
from site_node.generators.per_case.singan_seg import SinGanSeg, train_case
from site_node.generators.per_case.training import ScaleTraining, Target

TINY = replace(DEMO, name="tiny", shortest_px=14, max_scales=2, width=8, widest=8, iterations=(25,), bank=4, crop_px=20)


pytestmark = pytest.mark.usefixtures("one_thread")


def case(height: int = 28, width: int = 28, channels: int = 3, *, seed: int = 0) -> Pair:
    """A bright disc with a mask on a darker, uneven ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    lesion = (rows - 0.42 * height) ** 2 + (columns - 0.55 * width) ** 2 < (0.24 * min(height, width)) ** 2
    ground = 70 + 40 * rows / height + rng.normal(0, 6, (height, width))
    grey = np.where(lesion, 200 + rng.normal(0, 6, (height, width)), ground)
    image = grey if channels == 1 else np.stack([grey, 0.6 * grey, 0.4 * grey], axis=2)
    return Pair(image.clip(0, 255).astype(np.uint8), np.where(lesion, 255, 0).astype(np.uint8))


def weights(generator: SinGanSeg) -> dict[str, torch.Tensor]:
    return {
        f"{index}.{name}": tensor.clone()
        for index, scale in enumerate(generator.scales)
        for name, tensor in scale.generator.state_dict().items()
    }


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_pair(one: Pair, other: Pair) -> bool:
    return np.array_equal(one.image, other.image) and np.array_equal(one.mask, other.mask)


@pytest.fixture(scope="module")
def trained() -> SinGanSeg:
    return train_case(case(), TINY, seed=1)


# Scales.


@pytest.mark.parametrize(("side", "count"), [(250, 11), (128, 8), (64, 6), (25, 1), (400, 11)])
def test_the_authors_rule_gives_their_number_of_scales(side: int, count: int) -> None:
    sizes = scale_sizes((side, side), factor=0.75, shortest_px=25, longest_px=250)
    assert len(sizes) == count
    assert sizes[0] == (25, 25)
    assert sizes[-1] == (min(side, 250),) * 2


@given(
    st.integers(1, 600),
    st.integers(1, 600),
    st.floats(0.3, 0.9),
    st.integers(8, 40),
    st.one_of(st.none(), st.integers(1, 6)),
)
def test_scales_grow_to_the_size_asked_for_and_keep_the_aspect(
    height: int, width: int, factor: float, shortest: int, most: int | None
) -> None:
    sizes = scale_sizes((height, width), factor=factor, shortest_px=shortest, longest_px=250, max_scales=most)
    assert most is None or len(sizes) <= most
    assert max(sizes[-1]) == min(250, max(height, width))
    assert len(sizes) == 1 or min(sizes[0]) == shortest
    for finer, coarser in zip(sizes[1:], sizes, strict=False):
        assert finer[0] >= coarser[0]
        assert finer[1] >= coarser[1]
    for rows, columns in sizes:
        assert abs(rows * sizes[-1][1] - columns * sizes[-1][0]) <= max(sizes[-1])  # one pixel of rounding
    assert abs(sizes[-1][0] * width - sizes[-1][1] * height) <= max(height, width)


@pytest.mark.parametrize("size", [(0, 10), (10, -1)])
def test_a_size_without_pixels_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no scales"):
        scale_sizes(size, factor=0.75, shortest_px=25, longest_px=250)


# Networks.


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([2, 4]), st.sampled_from(["batch", "none"]))
@settings(max_examples=20, deadline=None)
def test_a_scale_generator_gives_the_size_of_its_base(height: int, width: int, channels: int, norm: Norm) -> None:
    generator = ScaleGenerator(BlockConfig(channels, 8, norm), torch.Generator()).eval()
    base = torch.zeros(2, channels, height, width)
    assert generator(pad(base), base).shape == base.shape


def test_a_crop_of_the_input_gives_the_crop_of_the_output() -> None:
    random = torch.Generator().manual_seed(0)
    generator = ScaleGenerator(BlockConfig(4, 8, "batch"), random).eval()
    base = torch.randn(1, 4, 30, 33, generator=random)
    noisy = pad(base) + 0.1 * torch.randn(1, 4, 40, 43, generator=random)
    with torch.no_grad():
        whole = generator(noisy, base)
        part = generator(noisy[:, :, 5:27, 7:29], base[:, :, 5:17, 7:19])
    torch.testing.assert_close(part, whole[:, :, 5:17, 7:19])


def test_a_quiet_start_adds_nothing_to_the_base() -> None:
    random = torch.Generator().manual_seed(0)
    generator = ScaleGenerator(BlockConfig(4, 8, "batch"), random)
    generator.start_as_plain_upscaling()
    base = torch.randn(1, 4, 20, 20, generator=random)
    assert torch.equal(generator(pad(base), base), base)


def test_the_coarsest_noise_is_one_channel_broadcast_and_has_a_zero_border() -> None:
    random = torch.Generator().manual_seed(0)
    coarsest = draw_noise(2, 4, (12, 9), coarsest=True, random=random)
    finer = draw_noise(2, 4, (12, 9), coarsest=False, random=random)
    assert coarsest.shape == finer.shape == (2, 4, 22, 19)
    assert torch.equal(coarsest[:, 0], coarsest[:, 3])
    assert not torch.equal(finer[:, 0], finer[:, 3])
    assert finer[:, :, :5].abs().max() == finer[:, :, :, -5:].abs().max() == 0


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_gradient_penalty_equals_a_slow_reference(norm: Norm) -> None:
    random = torch.Generator().manual_seed(3)
    critic = Critic(BlockConfig(4, 6, norm), random).double()
    points = torch.rand(1, 4, 13, 12, generator=random, dtype=torch.float64)

    # The gradient by central differences, pixel by pixel; then the formula, spelled out.
    gradient = torch.zeros_like(points)
    with torch.no_grad():
        for place in np.ndindex(*points.shape):
            step = torch.zeros_like(points)
            step[place] = 1e-6
            gradient[place] = (critic(points + step).sum() - critic(points - step).sum()) / 2e-6
    terms = [
        (math.sqrt(sum(float(gradient[0, c, row, column]) ** 2 for c in range(4))) - 1.0) ** 2
        for row in range(13)
        for column in range(12)
    ]
    assert gradient_penalty(critic, points).item() == pytest.approx(sum(terms) / len(terms), rel=1e-6)


@given(st.integers(1, 2), st.integers(1, 6), st.integers(11, 19), st.integers(11, 19), st.integers(0, 2**16))
@settings(max_examples=8, deadline=None)
def test_the_written_out_gradient_is_the_nested_one_and_so_is_what_the_weights_learn(
    count: int, channels: int, height: int, width: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    critic = Critic(BlockConfig(channels, 5, "none"), random).double()
    points = torch.randn(count, channels, height, width, generator=random, dtype=torch.float64)
    learnt = []
    for way in (plain_gradient, nested_gradient):
        critic.zero_grad(set_to_none=True)
        gradient = way(critic, points)
        (gradient.norm(2, dim=1) - 1.0).square().mean().backward()
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in critic.parameters()]
        learnt.append([gradient.detach(), *grads])
    for plain, nested in zip(*learnt, strict=True):
        torch.testing.assert_close(plain, nested, rtol=1e-9, atol=1e-12)
    assert any(grad.abs().max() > 1e-6 for grad in learnt[0][1:])


# Presets.


def test_faithful_is_the_authors_schedule() -> None:
    assert (FAITHFUL.factor, FAITHFUL.shortest_px, FAITHFUL.longest_px, FAITHFUL.max_scales) == (0.75, 25, 250, None)
    assert [FAITHFUL.width_of(scale) for scale in (0, 3, 4, 7, 8, 11, 40)] == [32, 32, 64, 64, 128, 128, 128]
    assert (FAITHFUL.iterations_of(0), FAITHFUL.iterations_of(10)) == (2000, 2000)
    assert (FAITHFUL.critic_steps, FAITHFUL.rebuilt_passes) == (3, 3)
    assert FAITHFUL.one_noise
    assert FAITHFUL.reuse_fake
    assert (FAITHFUL.learning_rate, FAITHFUL.betas, FAITHFUL.decay_at, FAITHFUL.decay_factor) == (
        5e-4,
        (0.5, 0.999),
        0.8,
        0.1,
    )
    assert (FAITHFUL.penalty_weight, FAITHFUL.reconstruction_weight, FAITHFUL.noise_share) == (0.1, 10.0, 0.1)
    assert FAITHFUL.generator_norm == FAITHFUL.critic_norm == "batch"


def test_presets_are_found_by_their_names() -> None:
    assert PRESETS == {"faithful": FAITHFUL, "fast": FAST, "demo": DEMO}


# Training.


@pytest.mark.parametrize(
    ("height", "width", "channels"), [(28, 28, 3), (28, 28, 1), (17, 61, 3), (45, 23, 1), (11, 12, 3)]
)
def test_any_aspect_and_odd_sizes_give_what_was_asked(height: int, width: int, channels: int) -> None:
    sample = train_case(case(height, width, channels), TINY, seed=0).sample(0)
    assert sample.image.shape == ((height, width) if channels == 1 else (height, width, 3))
    assert sample.mask.shape == (height, width)
    assert set(np.unique(sample.mask)) <= {0, 255}


def test_a_case_larger_than_the_longest_side_is_drawn_at_its_own_size() -> None:
    sample = train_case(case(50, 70), replace(TINY, longest_px=40), seed=0).sample(0)
    assert sample.image.shape == (50, 70, 3)


def test_every_preset_runs_with_its_own_switches() -> None:
    for preset in PRESETS.values():
        short = replace(preset, iterations=(4,), bank=preset.bank and 2, max_scales=3)
        assert train_case(case(30, 30), short, seed=0).sample(0).image.shape == (30, 30, 3)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(trained: SinGanSeg) -> None:
    assert same_weights(weights(train_case(case(), TINY, seed=1)), weights(trained))
    assert not same_weights(weights(train_case(case(), TINY, seed=2)), weights(trained))


def test_training_and_sampling_leave_the_global_random_state_alone() -> None:
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    train_case(case(), TINY, seed=5).sample(6)
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # type: ignore[index]


@pytest.mark.parametrize(
    "broken",
    [
        replace(TINY, learning_rate=1e30),
        replace(TINY, reconstruction_weight=float("nan")),
        replace(TINY, penalty_weight=float("inf")),
    ],
)
def test_divergence_is_reported_and_says_what_to_do(broken: Preset) -> None:
    with pytest.raises(SynthwardError) as caught:
        train_case(case(), broken, seed=0)
    assert caught.value.code == "training.diverged"
    assert caught.value.do


def test_a_scale_learns_to_rebuild_what_it_was_given() -> None:
    random = torch.Generator().manual_seed(0)
    real = as_tensor(*arrays_of(case(20, 20)))
    noise = draw_noise(1, 4, (20, 20), coarsest=True, random=random)
    generator = ScaleGenerator(BlockConfig(4, 16, "batch"), random)
    critic = Critic(BlockConfig(4, 16, "none"), random)
    target = Target(real, noise, torch.zeros_like(real), 1.0)
    training = ScaleTraining(generator, critic, target, [], replace(TINY, iterations=(150,), crop_px=None), random)
    while not training.ended:
        training.advance()
    with torch.no_grad():
        error = (generator.eval()(noise, target.rebuilt_base) - real).square().mean()
    assert error < 0.2 * real.var()  # a flat picture of the mean colour would give 1.0


def test_drawn_masks_follow_drawn_lesions_and_lie_where_lesions_do() -> None:
    source = case(28, 28)
    preset = replace(TINY, width=16, widest=16, iterations=(220, 60))
    generator = train_case(source, preset, seed=0)
    samples = [generator.sample(seed) for seed in range(12)]
    lesion = source.mask > 0
    overlaps, chances, contrasts = [], [], []
    for sample in samples:
        mask, grey = sample.mask > 0, sample.image.mean(axis=2)
        assert 0 < mask.mean() < 1
        overlaps.append((mask & lesion).sum() / (mask | lesion).sum())
        both = mask.mean() * lesion.mean()  # what two masks of these areas share if they know nothing of each other
        chances.append(both / (mask.mean() + lesion.mean() - both))
        contrasts.append(grey[mask].mean() - grey[~mask].mean())
    grey = source.image.mean(axis=2)
    assert np.mean(overlaps) > 3 * np.mean(chances)
    assert np.mean(contrasts) > 0.5 * (grey[lesion].mean() - grey[~lesion].mean())
    assert not same_pair(samples[0], samples[1])


# Sampling.


def test_the_same_sampling_seed_gives_the_same_pair_and_another_seed_another(trained: SinGanSeg) -> None:
    assert same_pair(trained.sample(3), trained.sample(3))
    assert not np.array_equal(trained.sample(3).image, trained.sample(4).image)


def test_sampling_leaves_the_generator_as_it_was(trained: SinGanSeg) -> None:
    before = weights(trained)
    for seed in range(3):
        trained.sample(seed)
    assert same_weights(weights(trained), before)
    assert not any(scale.generator.training for scale in trained.scales)


# What is kept.


def test_a_loaded_generator_draws_the_same_pairs(trained: SinGanSeg, tmp_path: Path) -> None:
    trained.save(tmp_path / "case.safetensors")
    loaded = SinGanSeg.load(tmp_path / "case.safetensors")
    assert replace(loaded, scales=()) == replace(trained, scales=())
    assert same_weights(weights(loaded), weights(trained))
    assert all(same_pair(loaded.sample(seed), trained.sample(seed)) for seed in range(4))
    assert [path.name for path in tmp_path.iterdir()] == ["case.safetensors"]
    assert (tmp_path / "case.safetensors").stat().st_mode & 0o077 == 0


def test_a_grey_and_an_oblong_case_come_back_too(tmp_path: Path) -> None:
    generator = train_case(case(20, 31, 1), TINY, seed=0)
    generator.save(tmp_path / "grey.safetensors")
    assert same_pair(SinGanSeg.load(tmp_path / "grey.safetensors").sample(1), generator.sample(1))


def test_a_checkpoint_holds_neither_the_image_nor_the_noise_that_rebuilds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets: list[torch.Tensor] = []
    original = singan_seg._target

    def recording(*args: Any) -> Target:
        target = original(*args)
        if not secrets:
            secrets.append(target.rebuilt_noisy[:, :1, 5:-5, 5:-5])  # z*, without its border
        secrets.extend((target.real, target.rebuilt_base))
        return target

    monkeypatch.setattr(singan_seg, "_target", recording)
    source = case()
    path = tmp_path / "case.safetensors"
    train_case(source, TINY, seed=7).save(path)
    stored = path.read_bytes()

    assert len(secrets) == 5
    planes = [plane.contiguous() for secret in secrets for plane in secret.flatten(0, 1) if plane.any()]
    rows = [row.contiguous().numpy().tobytes() for plane in planes for row in plane if row.std() > 0]
    assert len(rows) > 100
    assert not any(row in stored for row in rows)
    assert source.image[10].tobytes() not in stored
    assert source.mask.tobytes() not in stored

    tensors = safetensors.torch.load(stored)
    smallest = min(plane.numel() for plane in planes)
    for name, tensor in tensors.items():
        # No tensor has room for a plane of the image, but for the kernels: those must not resemble one.
        assert tensor.ndim <= 1 or tensor.shape[-2:] == (3, 3), name
        if tensor.numel() >= smallest:
            flat = tensor.flatten().double()
            for plane in planes:
                length = min(plane.numel(), flat.numel())
                both = torch.stack([flat[:length], plane.flatten()[:length].double()])
                assert abs(float(torch.corrcoef(both)[0, 1])) < 0.5, name
    with safetensors.safe_open(path, framework="pt") as file:
        description = file.metadata()["synthward"]
    assert "seed" not in description
    assert len(description) < 500


def test_no_sampling_seed_leads_back_to_the_noise_that_rebuilds_the_image() -> None:
    source = case()
    secrets = (source.image.tobytes(), source.mask.tobytes())
    fixed = rebuilding_noise(4, (14, 14), 7, *secrets)
    for seed in range(200):  # the training's own seed among them
        for purpose in ("sample", "train", "rebuild"):
            guess = draw_noise(1, 4, (14, 14), coarsest=True, random=stream(purpose, seed))
            assert not torch.equal(guess, fixed)
    assert not torch.equal(fixed, rebuilding_noise(4, (14, 14), 7, secrets[0], secrets[0]))
    assert not torch.equal(fixed, draw_noise(1, 4, (14, 14), coarsest=True, random=stream("train", 7, *secrets)))


@pytest.mark.parametrize("damage", ["truncated", "empty", "foreign", "missing-scale"])
def test_a_file_that_is_no_generator_is_refused(trained: SinGanSeg, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "case.safetensors"
    trained.save(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    else:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = {k: v for k, v in safetensors.torch.load_file(path).items() if not k.startswith("1.")}
        safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(SynthwardError) as caught:
        SinGanSeg.load(path)
    assert caught.value.code == "storage.damaged"


def test_a_file_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SinGanSeg.load(tmp_path / "none.safetensors")
