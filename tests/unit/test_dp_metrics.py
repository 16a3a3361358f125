"""Averages over hold-out patients in mode dp: bounded for each patient, noised as stated, and paid for first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.metrics import NAMES, Metrics, patient_mean
from site_node.dp.events import GaussianRelease
from site_node.dp.metrics import CLIP, METRICS_SIGMA, metrics_reading, noisy_means, patient_sums
from site_node.dp.noise import SecretChance

unhurried = settings(deadline=None, max_examples=40)
shares = st.floats(0.0, 1.0)
figures = st.builds(Metrics, **dict.fromkeys(NAMES, shares))
cohorts = st.lists(st.tuples(st.sampled_from("abcde"), figures), min_size=1, max_size=12)


class Silence:
    """Chance without any: what the sums are before the noise."""

    def uniform(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)

    def normal(self, count: int) -> NDArray[np.float64]:
        return np.zeros(count)


class Fixed(Silence):
    """The same numbers at every draw."""

    def __init__(self, drawn: list[float]) -> None:
        self._drawn = np.array(drawn)

    def normal(self, count: int) -> NDArray[np.float64]:
        return self._drawn[:count]


def flat(value: float) -> Metrics:
    return Metrics(**dict.fromkeys(NAMES, value))


@unhurried
@given(cohorts, st.lists(figures, min_size=1, max_size=5))
def test_a_patient_more_moves_the_sums_by_no_more_than_the_clip(
    others: list[tuple[str, Metrics]], theirs: list[Metrics]
) -> None:
    """Whatever the number of their images: this is the sensitivity that the noise is scaled to."""
    moved = patient_sums([*others, *(("new", metrics) for metrics in theirs)]) - patient_sums(others)
    assert float(np.linalg.norm(moved)) <= CLIP + 1e-9


def test_the_clip_is_reached_by_a_patient_at_the_ends() -> None:
    moved = patient_sums([("a", flat(0.5)), ("new", flat(1.0))]) - patient_sums([("a", flat(0.5))])
    assert float(np.linalg.norm(moved)) == pytest.approx(CLIP)


@unhurried
@given(cohorts)
def test_without_noise_they_are_the_means_over_patients(cases: list[tuple[str, Metrics]]) -> None:
    found = noisy_means(cases, Silence(), floor=1)
    expected = patient_mean(cases)
    assert found.patients == len({patient for patient, _ in cases})
    for name in NAMES:
        assert getattr(found.metrics, name) == pytest.approx(getattr(expected, name), abs=1e-9)


def test_the_noise_has_the_standard_deviation_that_was_paid_for() -> None:
    cases = [(f"p{i}", flat(0.5)) for i in range(100)]  # in the middle: neither clamped, nor moved by the count's noise
    chance, sigma = SecretChance(), 2.0
    drawn = [noisy_means(cases, chance, floor=1, sigma=sigma).metrics for _ in range(60)]
    off = np.array([[getattr(metrics, name) - 0.5 for name in NAMES] for metrics in drawn]) * 100
    assert off.std() == pytest.approx(sigma * CLIP, rel=0.2)  # of 480 numbers: five standard errors


def test_every_figure_and_the_count_get_noise_of_their_own() -> None:
    steps = [float(i) for i in range(1, len(NAMES) + 2)]
    cases = [(f"p{i}", flat(0.5)) for i in range(1000)]
    found = noisy_means(cases, Fixed(steps), floor=1, sigma=2.0)
    count = 1000.0 + 2.0 * CLIP * steps[-1]
    assert found.patients == round(count)
    assert [getattr(found.metrics, name) - 0.5 for name in NAMES] == pytest.approx(
        [2.0 * CLIP * step / count for step in steps[:-1]]
    )


@pytest.mark.parametrize("drawn", [[1e6] * 9, [-1e6] * 9, [1e6] * 8 + [-1e6], [-1e6] * 8 + [1e6]])
def test_whatever_the_noise_the_figures_are_figures(drawn: list[float]) -> None:
    found = noisy_means([("a", flat(0.3))], Fixed(drawn), floor=10)
    assert all(0.0 <= getattr(found.metrics, name) <= 1.0 for name in NAMES)
    assert found.patients >= 10


def test_two_patients_with_equal_images_count_as_two() -> None:
    assert noisy_means([("a", flat(0.9)), ("b", flat(0.9))], Silence(), floor=1).patients == 2


def test_what_is_paid_for_is_what_is_drawn() -> None:
    reading = metrics_reading(study_sha256="0" * 64, subject="m-1", delta=1e-5, patients=40)
    assert reading.event == GaussianRelease(METRICS_SIGMA, 1)
    assert reading.clip == CLIP == math.sqrt(3.0)
    assert reading.kind == "metrics"


def test_a_floor_that_could_divide_by_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="divide"):
        noisy_means([("a", flat(0.5))], Silence(), floor=0)
