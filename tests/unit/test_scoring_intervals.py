"""Bootstrap intervals: scipy's percentiles, Student's width for few patients, and the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from site_node.scoring.intervals import bootstrap_mean, outer_share

Floats = NDArray[np.float64]
unhurried = settings(deadline=None, max_examples=40)
shares = st.floats(0.0, 1.0, width=32)
patients = st.integers(2, 12).flatmap(lambda count: arrays(np.float64, (count, 3), elements=shares))


def figures(count: int, seed: int = 0) -> Floats:
    """IoU as networks have it: most lesions are found well, some not at all."""
    random = np.random.default_rng(seed)
    return np.where(random.random(count) < 0.15, 0.0, random.beta(6.0, 2.2, count))


def test_the_interval_is_that_of_scipy_at_the_widened_level() -> None:
    values = figures(30)
    mean, low, high = (float(part) for part in bootstrap_mean(values, seed=1, resamples=20_000))
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(2),
        confidence_level=1.0 - 2.0 * outer_share(30, 0.95),
    ).confidence_interval  # fmt: skip
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * (theirs.high - theirs.low))


@pytest.mark.parametrize("count", [10, 20, 100])
def test_of_normal_values_it_is_as_wide_as_students(count: int) -> None:
    """Plain percentiles of ten patients would be 18 % narrower."""
    values = stats.norm.ppf((np.arange(count) + 0.5) / count)
    _, low, high = bootstrap_mean(values, seed=0, resamples=20_000)
    wanted = 2.0 * stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5
    assert float(high - low) == pytest.approx(wanted, rel=0.035)


def test_it_holds_the_truth_about_as_often_as_it_says() -> None:
    truth, runs = 0.85 * 6.0 / 8.2, 400
    found = [bootstrap_mean(figures(20, seed), seed=seed, resamples=400) for seed in range(runs)]
    held = sum(bool(low <= truth <= high) for _, low, high in found) / runs
    assert 0.91 <= held <= 0.98  # three standard errors of 400 around .95, and a little for 20 patients


@unhurried
@given(patients)
def test_the_mean_lies_in_its_interval_and_that_among_the_patients(values: Floats) -> None:
    mean, low, high = bootstrap_mean(values, seed=0, resamples=100)
    assert mean == pytest.approx(values.mean(axis=0))
    assert (low <= mean).all()
    assert (mean <= high).all()
    assert (low >= values.min(axis=0) - 1e-12).all()
    assert (high <= values.max(axis=0) + 1e-12).all()


@unhurried
@given(patients)
def test_columns_share_their_resamples_so_that_pairs_stay_paired(values: Floats) -> None:
    together = np.stack(bootstrap_mean(values, seed=3, resamples=100))  # [3, columns]
    for column in range(values.shape[1]):
        alone = np.stack(bootstrap_mean(values[:, column], seed=3, resamples=100))
        assert together[:, column] == pytest.approx(alone, abs=1e-12)


@unhurried
@given(st.integers(2, 20), shares)
def test_patients_who_are_all_alike_have_an_interval_of_one_point(count: int, value: float) -> None:
    assert [float(part) for part in bootstrap_mean(np.full(count, value), seed=0, resamples=100)] == [value] * 3


def test_more_patients_narrow_the_interval_and_the_draws_come_in_parts() -> None:
    few, many = (bootstrap_mean(figures(count), seed=0, resamples=300) for count in (40, 20_000))
    assert float(many[2] - many[1]) < 0.1 * float(few[2] - few[1])
    assert float(many[2] - many[1]) == pytest.approx(2 * 1.96 * figures(20_000).std() / 20_000**0.5, rel=0.15)


def test_the_same_seed_gives_the_same_interval() -> None:
    first, again, other = (np.stack(bootstrap_mean(figures(20), seed=seed)) for seed in (1, 1, 2))
    assert (first == again).all()
    assert first[1] != other[1]


@pytest.mark.parametrize(
    ("values", "arguments", "words"),
    [
        (np.array([0.5]), {}, "two patients"),
        (np.zeros((0, 2)), {}, "two patients"),
        (np.zeros((2, 2, 2)), {}, "two patients"),
        (np.array([0.5, np.nan]), {}, "not finite"),
        (np.array([0.5, 0.6]), {"resamples": 99}, "no interval"),
        (np.array([0.5, 0.6]), {"confidence": 1.0}, "no interval"),
    ],
)
def test_what_has_no_interval_is_refused(values: Floats, arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        bootstrap_mean(values, seed=0, **arguments)  # type: ignore[arg-type]
