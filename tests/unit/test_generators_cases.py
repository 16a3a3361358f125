"""What a case may be, what is said before and during its training, and what happens when the training fails."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels
from site_node.generators.inputs import arrays_of, as_arrays, as_tensor, check_arrays
from site_node.generators.per_case import singan_seg
from site_node.generators.per_case.plan import plan_case
from site_node.generators.per_case.presets import DEMO, FAITHFUL, FAST, PRESETS, Preset
from site_node.generators.per_case.singan_seg import SinGanSeg, train_arrays, train_case
from site_node.generators.per_case.training import Target
from site_node.generators.progress import Progress

TINY = replace(DEMO, name="tiny", shortest_px=14, max_scales=2, width=4, widest=4, iterations=(30, 10), bank=3)


pytestmark = pytest.mark.usefixtures("one_thread")


def arrays(height: int, width: int, channels: int, classes: int, *, exclusive: bool = True) -> tuple[Pixels, Pixels]:
    rng = np.random.default_rng(channels)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    masks = np.zeros((height, width, classes), np.uint8)
    for index in range(classes):
        masks[2 + 3 * index : 5 + 3 * index, 3:9, index] = 255
    if not exclusive:
        masks[:6, :6, :] = 255
    return image, masks


def pair(side: int = 18) -> Pair:
    image, masks = arrays(side, side, 3, 1)
    return Pair(image, masks[:, :, 0])


# Channels and classes.


@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (2, 3), (6, 2), (3, 1)])
def test_any_number_of_channels_and_classes_is_drawn_and_kept(tmp_path: Path, channels: int, classes: int) -> None:
    image, masks = arrays(17, 23, channels, classes)
    generator = train_arrays(image, masks, TINY, seed=0)
    generator.save(tmp_path / "case.safetensors")
    loaded = SinGanSeg.load(tmp_path / "case.safetensors")
    assert (loaded.channels, loaded.classes, loaded.size) == (channels, classes, (17, 23))
    for seed in range(3):
        drawn_image, drawn_masks = generator.sample_arrays(seed)
        assert drawn_image.shape == image.shape
        assert drawn_masks.shape == masks.shape
        assert drawn_image.dtype == drawn_masks.dtype == np.uint8
        assert set(np.unique(drawn_masks)) <= {0, 255}
        assert (drawn_masks > 0).sum(axis=2).max() <= 1
        again = loaded.sample_arrays(seed)
        assert np.array_equal(again[0], drawn_image)
        assert np.array_equal(again[1], drawn_masks)


def test_classes_that_overlap_in_the_case_may_overlap_in_samples() -> None:
    image, masks = arrays(16, 16, 3, 2, exclusive=False)
    assert not train_arrays(image, masks, TINY, seed=0).exclusive
    both = as_tensor(image, masks)
    assert np.array_equal(as_arrays(both, 3, exclusive=False)[1], masks)
    assert (as_arrays(both, 3, exclusive=True)[1] > 0).sum(axis=2).max() == 1


def test_a_pixel_of_several_classes_keeps_that_of_the_largest_value() -> None:
    values = torch.tensor([0.0, 0.3, 0.7, -0.2]).reshape(1, 4, 1, 1)  # one channel, three classes
    assert as_arrays(values, 1, exclusive=True)[1].tolist() == [[[0, 255, 0]]]
    assert as_arrays(values, 1, exclusive=False)[1].tolist() == [[[255, 255, 0]]]
    assert as_arrays(-values.abs() - 0.1, 1, exclusive=True)[1].tolist() == [[[0, 0, 0]]]


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**16))
def test_arrays_come_back_from_tensors_as_they_were(
    channels: int, classes: int, height: int, width: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    masks = np.where(rng.random((height, width, classes)) < 0.5, 255, 0).astype(np.uint8)
    back = as_arrays(as_tensor(image, masks), channels, exclusive=False)
    assert np.array_equal(back[0], image)
    assert np.array_equal(back[1], masks)


def test_a_case_that_is_no_pair_is_not_sampled_as_one() -> None:
    generator = train_arrays(*arrays(16, 16, 2, 1), TINY, seed=0)
    with pytest.raises(ValueError, match="use sample_arrays"):
        generator.sample(0)


# What is refused before training.


@pytest.mark.parametrize(
    ("size", "preset"), [((17, 200), replace(FAITHFUL, longest_px=100)), ((9, 30), TINY), ((10, 10), FAITHFUL)]
)
def test_a_case_too_small_for_the_critic_is_refused_with_its_sizes(size: tuple[int, int], preset: Preset) -> None:
    with pytest.raises(SynthwardError) as planned:
        plan_case(size, 4, preset)
    assert planned.value.code == "training.too-small"
    assert f"{size[0]} x {size[1]} px" in planned.value.what
    assert "11 px" in planned.value.what
    with pytest.raises(SynthwardError) as trained:
        train_arrays(*arrays(*size, 3, 1), preset, seed=0)
    assert trained.value.code == "training.too-small"


@pytest.mark.parametrize(
    ("image", "mask", "code"),
    [
        (np.full((20, 20, 3), 7), None, "training.constant-image"),
        (np.full((20, 20), 0), None, "training.constant-image"),
        (np.full((20, 20, 3), (9, 8, 7)), None, "training.constant-image"),
        (None, np.zeros((20, 20)), "training.mask-none"),
        (None, np.full((20, 20), 255), "training.mask-all"),
    ],
)
def test_a_case_that_teaches_nothing_is_refused(image: Pixels | None, mask: Pixels | None, code: str) -> None:
    sound = pair(20)
    check_arrays(*arrays_of(sound))
    poor = Pair(
        sound.image if image is None else image.astype(np.uint8), sound.mask if mask is None else mask.astype(np.uint8)
    )
    for refuse in (lambda: check_arrays(*arrays_of(poor)), lambda: train_case(poor, TINY, seed=0)):
        with pytest.raises(SynthwardError) as caught:
            refuse()
        assert caught.value.code == code
        assert caught.value.do


# Plan and progress.


@given(st.integers(11, 512), st.integers(11, 512), st.sampled_from(sorted(PRESETS)))
@settings(deadline=None)
def test_a_larger_case_is_planned_with_no_less_work_and_memory(height: int, width: int, name: str) -> None:
    preset = replace(PRESETS[name], longest_px=512)
    small, large = plan_case((height, width), 4, preset), plan_case((2 * height, 2 * width), 4, preset)
    if max(2 * height, 2 * width) <= 512:
        assert sum(large.work) >= sum(small.work)
        assert large.memory_bytes >= small.memory_bytes
    assert plan_case((height, width), 8, preset).memory_bytes >= small.memory_bytes
    assert small.scales[-1] == (height, width)
    assert len(small.work) == len(small.scales)


def test_a_worker_at_250_px_with_the_fast_preset_needs_less_than_a_gigabyte() -> None:
    libraries = 300 * 2**20  # the interpreter with torch, measured at 240 MiB
    assert plan_case((250, 250), 4, FAST).memory_bytes + libraries < 1e9


def test_progress_grows_from_nothing_to_all_and_names_where_it_is() -> None:
    told: list[Progress] = []
    train_case(pair(), TINY, seed=0, on_progress=told.append)
    assert [(p.scale, p.scales, p.step, p.steps) for p in told] == [(0, 2, 25, 30), (0, 2, 30, 30), (1, 2, 10, 10)]
    shares = [p.done for p in told]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[1] < shares[2] == 1.0
    # Pixels x width^2 x iterations: 14 x 14 x 30 and 18 x 18 x 10, the widths being equal.
    assert shares[1] == pytest.approx(14**2 * 30 / (14**2 * 30 + 18**2 * 10))


# Divergence.


def test_a_training_that_diverges_is_tried_at_two_lower_rates_and_then_given_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rates: list[float] = []
    path = tmp_path / "case.checkpoint.safetensors"
    with pytest.raises(SynthwardError) as caught:
        train_case(
            pair(),
            replace(TINY, learning_rate=1e30),
            seed=0,
            checkpoint=path,
            on_progress=lambda p: rates.append(p.done),
        )
    assert caught.value.code == "training.diverged"
    assert caught.value.do
    assert capsys.readouterr().out.count("tried again at a lower rate") == 2
    assert not path.exists()


def test_a_lower_rate_saves_a_training_that_diverges_at_the_presets(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(rate: float, *tried: float) -> SinGanSeg:
        monkeypatch.setattr(singan_seg, "_RATES", tried)
        return train_case(pair(), replace(TINY, learning_rate=rate), seed=0)

    rate = 0.03
    with pytest.raises(SynthwardError) as caught:  # noqa: PT012 - searches for a rate that fails while its half trains
        while rate < 1e3:
            train(rate, 1.0)
            rate *= 2
    assert caught.value.code == "training.diverged"
    assert rate > 0.03
    saved = train(rate, 1.0, 0.5)
    assert np.array_equal(saved.sample(1).image, train(rate / 2, 1.0).sample(1).image)


@pytest.mark.parametrize("what", ["constant", "far"])
def test_a_ruined_scale_counts_as_diverged(what: str) -> None:
    real = as_tensor(*arrays(16, 16, 3, 1))
    target = Target(real, real, torch.zeros_like(real), 1.0)
    singan_seg._refuse_ruins(0.9 * real, target, 0)
    ruined = torch.zeros_like(real) if what == "constant" else -3.0 * real
    with pytest.raises(SynthwardError, match="scale 0"):
        singan_seg._refuse_ruins(ruined, target, 0)
