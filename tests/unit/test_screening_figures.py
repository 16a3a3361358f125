"""Limits, intervals and attacks: the arithmetic behind a verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.study import MaskLimits
from site_node.screening.limits import false_alarms, limit, limits
from site_node.screening.membership import (
    DistanceAttack,
    area_under_curve,
    by_patient,
    copying_z,
    true_positives_at,
)  # fmt: skip
from site_node.screening.plausibility import Ranges, mask_is_plausible, statistics, tolerance_factor
from site_node.screening.positions import positions
from site_node.screening.report import Histogram, Quantiles, Share
from tests.screened import STRANGERS, TRAINING

SCORES = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=80)


@given(scores=SCORES, rate=st.floats(0.001, 0.05))
def test_a_rarer_false_alarm_needs_a_higher_limit(scores: list[float], rate: float) -> None:
    assert limit(scores, rate / 2) >= limit(scores, rate)


@given(scores=SCORES)
def test_no_limit_is_below_the_second_nearest_hold_out_case(scores: list[float]) -> None:
    assert limit(scores, 0.01) >= sorted(scores)[-2]


def test_limits_keep_the_promised_rate_where_scores_are_gaussian() -> None:
    """Drawn from one distribution: the tail that is continued from 200 cases keeps a false alarm in a hundred."""
    rng = np.random.default_rng(1)
    found = [float((rng.standard_normal(4000) > limit(list(rng.standard_normal(200)), 0.01)).mean()) for _ in range(20)]
    assert 0.001 < np.mean(found) < 0.01


def test_one_patient_under_two_keys_does_not_lift_the_limit_above_every_copy() -> None:
    honest = list(np.random.default_rng(2).normal(0.3, 0.03, 60))
    assert limit([*honest, 0.98], 0.002) < 0.6


def test_without_a_hold_out_there_is_no_limit() -> None:
    assert limit([], 0.01) == math.inf


def test_a_cap_of_the_policy_is_never_passed() -> None:
    assert limits({"whole": [0.2, 0.9, 0.95]}, {"whole": 0.5})["whole"] == 0.5


def test_false_alarms_are_counted_by_limits_that_did_not_see_the_patient() -> None:
    scores = [0.1, 0.11, 0.12, 0.1, 0.13, 0.9, 0.9]
    patients = ["a", "b", "c", "d", "e", "f", "f"]
    found = false_alarms({"whole": scores}, patients, {})
    assert (found.k, found.n) == (2, 7)  # both images of f, far out, by limits from a to e
    assert false_alarms({"whole": [0.1]}, ["a"], {}).n == 0


@given(n=st.integers(1, 400), part=st.floats(0, 1))
def test_wilsons_interval_holds_the_share_and_narrows(n: int, part: float) -> None:
    k = round(part * n)
    share = Share.of(k, n)
    assert 0.0 <= share.low <= round(k / n, 4) + 1e-4
    assert round(k / n, 4) - 1e-4 <= share.high <= 1.0
    wider = Share.of(k, n)
    narrower = Share.of(4 * k, 4 * n)
    assert narrower.high - narrower.low <= wider.high - wider.low + 1e-4


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_the_area_is_the_share_of_pairs_that_are_ranked_right(members: list[int], others: list[int]) -> None:
    pairs = [(m > o) + 0.5 * (m == o) for m in members for o in others]
    found = area_under_curve(np.asarray(members, np.float64), np.asarray(others, np.float64))
    assert found.value == pytest.approx(np.mean(pairs), abs=1e-4)
    assert found.low <= found.value <= found.high


def test_a_patient_counts_once_by_the_nearest_image() -> None:
    assert list(by_patient([0.1, 0.9, 0.4], ["b", "a", "b"])) == [0.9, 0.4]


def test_true_positives_are_counted_above_what_one_in_a_hundred_others_reaches() -> None:
    others = np.arange(100, dtype=np.float64)
    assert true_positives_at(np.asarray([98.5, 99.5, 120.0]), others, 0.01).value == pytest.approx(2 / 3, abs=1e-3)


def views(rng: np.random.Generator, count: int) -> np.ndarray:
    """Embeddings of nobody: [count, 8, 16]."""
    return rng.standard_normal((count, 8, 16)).astype(np.float32)


def test_an_attack_on_copies_finds_every_member_and_on_strangers_none() -> None:
    rng = np.random.default_rng(3)
    real = views(rng, 60)
    patients = [f"p{i}" for i in range(60)]
    leaky, honest = (DistanceAttack(real, 30, patients) for _ in range(2))
    for place in range(30):
        leaky.add(real[place] + 0.01)
    for view in views(rng, 60):
        honest.add(view)

    assert leaky.result(0.7).auc.value > 0.99
    assert leaky.result(0.7).true_positives_at_1.value > 0.9
    assert 0.3 < honest.result(0.7).auc.value < 0.7
    assert leaky.nearer_to_training().low > 0.8
    assert honest.nearer_to_training().low < 0.5 < honest.nearer_to_training().high


def test_copying_is_told_by_its_sign() -> None:
    rng = np.random.default_rng(4)
    holdout = list(rng.normal(0.3, 0.05, 60))
    assert copying_z(list(rng.normal(0.9, 0.02, 100)), holdout) < -8
    assert abs(copying_z(list(rng.normal(0.3, 0.05, 100)), holdout)) < 3
    assert copying_z(list(rng.normal(0.1, 0.05, 100)), holdout) > 8
    assert copying_z([], holdout) == 0.0


def test_a_mask_is_held_to_the_studys_limits() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 10:20] = 255
    assert mask_is_plausible(mask, MaskLimits())
    assert not mask_is_plausible(mask, MaskLimits(min_area=0.05))
    assert not mask_is_plausible(mask, MaskLimits(max_area=0.01))
    two = mask.copy()
    two[40:50, 40:50] = 255
    assert not mask_is_plausible(two, MaskLimits(max_parts=1))
    two[30, 30] = 255  # a speck is no part
    assert mask_is_plausible(two, MaskLimits(max_parts=2))
    at_border = np.roll(mask, -10, 0)
    assert mask_is_plausible(at_border, MaskLimits())
    assert not mask_is_plausible(at_border, MaskLimits(may_touch_border=False))


def test_an_image_unlike_the_cohort_is_implausible() -> None:
    ranges = Ranges.of([statistics(pair.image) for pair in TRAINING], len(TRAINING))
    assert all(ranges.hold(statistics(pair.image)) for pair in TRAINING)
    assert sum(ranges.hold(statistics(pair.image)) for pair in STRANGERS) >= len(STRANGERS) - 1
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    green = TRAINING[0].image.copy()
    green[..., 1] = 255
    for seen in (ranges, Ranges.of([statistics(pair.image) for pair in TRAINING[:8]], 8)):
        assert not any(seen.hold(statistics(image)) for image in (noise, green, np.zeros_like(noise)))


def test_the_tolerance_factor_is_the_published_one() -> None:
    """The worked example of NIST's handbook of statistical methods, 7.2.6.3: 43 values, 90 %, confidence 99 %."""
    assert tolerance_factor(43, 0.90, 0.99) == pytest.approx(2.217, abs=1e-3)


