"""Noise and sampling as the accounting takes them for granted: their laws, and that nobody can repeat them."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from site_node.dp.noise import SecretChance, gaussian
from site_node.dp.sampling import poisson_batch

# A standard deviation from the expected value in 10^10 tests of a true law: these tests fail once in as many runs.
FAR = 6.5


def test_noise_has_the_stated_mean_variance_and_shape() -> None:
    drawn = SecretChance().normal(200_000)

    assert abs(drawn.mean()) < FAR / len(drawn) ** 0.5
    assert abs(drawn.var() - 1.0) < FAR * (2 / len(drawn)) ** 0.5
    assert abs((drawn**4).mean() - 3.0) < FAR * (96 / len(drawn)) ** 0.5
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < FAR / len(drawn) ** 0.5


def test_the_share_beyond_each_quantile_is_gaussian() -> None:
    drawn = SecretChance().normal(200_000)

    for bound in (0.5, 1.0, 2.0, 3.0):
        expected = math.erfc(bound / 2**0.5)
        assert abs((np.abs(drawn) > bound).mean() - expected) < FAR * (expected / len(drawn)) ** 0.5


@given(std=st.floats(1e-3, 1e3), rows=st.integers(0, 5), columns=st.integers(1, 5))
def test_noise_has_the_shape_and_scale_of_what_it_is_added_to(std: float, rows: int, columns: int) -> None:
    noise = gaussian(torch.zeros(rows, columns), std, SecretChance())

    assert noise.shape == (rows, columns)
    assert noise.dtype == torch.float32
    assert bool((noise.abs() < 12 * std).all())
    assert rows == 0 or bool(noise.any())


def test_without_a_standard_deviation_there_is_no_noise() -> None:
    assert not gaussian(torch.ones(3), 0.0, SecretChance()).any()
    for bad in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="standard deviation"):
            gaussian(torch.ones(3), bad, SecretChance())


def test_nobody_can_repeat_the_noise() -> None:
    one, other = SecretChance(), SecretChance()
    torch.manual_seed(0)
    first = one.normal(4)
    torch.manual_seed(0)

    assert not np.array_equal(first, one.normal(4))
    assert not np.array_equal(first, other.normal(4))
    assert not {name for name in vars(one) if "seed" in name or "key" in name}
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither copied nor saved"):
            copied(one)


def test_each_patient_is_sampled_by_a_coin_of_its_own() -> None:
    chance, patients, q, draws = SecretChance(), 40, 0.1, 4000
    batches = [poisson_batch(patients, q, chance) for _ in range(draws)]
    came = np.zeros((draws, patients))
    for row, batch in zip(came, batches, strict=True):
        row[batch] = 1.0

    assert np.abs(came.mean(0) - q).max() < FAR * (q * (1 - q) / draws) ** 0.5
    sizes = came.sum(1)  # binomial: a fixed size would have no variance, a shuffled order none either
    variance = patients * q * (1 - q)
    assert abs(sizes.var() - variance) < FAR * variance * (2.2 / draws) ** 0.5
    correlations = np.corrcoef(came.T)[np.triu_indices(patients, 1)]
    assert np.abs(correlations).max() < FAR / draws**0.5


def test_empty_batches_are_kept_and_full_ones_possible() -> None:
    chance = SecretChance()
    sizes = [len(poisson_batch(3, 0.05, chance)) for _ in range(200)]

    assert sizes.count(0) > 100
    assert poisson_batch(3, 1.0, chance) == [0, 1, 2]
    assert poisson_batch(0, 0.5, chance) == []


@given(q=st.one_of(st.floats(max_value=0.0), st.floats(min_value=1.0, exclude_min=True), st.just(math.nan)))
def test_a_rate_that_is_no_probability_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        poisson_batch(3, q, SecretChance())
