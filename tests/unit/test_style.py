"""Style transfer takes the reference's colours and texture, and nothing else of it; the mask stays as it is."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.pairs import Pair, Pixels
from site_node.style.colour_and_texture import transfer


def blobs(seed: int, height: int, width: int, channels: int, *, mean: float = 120.0, spread: float = 25.0) -> Pixels:
    """A picture with structure at all scales: noise, and noise at an eighth of the size."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.0, spread, (-(-height // 8), -(-width // 8), channels))
    mixed = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width] @ rng.normal(0.0, 1.0, (channels, channels))
    noise = rng.normal(0.0, spread / 4, (height, width, channels))
    image = (mean + mixed + noise).clip(0, 255).astype(np.uint8)
    return image[:, :, 0] if channels == 1 else image


def pair_of(image: Pixels) -> Pair:
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[: image.shape[0] // 2] = 255
    return Pair(image, mask)


def colours(image: Pixels) -> NDArray[np.float64]:
    return image.reshape(-1, 1 if image.ndim == 2 else 3).astype(np.float64)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.sampled_from([1, 3]), st.sampled_from([1, 3]))
@settings(max_examples=25, deadline=None)
def test_any_size_and_any_channels_keep_the_shape_and_the_mask(
    height: int, width: int, reference_side: int, channels: int, reference_channels: int
) -> None:
    sample = pair_of(blobs(1, height, width, channels))
    reference = blobs(2, reference_side, reference_side, reference_channels, mean=90.0)
    styled = transfer(sample, reference, strength=0.7)
    assert styled.image.shape == sample.image.shape
    assert np.array_equal(styled.mask, sample.mask)


@pytest.mark.parametrize("channels", [1, 3])
def test_strength_zero_gives_the_sample_exactly(channels: int) -> None:
    sample = pair_of(blobs(1, 33, 47, channels))
    styled = transfer(sample, blobs(2, 64, 64, 3), strength=0.0)
    assert np.array_equal(styled.image, sample.image)
    assert np.array_equal(styled.mask, sample.mask)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_an_image_in_its_own_style_stays_as_it_is(channels: int, strength: float) -> None:
    image = blobs(3, 65, 50, channels)
    styled = transfer(pair_of(image), image, strength=strength).image
    assert np.abs(styled.astype(int) - image.astype(int)).max() <= 1


def test_full_strength_takes_mean_and_covariance_of_colour() -> None:
    # Smooth pictures (few low waves): nearly all of their variance is in the low-pass, where colours are matched.
    rows, columns = np.mgrid[:128, :128] / 128 * 2 * np.pi
    waves = np.stack([np.sin(rows), np.cos(columns), np.sin(rows + columns)], axis=2)
    mixing = np.array([[28.0, 0.0, 0.0], [15.0, 13.0, 0.0], [6.0, 9.0, 10.0]])
    sample = (110 + waves * 25).astype(np.uint8)
    reference = (np.array([150.0, 90.0, 70.0]) + waves[::-1] @ mixing.T).astype(np.uint8)
    styled = transfer(pair_of(sample), reference, strength=1.0).image
    before = np.cov(colours(sample).T) - np.cov(colours(reference).T)
    after = np.cov(colours(styled).T) - np.cov(colours(reference).T)
    assert np.abs(colours(styled).mean(0) - colours(reference).mean(0)).max() < 1.0
    assert np.linalg.norm(after) < 0.1 * np.linalg.norm(before)


def test_texture_takes_the_strength_of_the_references() -> None:
    rng = np.random.default_rng(4)
    smooth = (120 + rng.normal(0.0, 4.0, (64, 64, 3))).clip(0, 255).astype(np.uint8)
    rough = (120 + rng.normal(0.0, 9.0, (64, 64, 3))).clip(0, 255).astype(np.uint8)
    styled = transfer(pair_of(smooth), rough, strength=1.0).image
    assert styled.std() == pytest.approx(rough.std(), rel=0.1)


def test_a_gain_is_bounded_so_that_noise_is_not_blown_up() -> None:
    rng = np.random.default_rng(5)
    faint = (120 + rng.normal(0.0, 2.0, (64, 64))).clip(0, 255).astype(np.uint8)
    wild = (120 + rng.normal(0.0, 60.0, (64, 64))).clip(0, 255).astype(np.uint8)
    styled = transfer(pair_of(faint), wild, strength=1.0).image
    assert styled.std() < 4 * faint.std()


def test_the_layout_stays_the_samples() -> None:
    sample, reference = blobs(6, 64, 64, 1), blobs(7, 64, 64, 1, mean=60.0)
    styled = transfer(pair_of(sample), reference, strength=1.0).image
    with_sample = np.corrcoef(colours(styled).T, colours(sample).T)[0, 1]
    with_reference = np.corrcoef(colours(styled).T, colours(reference).T)[0, 1]
    assert with_sample > 0.9
    assert abs(with_reference) < 0.4


@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_colour_everywhere_is_no_reason_to_fail(value: int) -> None:
    flat = np.full((40, 40, 3), value, np.uint8)
    towards = blobs(8, 40, 40, 3)
    assert transfer(pair_of(flat), towards, strength=1.0).image.std(axis=(0, 1)).max() <= 1.0
    assert transfer(pair_of(towards), flat, strength=1.0).image.mean() == pytest.approx(value, abs=20)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_outside_its_range_is_refused(strength: float) -> None:
    image = blobs(9, 16, 16, 3)
    with pytest.raises(ValueError, match="outside 0 to 1"):
        transfer(pair_of(image), image, strength=strength)


def test_it_costs_milliseconds_at_64_px() -> None:
    sample, reference = pair_of(blobs(10, 64, 64, 3)), blobs(11, 64, 64, 3)
    started = time.process_time()
    for _ in range(20):
        transfer(sample, reference, strength=0.7)
    assert (time.process_time() - started) / 20 < 0.05
