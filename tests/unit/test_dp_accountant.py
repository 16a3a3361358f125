"""Epsilon from facts: checked against dp-accounting, against a second computation, and against a closed form."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from site_node.dp.accountant import epsilon, sigma_for
from site_node.dp.events import Event, GaussianRelease, Noised, PoissonSampledGaussian, Reading, Unaccounted
from tests.privacy_loss import epsilon_by_losses

few = settings(deadline=None, max_examples=3)
TRAINING = PoissonSampledGaussian(1.67, 16 / 200, 1200)
SMALL = PoissonSampledGaussian(5.6, 16 / 50, 1200)
MOMENTS = GaussianRelease(5.0)
MIXED: tuple[Noised, ...] = (GaussianRelease(2.0, 3), PoissonSampledGaussian(1.0, 0.04, 500), GaussianRelease(8.0, 6))

# dp-accounting 0.6.0, PLDAccountant and RdpAccountant, ADD_OR_REMOVE_ONE: what it gave for these events in 2026-11.
BY_DP_ACCOUNTING: list[tuple[tuple[Noised, ...], float, float, float]] = [
    ((TRAINING,), 5e-4, 7.165941, 7.979785),
    ((TRAINING,), 1e-5, 9.112501, 9.848022),
    ((SMALL,), 5e-4, 7.980103, 8.850391),
    ((SMALL,), 1e-5, 10.001543, 10.806402),
    ((MOMENTS,), 5e-4, 0.501650, 0.577349),
    ((MOMENTS,), 1e-5, 0.725522, 0.794522),
    ((TRAINING, MOMENTS), 5e-4, 7.219068, 8.037785),
    ((TRAINING, MOMENTS), 1e-5, 9.174980, 9.914022),
    (MIXED, 5e-4, 5.657454, 6.376808),
    (MIXED, 1e-5, 7.374366, 8.064103),
]

noised = st.one_of(
    st.builds(GaussianRelease, st.floats(1.0, 20.0), st.integers(1, 5)),
    st.builds(PoissonSampledGaussian, st.floats(0.8, 6.0), st.floats(0.01, 0.5), st.integers(1, 300)),
)


@pytest.mark.parametrize(("events", "delta", "pld", "rdp"), BY_DP_ACCOUNTING)
def test_both_figures_are_those_of_dp_accounting_within_one_percent(
    events: tuple[Noised, ...], delta: float, pld: float, rdp: float
) -> None:
    found = epsilon(events, delta)
    assert found.prv == pytest.approx(pld, rel=0.01)
    assert found.prv >= pld - 1e-4  # an upper bound, not an estimate
    assert found.rdp == pytest.approx(rdp, rel=0.01)


@pytest.mark.parametrize("delta", [5e-4, 1e-6])
@pytest.mark.parametrize(
    "triples",
    [
        [(1.67, 16 / 200, 1200)],
        [(0.9, 0.02, 400), (5.0, 1.0, 2)],
        [(3.0, 0.25, 100), (1.1, 0.01, 2000), (4.0, 1.0, 1)],
    ],
)
def test_the_figure_is_that_of_a_second_computation_within_one_percent(
    triples: list[tuple[float, float, int]], delta: float
) -> None:
    events = [PoissonSampledGaussian(*triple) for triple in triples]
    assert epsilon(events, delta).prv == pytest.approx(epsilon_by_losses(triples, delta), rel=0.01)


@pytest.mark.parametrize("sigma", [0.7, 2.0, 5.0, 40.0])
def test_gaussian_releases_cost_what_their_closed_form_says(sigma: float) -> None:
    """Balle and Wang, "Improving the Gaussian mechanism", ICML 2018, theorem 8; k releases are one of sigma/sqrt(k)."""
    delta, count = 1e-5, 3
    found = epsilon([GaussianRelease(sigma, count)], delta).prv
    one = sigma / math.sqrt(count)

    def delta_at(eps: float) -> float:
        return float(ndtr(0.5 / one - eps * one) - math.exp(eps) * ndtr(-0.5 / one - eps * one))

    assert delta_at(found) <= delta
    assert delta_at(0.985 * found) > delta


def test_a_reading_that_nothing_bounds_makes_epsilon_infinite() -> None:
    events: list[Event] = [TRAINING, Unaccounted("style")]
    found = epsilon(events, 1e-5)
    assert math.isinf(found.prv)
    assert math.isinf(found.rdp)


def test_nothing_read_is_nothing_spent() -> None:
    found = epsilon([], 1e-5)
    assert (found.prv, found.rdp) == (0.0, 0.0)


@few
@given(st.lists(noised, min_size=1, max_size=3), noised)
def test_neither_order_nor_one_reading_more_makes_it_less(events: list[Noised], more: Noised) -> None:
    alone, both = epsilon(events, 1e-5), epsilon([*events, more], 1e-5)
    assert both.rdp >= alone.rdp
    assert both.prv >= 0.99 * alone.prv  # each is a bound with a tolerance of its own
    assert alone.prv <= 1.01 * alone.rdp
    assert epsilon(events[::-1], 1e-5) == alone


@few
@given(st.floats(0.8, 6.0), st.floats(0.01, 0.5), st.lists(st.integers(1, 100), min_size=1, max_size=5))
def test_steps_reserved_in_parts_cost_what_they_cost_together(sigma: float, q: float, parts: list[int]) -> None:
    in_parts = [PoissonSampledGaussian(sigma, q, part) for part in parts]
    assert epsilon(in_parts, 1e-5) == epsilon([PoissonSampledGaussian(sigma, q, sum(parts))], 1e-5)


def test_one_more_small_release_beside_a_training_is_nearly_free() -> None:
    assert epsilon([TRAINING, MOMENTS], 5e-4).prv < 1.02 * epsilon([TRAINING], 5e-4).prv


def test_an_epsilon_without_meaning_neither_fails_nor_takes_the_memory() -> None:
    found = epsilon([PoissonSampledGaussian(0.5, 0.9, 5000)], 1e-5)
    assert found.prv == found.rdp
    assert 1000.0 < found.prv < math.inf


@pytest.mark.parametrize(("wanted", "besides"), [(3.0, ()), (1.0, (MOMENTS,))])
def test_the_noise_that_is_found_reaches_epsilon_and_hardly_more(wanted: float, besides: tuple[Noised, ...]) -> None:
    sigma = sigma_for(wanted, 5e-4, q=0.08, steps=20, besides=besides)
    assert epsilon([*besides, PoissonSampledGaussian(sigma, 0.08, 20)], 5e-4).prv <= wanted
    assert epsilon([*besides, PoissonSampledGaussian(0.99 * sigma, 0.08, 20)], 5e-4).prv > wanted


def test_no_noise_is_enough_where_the_account_is_spent_already() -> None:
    with pytest.raises(ValueError, match="alone"):
        sigma_for(0.5, 5e-4, q=0.08, steps=10, besides=(MOMENTS,))


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_that_is_none_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta"):
        epsilon([MOMENTS], delta)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf])
def test_a_noise_that_bounds_nothing_is_no_mechanism(sigma: float) -> None:
    with pytest.raises(ValueError, match="Unaccounted"):
        GaussianRelease(sigma)
    with pytest.raises(ValueError, match="Unaccounted"):
        PoissonSampledGaussian(sigma, 0.1, 10)


@pytest.mark.parametrize(
    "change", [{"q": 0.0}, {"q": 1.1}, {"steps": 0}, {"clip": 0.0}, {"clip": math.inf}, {"delta": 0.0}, {"patients": 0}]
)
def test_a_reading_is_refused_where_one_of_its_numbers_means_nothing(change: dict[str, float]) -> None:
    values = {"q": 0.1, "steps": 10, "clip": 1.0, "delta": 1e-5, "patients": 100} | change
    with pytest.raises(ValueError, match=r"sampling rate|times|clip|delta|patients"):
        Reading(
            PoissonSampledGaussian(1.0, values["q"], int(values["steps"])), "training", "0" * 64, "r", "trainer",
            values["clip"], values["delta"], int(values["patients"]),
        )  # fmt: skip
