"""Each distance against its formula, and on sets of which it is known how far they are apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from site_node.scoring.described import describe, joined
from site_node.scoring.frechet import covariance, frechet_distance, gaussian_frechet
from site_node.scoring.histograms import (
    INTENSITY_BINS,
    SHAPE_BINS,
    divergence,
    geometry,
    intensity_divergence,
    mask_divergence,
)
from site_node.scoring.kernel import kernel_distance
from site_node.scoring.single_image import Inner, inner_statistics, single_image_distance
from site_node.style.features import Features
from tests.unit.test_style_gatys import squeezenet

Floats = NDArray[np.float64]
unhurried = settings(deadline=None, max_examples=30)
variances = arrays(np.float64, 4, elements=st.floats(0.0, 4.0))


def normal(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


# Fréchet


@unhurried
@given(variances, variances, arrays(np.float64, 4, elements=st.floats(-3.0, 3.0)), st.integers(0, 9))
def test_the_frechet_distance_of_two_gaussians_has_its_closed_form(
    some: Floats, others: Floats, moved: Floats, turn: int
) -> None:
    """Where both have the same axes, it is that of each axis alone; and turning all space changes nothing."""
    expected = (moved**2).sum() + ((np.sqrt(some) - np.sqrt(others)) ** 2).sum()
    turned, _ = np.linalg.qr(normal(4, 4, seed=turn))
    first, second = (turned @ np.diag(own) @ turned.T for own in (some, others))
    found = gaussian_frechet(np.zeros(4), first, turned @ moved, second)
    assert float(found) == pytest.approx(expected, abs=1e-5)


def test_several_gaussians_at_once_are_each_on_its_own() -> None:
    vectors = normal(6, 20, 3)
    means, spreads = vectors.mean(axis=1), np.stack([covariance(one) for one in vectors])
    together = gaussian_frechet(means[0], spreads[0], means, spreads)
    alone = [float(gaussian_frechet(means[0], spreads[0], means[k], spreads[k])) for k in range(6)]
    assert together == pytest.approx(alone)
    assert together[0] == pytest.approx(0.0, abs=1e-9)


def test_of_many_vectors_it_is_that_of_their_gaussians() -> None:
    wide = np.array([1.0, 2.0, 3.0])
    found = frechet_distance(normal(4000, 3) * wide + [1.0, 0.0, 0.0], normal(4000, 3, seed=1))
    assert found == pytest.approx(1.0 + 0.0 + 1.0 + 4.0, rel=0.05)


def test_a_set_has_no_distance_from_itself_also_where_features_outnumber_images() -> None:
    vectors = normal(30, 500)
    assert frechet_distance(vectors, vectors) == pytest.approx(0.0, abs=1e-9)
    assert frechet_distance(vectors, normal(30, 500, seed=1)) > 0


@pytest.mark.parametrize("count", [12, 40])
def test_few_images_tell_a_shift_that_all_features_together_would_hide(count: int) -> None:
    """With 300 features chance alone is far; in a few components, a shift of each by a third of its spread is more."""
    moved = frechet_distance(normal(count, 300) + 0.3, normal(count, 300, seed=1))
    assert moved > 1.5 * frechet_distance(normal(count, 300, seed=2), normal(count, 300, seed=1))


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
def test_one_image_is_no_set(distance: object) -> None:
    with pytest.raises(ValueError, match="one image"):
        distance(normal(1, 4), normal(5, 4))  # type: ignore[operator]


# Kernel


def test_the_kernel_distance_is_its_formula() -> None:
    some, others = normal(4, 6), normal(5, 6, seed=1)

    def kernel(x: Floats, y: Floats) -> float:
        return float(sum(a * b for a, b in zip(x, y, strict=True)) / 6 + 1) ** 3

    within = [kernel(some[i], some[j]) for i in range(4) for j in range(4) if i != j]
    within_others = [kernel(others[i], others[j]) for i in range(5) for j in range(5) if i != j]
    between = [kernel(x, y) for x in some for y in others]
    expected = np.mean(within) + np.mean(within_others) - 2 * np.mean(between)
    assert kernel_distance(some, others) == pytest.approx(expected)


@pytest.mark.parametrize("count", [3, 20])
def test_it_is_zero_on_average_for_sets_from_one_source_however_few(count: int) -> None:
    pairs = [(normal(count, 8, seed=2 * k), normal(count, 8, seed=2 * k + 1)) for k in range(500)]
    found = np.array([kernel_distance(*pair) for pair in pairs])
    assert abs(found.mean()) < 4 * found.std() / 500**0.5
    shifted = [kernel_distance(normal(count, 8, seed=k) + 1.0, normal(count, 8, seed=1000 + k)) for k in range(100)]
    assert np.mean(shifted) > 10 * found.std() / 500**0.5


# Histograms


def test_the_divergence_of_two_histograms_is_its_formula() -> None:
    assert divergence(np.array([3.0, 1.0]), np.array([3.0, 1.0])) == 0
    p, q = np.array([3.5, 1.5]) / 5, np.array([0.5, 4.5]) / 5
    expected = sum(a * np.log(a / b) for a, b in zip(p, q, strict=True))
    assert divergence(np.array([3.0, 1.0]), np.array([0.0, 4.0])) == pytest.approx(expected)


@unhurried
@given(*[arrays(np.float64, 5, elements=st.integers(0, 9).map(float)) for _ in range(2)])
def test_a_divergence_is_finite_and_not_under_zero(some: Floats, others: Floats) -> None:
    assert -1e-12 <= divergence(some, others) < np.inf


def grey(levels: list[float], side: int = 8) -> Tensor:
    """Pairs of one level each, without a lesion: [N, 4, side, side]."""
    images = torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 3, side, side)
    return torch.cat([images, torch.zeros(len(levels), 1, side, side)], dim=1)


@pytest.mark.parametrize("bins", [1, 2, 10, 31])
def test_a_shift_of_all_intensities_is_as_far_for_one_bin_as_for_many(bins: int) -> None:
    """Two heaps in different bins: only that they differ counts, which the formula gives at once."""
    count = 5
    heap, empty = (count + 1 / INTENSITY_BINS) / (count + 1), (1 / INTENSITY_BINS) / (count + 1)
    found = intensity_divergence(grey([0.001] * count), grey([0.001 + bins / INTENSITY_BINS] * count))
    assert found == pytest.approx((heap - empty) * np.log(heap / empty), rel=1e-5)
    assert intensity_divergence(grey([0.001] * count), grey([0.002] * count)) == 0


def square(top: int, left: int, height: int, width: int, side: int = 32) -> NDArray[np.bool_]:
    mask = np.zeros((side, side), np.bool_)
    mask[top : top + height, left : left + width] = True
    return mask


def test_the_geometry_of_masks_worked_out_by_hand() -> None:
    assert geometry(square(0, 16, 8, 8)) == pytest.approx([0.25, 4 / 32, 20 / 32, 1.0, 0.0], abs=1e-6)
    assert geometry(square(3, 5, 1, 1)) == pytest.approx([1 / 32, 3.5 / 32, 5.5 / 32, 1.0, 0.0], abs=1e-6)
    # A line of nine: second moments of 9^2 / 12 along it and 1 / 12 across.
    assert geometry(square(10, 0, 1, 9))[4] == pytest.approx((1 - 1 / 81) ** 0.5)
    corner = square(0, 0, 8, 8) & ~square(0, 0, 4, 4)
    assert geometry(corner)[3] == 0.75
    assert geometry(square(0, 0, 32, 32)) == pytest.approx([1.0, 0.5, 0.5, 1.0, 0.0], abs=1e-6)
    assert np.isnan(geometry(square(0, 0, 0, 0))).all()


def masked(*masks: NDArray[np.bool_]) -> Tensor:
    layers = torch.from_numpy(np.stack(masks)).float()[:, None]  # [N, 1, H, W]
    return torch.cat([torch.zeros(len(masks), 3, *masks[0].shape), layers], dim=1)


def test_masks_elsewhere_larger_or_missing_are_far() -> None:
    some = masked(*[square(8, 8, 6, 6)] * 6)
    assert mask_divergence(some, some) == 0
    assert intensity_divergence(some, some) == 0
    empty, full = 1 / (SHAPE_BINS + 1) / 7, (6 + 1 / (SHAPE_BINS + 1)) / 7
    each = (full - empty) * np.log(full / empty)
    elsewhere, larger, missing = square(20, 20, 6, 6), square(2, 2, 18, 18), square(0, 0, 0, 0)
    assert mask_divergence(masked(*[elsewhere] * 6), some) == pytest.approx(2 / 5 * each)  # both coordinates
    assert mask_divergence(masked(*[larger] * 6), some) == pytest.approx(1 / 5 * each)  # the area alone
    assert mask_divergence(masked(*[missing] * 6), some) == pytest.approx(each)


# In a network


@pytest.fixture(scope="module")
def features() -> Features:
    return Features("squeezenet1_1", squeezenet())


def images(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 48, 48, generator=torch.Generator().manual_seed(seed))


def test_images_are_described_one_by_one_whatever_their_batch(features: Features) -> None:
    together = describe(images(35), features)
    assert [layer.shape for layer in together] == [(35, width) for width in (64, 128, 256, 384, 512)]
    alone = describe(images(35)[34:], features)
    for layer, one in zip(together, alone, strict=True):
        assert layer[34:] == pytest.approx(one, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("factor", [0.01, 1.0, 100.0])
def test_the_scale_of_a_layer_does_not_count(factor: float) -> None:
    some, others = ([normal(12, 5, seed=seed), normal(12, 9, seed=seed + 1)] for seed in (0, 2))
    scaled = [[side[0] * factor, side[1]] for side in (some, others)]
    assert np.hstack(joined(*scaled)) == pytest.approx(np.hstack(joined(some, others)))
    assert np.isfinite(np.hstack(joined(some, [np.zeros((12, 5)), others[1]]))).all()


def test_a_sample_is_held_against_the_nearest_real_image(features: Features) -> None:
    inner = inner_statistics(images(6), features)
    one = Inner(inner.means[2:3], inner.covariances[2:3], inner.mean_square)
    rest = Inner(np.delete(inner.means, 2, axis=0), np.delete(inner.covariances, 2, axis=0), inner.mean_square)
    assert single_image_distance(one, inner) == pytest.approx(0.0, abs=1e-9)
    each = [
        float(gaussian_frechet(one.means[0], one.covariances[0], mean, spread))
        for mean, spread in zip(rest.means, rest.covariances, strict=True)
    ]
    assert single_image_distance(one, rest) == pytest.approx(min(each) / inner.mean_square)
