"""One noised mean over patients: each patient counts once and no further than the clip, with noise as stated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from site_node.dp.release import noised_mean

ROWS = arrays(np.float64, (3, 4), elements=st.floats(-1e3, 1e3))


@given(first=ROWS, second=ROWS, third=ROWS, clip=st.floats(0.01, 100.0))
def test_one_patient_more_moves_the_sum_by_at_most_the_clip(
    first: np.ndarray, second: np.ndarray, third: np.ndarray, clip: float
) -> None:
    with_all = noised_mean([first, second, third], sigma=0.0, clip=clip) * 3
    without = noised_mean([first, second], sigma=0.0, clip=clip) * 2

    assert np.linalg.norm(with_all - without) <= clip * (1 + 1e-9)


def test_within_the_clip_and_without_noise_it_is_the_mean_over_patients() -> None:
    patients = [np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 3.0]])]

    assert noised_mean(patients, sigma=0.0, clip=10.0) == pytest.approx([0.5, 1.0])


def test_a_patient_with_more_rows_counts_no_more() -> None:
    row = np.array([[0.3, 0.4]])

    assert noised_mean([row, row], sigma=0.0, clip=1.0) == pytest.approx(
        noised_mean([row, row.repeat(9, axis=0)], sigma=0.0, clip=1.0)
    )


def test_rows_that_are_no_numbers_and_patients_without_rows_add_nothing() -> None:
    patients = [np.array([[math.nan, math.inf]]), np.zeros((0, 2)), np.array([[0.3, 0.6]])]

    assert noised_mean(patients, sigma=0.0, clip=1.0) == pytest.approx([0.1, 0.2])


def test_noise_has_the_stated_spread_and_differs_each_time() -> None:
    patients = [np.zeros((1, 20_000))] * 4
    one, other = (noised_mean(patients, sigma=3.0, clip=0.5) for _ in range(2))

    assert one.std() == pytest.approx(3.0 * 0.5 / 4, rel=0.04)  # the standard error is 0.5 %
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


@pytest.mark.parametrize(
    ("sigma", "clip"), [(-1.0, 1.0), (math.nan, 1.0), (math.inf, 1.0), (1.0, 0.0), (1.0, math.inf)]
)
def test_a_mechanism_without_meaning_is_refused(sigma: float, clip: float) -> None:
    with pytest.raises(ValueError, match="mechanism"):
        noised_mean([np.zeros((1, 1))], sigma=sigma, clip=clip)
