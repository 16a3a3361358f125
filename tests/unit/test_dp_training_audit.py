"""The canary audit finds a leak where there is one, and contradicts no guarantee that holds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants import RDPAccountant

from tests.benchmarks.dp_audit import judged, lower_bound, p_value, run

pytestmark = pytest.mark.usefixtures("one_thread")


def test_without_noise_the_leak_is_found() -> None:
    audit = run(60, sigma=0.0, clip=1.0, q=0.5, steps=8, delta=1e-4, size_px=8)

    assert audit.right >= 0.9 * audit.guesses
    assert audit.lower_bound > 1.5


def test_with_the_noise_of_a_small_epsilon_less_than_that_is_certified() -> None:
    accountant = RDPAccountant()
    accountant.history = [(12.0, 0.5, 8)]
    epsilon = accountant.get_epsilon(1e-4)

    audit = run(60, sigma=12.0, clip=1.0, q=0.5, steps=8, delta=1e-4, size_px=8)

    assert epsilon < 1.0
    assert audit.lower_bound <= epsilon  # wrong once in twenty where the guarantee is exhausted; here it is far from it


def test_the_bound_is_the_one_of_randomised_response() -> None:
    # All of n guesses right: q^n = 0.05 with q = 1 / (1 + exp(-epsilon)), solved by hand.
    q = 0.05 ** (1 / 40)

    assert lower_bound(40, 40, 40, 0.0) == pytest.approx(np.log(q / (1 - q)), abs=1e-6)
    assert lower_bound(40, 40, 20, 0.0) == 0.0


@given(right=st.integers(0, 29), epsilon=st.floats(0.0, 8.0), delta=st.floats(0.0, 1e-3))
def test_more_right_guesses_never_certify_less(right: int, epsilon: float, delta: float) -> None:
    assert p_value(40, 30, right + 1, epsilon, delta) <= p_value(40, 30, right, epsilon, delta) + 1e-12
    assert lower_bound(40, 30, right, delta) <= lower_bound(40, 30, right + 1, 0.0) + 1e-9


def test_guesses_by_chance_certify_nothing() -> None:
    random = np.random.default_rng(0)

    assert judged(random.normal(size=200), random.random(200) < 0.5, guesses=130, delta=1e-5).lower_bound < 0.5