@pytest.mark.parametrize("patients", [3, 8, 20])
@pytest.mark.parametrize("images", [1, 3])
def test_a_few_patients_drop_hardly_any_other_of_their_kind(patients: int, images: int) -> None:
    """In 95 of 100 cohorts of any size, 99 % of images like theirs pass; the plain range would drop a seventh by 8."""
    rng = np.random.default_rng(patients)

    def drawn(count: int) -> np.ndarray:
        """[count, images, 5]: most of what there is to see in an image is its patient's."""
        own = 3.0 * rng.standard_normal((count, 1, 5))
        return 100.0 + own + rng.standard_normal((count, images, 5))

    dropped = []
    for _ in range(100):
        held = Ranges.of(list(drawn(patients).reshape(-1, 5)), patients)
        dropped.append(np.mean([not held.hold(other) for other in drawn(200)[:, 0]]))
    assert np.mean(np.asarray(dropped) <= 0.01) >= 0.95


@given(seed=st.integers(0, 2**16), count=st.integers(150, 600))
@settings(max_examples=40)
def test_of_hundreds_of_patients_the_range_alone_decides(seed: int, count: int) -> None:
    drawn = 100.0 + 10.0 * np.random.default_rng(seed).standard_normal((count, 5))
    held = Ranges.of(list(drawn), count)
    room = 0.5 * np.ptp(drawn, axis=0)
    assert np.allclose(held.high, drawn.max(0) + room)
    assert np.allclose(held.low[:4], (drawn.min(0) - room)[:4])


def test_one_patient_alone_says_nothing_of_what_others_look_like() -> None:
    own = [statistics(pair.image) for pair in TRAINING[:2]]
    assert Ranges.of(own, 1).hold(statistics(255 - TRAINING[3].image))


@given(samples=SCORES, between=SCORES)
def test_every_score_is_counted_once_between_the_edges(samples: list[float], between: list[float]) -> None:
    drawn = Histogram.of(samples, between)
    assert len(drawn.edges) == len(drawn.samples) + 1
    assert (sum(drawn.samples), sum(drawn.between_patients)) == (len(samples), len(between))
    assert drawn.edges[0] <= min(*samples, *between) + 1e-5
    assert drawn.edges[-1] >= max(*samples, *between) - 1e-5
    found = Quantiles.of(samples)
    assert found.n == len(samples)
    assert found.low <= found.median <= found.p95 <= found.high


@pytest.mark.parametrize("shape", [(3, 3), (4, 4, 3)])
def test_a_square_has_eight_positions_and_each_of_them_has_the_same(shape: tuple[int, ...]) -> None:
    square = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    eight = {view.tobytes() for view in positions(square)}
    assert len(eight) == 8
    assert np.array_equal(positions(square)[0], square)
    assert all({other.tobytes() for other in positions(view)} == eight for view in positions(square))
