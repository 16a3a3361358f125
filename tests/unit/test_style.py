"""Style transfer takes a reference's colours or patches, in the measure that is asked for, and leaves the mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.pairs import Pair, Pixels
from shared.study import ImageSpec, StyleKind, StyleSource, StyleSpec
from site_node.style.interface import Style, prepare
from site_node.style.lab import from_lab, to_lab
from site_node.style.laplacian import join, split
from site_node.style.moments import moments, with_moments

SPEC = ImageSpec(size_px=64)
UNHURRIED = settings(deadline=None, max_examples=20)


def blobs(seed: int, height: int, width: int, channels: int, *, mean: float = 120.0, spread: float = 25.0) -> Pixels:
    """A picture with structure at all scales: noise, and noise at an eighth of the size."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(0.0, spread, (-(-height // 8), -(-width // 8), channels))
    mixed = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width] @ rng.normal(0.0, 0.6, (channels, channels))
    noise = rng.normal(0.0, spread / 4, (height, width, channels))
    image = (mean + mixed + noise).clip(0, 255).astype(np.uint8)
    return image[:, :, 0] if channels == 1 else image


def pair_of(image: Pixels) -> Pair:
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[: image.shape[0] // 2] = 255
    return Pair(image, mask)


def style(kind: StyleKind, *, strength: float = 1.0, source: StyleSource = "own") -> Style:
    spec = StyleSpec(kind=kind, source="none" if kind == "none" else source, strength=strength)
    return prepare(spec, SPEC, weights=None, public=None, stored=None, seed=0)


def styled(kind: StyleKind, sample: Pixels, reference: Pixels, *, strength: float = 1.0, seed: int = 1) -> Pixels:
    return style(kind, strength=strength).apply([pair_of(sample)], [reference], seed)[0].image


def sliced_distance(one: Pixels, other: Pixels) -> float:
    """Sliced Wasserstein distance of colours and of 5 x 5 patches: neither the code's directions nor its patches."""
    total = 0.0
    rng = np.random.default_rng(77)
    for side in (1, 5):
        values = []
        for image in (one, other):
            planes = image.astype(float) if image.ndim == 3 else image[:, :, None].astype(float)
            windows = np.lib.stride_tricks.sliding_window_view(planes, (side, side), axis=(0, 1))
            values.append(windows.reshape(-1, planes.shape[2] * side * side))
        directions = rng.standard_normal((values[0].shape[1], 40))
        directions /= np.linalg.norm(directions, axis=0)
        at = np.linspace(0.0, 1.0, 200)
        ranks = [np.quantile(found @ directions, at, axis=0) for found in values]
        total += float(np.abs(ranks[0] - ranks[1]).mean())
    return total


# Colour space and pyramid


@given(st.integers(0, 2**24 - 2**12), st.booleans())
@UNHURRIED
def test_every_colour_comes_back_from_lab(start: int, grey: bool) -> None:
    packed = np.arange(start, start + 2**12, dtype=np.uint32).reshape(64, 64)
    image = np.stack([packed >> 16, packed >> 8, packed], axis=2).astype(np.uint8)
    image = image[:, :, 2] if grey else image
    assert np.array_equal(np.rint(from_lab(to_lab(image))), image)


def test_lab_agrees_with_published_values() -> None:
    # sRGB's red, green, blue and mid grey under D65, as colour tables give them.
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [119, 119, 119]]], np.uint8)
    known = [[53.24, 80.09, 67.20], [87.73, -86.18, 83.18], [32.30, 79.19, -107.86], [50.03, 0.0, 0.0]]
    assert np.abs(to_lab(colours)[0] - known).max() < 0.05
    assert to_lab(colours[:, 3:, 0])[0, 0, 0] == pytest.approx(50.03, abs=0.01)


@given(st.integers(1, 70), st.integers(1, 70), st.integers(0, 4))
@UNHURRIED
def test_a_pyramid_that_was_not_changed_joins_exactly(height: int, width: int, levels: int) -> None:
    image = blobs(1, height, width, 3).astype(float)
    bands, low = split(image, levels)
    assert len(bands) == levels
    assert np.allclose(join(bands, low), image)


# What every kind promises


