"""The time that training will still take: nothing before it means something, then what a steady pace makes true."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from site_node.work.time_left import Estimate


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@given(
    work=st.lists(st.integers(1, 50), min_size=1, max_size=8),
    pace=st.floats(0.01, 1.0),
    begun=st.floats(0.0, 0.5),
)
def test_at_a_steady_pace_the_estimate_is_the_time_that_it_takes(work: list[int], pace: float, begun: float) -> None:
    """One worker; the first case goes on from a checkpoint, whose work is not taken for this run's."""
    clock = Clock()
    ids = [str(n) for n in range(len(work))]
    estimate = Estimate(dict(zip(ids, map(float, work), strict=True)), workers=1, resumed=("0",), clock=clock)
    estimate.moved("0", begun)
    promised: list[tuple[float, float]] = []
    for number, size in enumerate(work):
        share = begun if number == 0 else 0.0
        for step in range(1, 11):
            moved = share + (1.0 - share) * step / 10
            clock.now += (1.0 - share) / 10 * size / pace
            estimate.moved(str(number), moved)
            left = estimate.seconds_left()
            if left is not None:
                promised.append((clock.now, left))
        estimate.settled(str(number), trained=True)
    for at, left in promised:
        assert at + left == pytest.approx(clock.now, rel=1e-6, abs=1e-3)
    assert estimate.seconds_left() in (0.0, None)


def test_nothing_is_said_before_there_is_something_to_judge_by() -> None:
    clock = Clock()
    estimate = Estimate({"a": 1.0, "b": 1.0}, workers=1, clock=clock)
    assert estimate.seconds_left() is None
    estimate.moved("a", 0.1)
    clock.now += 10.0
    assert estimate.seconds_left() is None, "too little time"
    estimate = Estimate({"a": 1.0, "b": 1.0}, workers=1, clock=clock)
    clock.now += 3600.0
    assert estimate.seconds_left() is None, "an hour, but no work"
    estimate.moved("a", 0.0)
    estimate.moved("a", 0.04)
    assert estimate.seconds_left() is None, "too little work"
    estimate.moved("a", 0.5)
    assert estimate.seconds_left() == pytest.approx(3600.0 * 3)


def test_two_workers_share_what_is_left_but_one_case_has_one_worker() -> None:
    clock = Clock()
    estimate = Estimate(dict.fromkeys("abc", 1.0), workers=2, clock=clock)
    clock.now += 100.0
    estimate.settled("a", trained=True)
    estimate.settled("b", trained=True)
    assert estimate.seconds_left() == pytest.approx(100.0), "the second worker cannot help with the third case"


def test_a_case_that_is_set_aside_is_no_work_left_and_no_work_done() -> None:
    clock = Clock()
    estimate = Estimate(dict.fromkeys("abcd", 1.0), workers=1, clock=clock)
    clock.now += 100.0
    estimate.settled("a", trained=True)
    estimate.settled("b", trained=False)
    assert estimate.seconds_left() == pytest.approx(200.0)