@given(
    st.sampled_from(["moments", "sliced"]), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90),
    st.sampled_from([1, 3]), st.sampled_from([1, 3]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_any_size_and_any_channels_keep_the_shape_and_the_mask(
    kind: StyleKind, height: int, width: int, reference_side: int, channels: int, reference_channels: int
) -> None:
    sample = pair_of(blobs(1, height, width, channels))
    reference = blobs(2, reference_side, reference_side, reference_channels, mean=90.0)
    (after,) = style(kind, strength=0.7).apply([sample], [reference], 5)
    assert after.image.shape == sample.image.shape
    assert np.array_equal(after.mask, sample.mask)


@pytest.mark.parametrize("kind", ["moments", "sliced", "gatys", "none"])
@pytest.mark.parametrize("channels", [1, 3])
def test_strength_zero_gives_the_sample_exactly_and_reads_nothing(kind: StyleKind, channels: int) -> None:
    sample = pair_of(blobs(1, 33, 47, channels))
    unmoved = style(kind, strength=0.0)
    assert unmoved.reads == "nothing"
    (after,) = unmoved.apply([sample], None, 1)
    assert np.array_equal(after.image, sample.image)
    assert np.array_equal(after.mask, sample.mask)


@pytest.mark.parametrize("kind", ["moments", "sliced"])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_in_its_own_style_stays_as_it_is(kind: StyleKind, channels: int) -> None:
    image = blobs(3, 65, 50, channels)
    after = styled(kind, image, image)
    assert np.abs(after.astype(int) - image.astype(int)).max() <= 1


@pytest.mark.parametrize("kind", ["moments", "sliced"])
def test_half_the_strength_is_half_the_way(kind: StyleKind) -> None:
    sample, reference = blobs(4, 40, 40, 3), blobs(5, 40, 40, 3, mean=90.0)
    halfway = (sample.astype(float) + styled(kind, sample, reference)) / 2
    assert np.abs(styled(kind, sample, reference, strength=0.5) - halfway).max() <= 1.0


@pytest.mark.parametrize("kind", ["moments", "sliced"])
def test_the_layout_stays_the_samples(kind: StyleKind) -> None:
    sample, reference = blobs(6, 64, 64, 1), blobs(7, 64, 64, 1, mean=60.0)
    after = styled(kind, sample, reference).ravel()
    assert np.corrcoef(after, sample.ravel())[0, 1] > 0.9
    assert abs(np.corrcoef(after, reference.ravel())[0, 1]) < 0.4


@pytest.mark.parametrize("kind", ["moments", "sliced"])
@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_colour_everywhere_is_no_reason_to_fail(kind: StyleKind, value: int) -> None:
    flat, towards = np.full((40, 40, 3), value, np.uint8), blobs(8, 40, 40, 3)
    assert styled(kind, flat, towards).std(axis=(0, 1)).max() <= 1.0
    assert styled(kind, towards, flat).mean() == pytest.approx(value, abs=20)


@pytest.mark.parametrize("kind", ["moments", "sliced"])
def test_a_batch_gives_what_its_samples_give_alone(kind: StyleKind) -> None:
    samples = [pair_of(blobs(seed, 48, 48, 3)) for seed in (1, 2, 3)]
    references = [blobs(seed, 48, 48, 3, mean=80.0) for seed in (4, 5, 6)]
    together = style(kind).apply(samples, references, 9)
    alone = [style(kind).apply([s], [r], 9)[0] for s, r in zip(samples, references, strict=True)]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(together, alone, strict=True))
    assert style(kind).apply([], [], 9) == []


# moments


@given(st.integers(0, 10**6), st.sampled_from([1, 3]))
@UNHURRIED
def test_moments_are_matched_exactly_before_rounding(seed: int, channels: int) -> None:
    colours, reference = to_lab(blobs(seed, 40, 31, channels)), to_lab(blobs(seed + 1, 20, 50, channels, mean=80.0))
    wanted, after = moments(reference), moments(with_moments(colours, moments(reference)))
    assert np.allclose(after.mean, wanted.mean, atol=1e-9)
    assert np.allclose(after.covariance, wanted.covariance, atol=1e-8 * np.abs(wanted.covariance).max())


@pytest.mark.parametrize("channels", [1, 3])
def test_full_strength_gives_the_references_moments_to_rounding(channels: int) -> None:
    # Pale colours: none leaves sRGB on its way, so nothing is cut.
    sample = blobs(1, 90, 70, channels, mean=130.0, spread=10.0)
    reference = blobs(2, 64, 64, channels, mean=110.0, spread=12.0)
    wanted, after = moments(to_lab(reference)), moments(to_lab(styled("moments", sample, reference)))
    assert np.abs(after.mean - wanted.mean).max() < 0.1
    assert np.abs(after.covariance - wanted.covariance).max() < 0.02 * np.abs(wanted.covariance).max()


def test_the_map_of_colours_is_symmetric_so_it_moves_them_least() -> None:
    # Of all linear maps that match the moments, the optimal one is the symmetric positive one: the gradient of a convex
    # function. Differences of inputs and outputs then never point against each other.
    colours = to_lab(blobs(3, 30, 30, 3))
    moved = with_moments(colours, moments(to_lab(blobs(4, 30, 30, 3, mean=70.0))))
    before, after = (np.diff(c.reshape(-1, 3), axis=0) for c in (colours, moved))
    assert np.einsum("nc,nc->n", before, after).min() >= -1e-9


# sliced


@given(st.integers(0, 10**6), st.sampled_from([1, 3]))
@settings(max_examples=8, deadline=None)
def test_sliced_comes_near_the_references_colours_and_patches(seed: int, channels: int) -> None:
    sample = blobs(seed, 48, 56, channels, mean=150.0, spread=15.0)
    reference = blobs(seed + 1, 64, 40, channels, mean=100.0)
    assert sliced_distance(styled("sliced", sample, reference), reference) < 0.3 * sliced_distance(sample, reference)


def test_sliced_takes_texture_where_moments_take_colour_only() -> None:
    # The reference has stripes of 1 px; the sample has the same colours in large blocks.
    reference = np.tile(np.array([[80], [160]], np.uint8), (32, 64))
    sample = (np.arange(64)[:, None] // 32 * 80 + 80 + np.zeros((1, 64))).astype(np.uint8)
    noisy = (sample + np.random.default_rng(0).normal(0.0, 3.0, sample.shape)).astype(np.uint8)

    def roughness(image: Pixels) -> float:
        return float(np.abs(np.diff(image.astype(float), axis=0)).mean())

    assert roughness(styled("sliced", noisy, reference)) > 3 * roughness(styled("moments", noisy, reference))


def test_sliced_leaves_a_plain_area_plain() -> None:
    sample = blobs(1, 64, 64, 3)
    sample[:, :32] = 0  # a black border has no ranks: whatever it becomes, it becomes that everywhere
    after = styled("sliced", sample, blobs(2, 64, 64, 3))[8:56, 8:16].astype(float)
    assert after.std(axis=(0, 1)).max() < 3.0


def test_sliced_is_decided_by_its_seed() -> None:
    sample, reference = blobs(1, 40, 40, 3), blobs(2, 40, 40, 3)
    same = [styled("sliced", sample, reference, seed=3) for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], styled("sliced", sample, reference, seed=4))
