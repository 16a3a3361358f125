"""The eight metrics against their formulas, written out plainly here, and the average by patient."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from random import Random

import numpy as np
import pytest
import sklearn.metrics
from flwr.app import ConfigRecord, MetricRecord, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydantic import ValidationError

from shared.messages import Answer, read_answer
from shared.metrics import NAMES, Metrics, case_metrics, patient_mean
from tests.helpers import refused

unhurried = settings(deadline=None, max_examples=60)
units = st.floats(0.0, 1.0, width=32)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))
cases = shapes.flatmap(
    lambda shape: st.tuples(arrays(np.float32, shape, elements=units), arrays(np.bool_, shape, elements=st.booleans()))
)
figures = st.builds(Metrics, **dict.fromkeys(NAMES, st.floats(0.0, 1.0)))


def plainly(probability: NDArray[np.float32], mask: NDArray[np.bool_]) -> dict[str, float]:
    """The formulas over a loop: pixel by pixel, in exact fractions."""
    tp = fp = fn = tn = 0
    both = total = Fraction(0)
    for p, m in zip(probability.ravel().tolist(), mask.ravel().tolist(), strict=True):
        found = p >= 0.5
        tp, fp, fn, tn = tp + (found and m), fp + (found and not m), fn + (not found and m), tn + (not found and not m)
        both += Fraction(p) * m
        total += Fraction(p) + m
    if tp + fp + fn == 0:
        return eight(0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)
    recall = tp / (tp + fn) if tp + fn else 1.0
    precision = tp / (tp + fp) if tp + fp else 0.0
    return {
        "dice_loss": float(1 - 2 * both / total),
        "iou": tp / (tp + fp + fn),
        # The harmonic mean of precision and recall; 0 where there is no true positive.
        "f_score": 2 * precision * recall / (precision + recall) if tp else 0.0,
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
        "recall": recall,
        "precision": precision,
        "hd95": plain_distance(probability >= 0.5, mask),
        "lesions_found": plain_lesions(probability >= 0.5, mask),
    }


def eight(*values: float) -> dict[str, float]:
    """Values by name, in the order of NAMES."""
    return dict(zip(NAMES, values, strict=True))


def pixels(area: NDArray[np.bool_]) -> set[tuple[int, int]]:
    return {(int(y), int(x)) for y, x in np.argwhere(area)}


def plain_distance(found: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """95 % Hausdorff distance over the diagonal: every pixel of one outline against every one of the other."""
    outlines = [
        {(y, x) for y, x in area if {(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)} - area}
        for area in (pixels(found), pixels(mask))
    ]
    if not all(outlines):
        return float(any(outlines))
    percentiles = []
    for outline, other in (outlines, reversed(outlines)):
        far = sorted(min(math.dist(a, b) for b in other) for a in outline)
        place = 0.95 * (len(far) - 1)  # between two of them, a percentile is on the line that joins them
        low, high = far[math.floor(place)], far[math.ceil(place)]
        percentiles.append(low + (high - low) * (place - math.floor(place)))
    return max(percentiles) / math.hypot(*mask.shape)


def plain_lesions(found: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    """The lesions one after the other, each gathered from a pixel by its eight neighbours."""
    left, hit, lesions = pixels(mask), 0, 0
    while left:
        lesion, new = set[tuple[int, int]](), {left.pop()}
        while new:
            y, x = new.pop()
            lesion.add((y, x))
            touching = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= touching
            new |= touching
        lesions += 1
        hit += 2 * len(lesion & pixels(found)) >= len(lesion)
    return hit / lesions if lesions else 1.0


@unhurried
@given(cases)
def test_the_metrics_are_their_formulas(case: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    assert case_metrics(*case).model_dump() == pytest.approx(plainly(*case), abs=1e-5)


@unhurried
@given(cases)
def test_f_score_and_iou_say_the_same_in_two_ways(case: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    metrics = case_metrics(*case)
    assert metrics.f_score == pytest.approx(2 * metrics.iou / (1 + metrics.iou))


@unhurried
@given(cases, st.randoms(use_true_random=False))
def test_where_a_pixel_stands_does_not_matter_to_what_counts_pixels(
    case: tuple[NDArray[np.float32], NDArray[np.bool_]], random: Random
) -> None:
    probability, mask = case
    order = list(range(mask.size))
    random.shuffle(order)
    counted = set(NAMES) - {"hd95", "lesions_found"}
    moved = case_metrics(probability.ravel()[order][None], mask.ravel()[order][None]).model_dump(include=counted)
    assert moved == pytest.approx(case_metrics(probability, mask).model_dump(include=counted), abs=1e-6)


@unhurried
@given(cases, st.sampled_from([np.flipud, np.fliplr, np.transpose]))
def test_a_turned_or_mirrored_case_has_the_same_figures(
    case: tuple[NDArray[np.float32], NDArray[np.bool_]], turned: Callable[..., NDArray[np.generic]]
) -> None:
    moved = case_metrics(*(np.ascontiguousarray(turned(part)) for part in case))
    assert moved.model_dump() == pytest.approx(case_metrics(*case).model_dump(), abs=1e-6)


@unhurried
@given(cases)
def test_the_counted_metrics_are_those_of_scikit_learn(case: tuple[NDArray[np.float32], NDArray[np.bool_]]) -> None:
    probability, mask = case
    ours = case_metrics(probability, mask)
    truth, found = mask.ravel(), probability.ravel() >= 0.5
    assert ours.accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, found))
    theirs = {
        "iou": sklearn.metrics.jaccard_score,
        "f_score": sklearn.metrics.f1_score,
        "recall": sklearn.metrics.recall_score,
        "precision": sklearn.metrics.precision_score,
    }
    for name, metric in theirs.items():
        # With no lesion to find and something found, only recall has nothing to divide by.
        nothing = 1.0 if not truth.any() and (not found.any() or name == "recall") else 0.0
        assert getattr(ours, name) == pytest.approx(metric(truth, found, zero_division=nothing)), name


def square(left: int, side: int = 20, size_px: int = 64) -> NDArray[np.bool_]:
    area = np.zeros((size_px, size_px), np.bool_)
    area[10 : 10 + side, left : left + side] = True
    return area


@pytest.mark.parametrize("moved", [0, 1, 3, 10])
def test_a_square_that_is_moved_is_as_far_as_it_was_moved(moved: int) -> None:
    found = square(5 + moved).astype(np.float32)
    assert case_metrics(found, square(5)).hd95 == pytest.approx(moved / math.hypot(64, 64))


def test_a_stray_pixel_does_not_set_the_distance() -> None:
    found = square(5)
    found[63, 63] = True
    assert case_metrics(found.astype(np.float32), square(5)).hd95 == 0


def test_the_links_side_reads_figures_without_the_libraries_that_compute_them() -> None:
    code = "import sys, shared.metrics; print({'scipy', 'torch'} & {name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def of(probability: list[float], mask: list[int]) -> dict[str, float]:
    """Metrics of one line of pixels."""
    return case_metrics(np.array([probability], np.float32), np.array([mask], np.bool_)).model_dump()


@pytest.mark.parametrize(
    ("probability", "mask", "expected"),
    [
        # dice_loss, iou, f_score, accuracy, recall, precision, hd95 over the diagonal, lesions_found
        ([1, 1, 0, 0], [1, 1, 0, 0], eight(0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)),
        ([0, 0, 1, 1], [1, 1, 0, 0], eight(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.95 / 17**0.5, 0.0)),
        ([1, 0, 1, 0], [1, 1, 0, 0], eight(0.5, 1 / 3, 0.5, 0.5, 0.5, 0.5, 0.95 / 17**0.5, 1.0)),
        ([0, 0, 0, 0], [0, 0, 0, 0], eight(0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)),
        ([0.4, 0, 0, 0], [0, 0, 0, 0], eight(0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)),
        ([0, 0, 0, 0], [0, 1, 0, 0], eight(1.0, 0.0, 0.0, 0.75, 0.0, 0.0, 1.0, 0.0)),
        ([0, 1, 0, 0], [0, 0, 0, 0], eight(1.0, 0.0, 0.0, 0.75, 1.0, 0.0, 1.0, 1.0)),
        ([0.5, 0.499, 0, 0], [1, 0, 0, 0], eight(1 - 1 / 1.999, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0)),
    ],
    ids=["perfect", "opposite", "half", "empty-empty", "empty-faint", "missed", "invented", "threshold"],
)
def test_cases_worked_out_by_hand(probability: list[float], mask: list[int], expected: dict[str, float]) -> None:
    assert of(probability, mask) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("mask", [[1, 0], [0, 0]])
def test_a_network_that_answers_no_number_gets_no_figures(bad: float, mask: list[int]) -> None:
    with pytest.raises(ValueError, match="not finite"):
        of([bad, 0.1], mask)


@pytest.mark.parametrize("shape", [(2, 3), (3, 2, 1), (6,)])
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not fit"):
        case_metrics(np.zeros((3, 2), np.float32), np.zeros(shape, np.bool_))


# Over patients

GOOD, BAD = Metrics(**dict.fromkeys(NAMES, 1.0)), Metrics(**dict.fromkeys(NAMES, 0.0))


@pytest.mark.parametrize("frames", [1, 2, 50])
def test_a_patient_with_many_frames_weighs_no_more_than_one_with_one(frames: int) -> None:
    mean = patient_mean([("many", GOOD)] * frames + [("one", BAD)])
    assert mean.model_dump() == pytest.approx(eight(*[0.5] * 8))


@unhurried
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), figures), min_size=1, max_size=12), st.randoms(use_true_random=False)
)
def test_the_mean_is_over_patients_of_the_mean_over_their_cases(
    scored: list[tuple[str, Metrics]], random: Random
) -> None:
    shuffled = list(scored)
    random.shuffle(shuffled)
    patients = sorted({patient for patient, _ in scored})
    for name in NAMES:
        by_patient = [np.mean([getattr(m, name) for key, m in scored if key == patient]) for patient in patients]
        assert getattr(patient_mean(shuffled), name) == pytest.approx(np.mean(by_patient))


def test_no_case_has_no_mean() -> None:
    with pytest.raises(ValueError, match="no case"):
        patient_mean([])


# What may be said


@pytest.mark.parametrize("value", [-0.001, 1.001, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", NAMES)
def test_a_metric_outside_its_range_cannot_be_built_or_received(name: str, value: float) -> None:
    values = dict.fromkeys(NAMES, 0.5) | {name: value}
    with pytest.raises(ValidationError):
        Metrics(**values)
    answer = ConfigRecord({"state": "done", "code": "", "patients": 7, "about": "m-1", "document": b""})
    with refused("metrics.range"):
        read_answer(RecordDict({"answer": answer, "metrics": MetricRecord(values)}))


@pytest.mark.parametrize("values", [dict.fromkeys(NAMES[:-1], 0.5), dict.fromkeys((*NAMES, "auc"), 0.5), {}])
def test_seven_or_nine_metrics_are_refused(values: dict[str, float]) -> None:
    answer = ConfigRecord({"state": "done", "code": "", "patients": 7, "about": "m-1", "document": b""})
    with refused("metrics.range"):
        read_answer(RecordDict({"answer": answer, "metrics": MetricRecord(values)}))


@pytest.mark.parametrize("decimals", [1, 3, 6])
def test_the_gate_lets_out_no_more_decimals_than_the_policy_says(decimals: int) -> None:
    rounded = Metrics(**dict.fromkeys(NAMES, 0.123456789)).rounded(decimals)
    for name in NAMES:
        assert getattr(rounded, name) == round(0.123456789, decimals)


def test_an_answer_comes_back_as_it_was_given() -> None:
    for answer in (Answer("queued"), Answer("refused", "policy.steps"), Answer("done", "", GOOD, 7)):
        assert read_answer(answer.to_content()) == answer


def test_a_sites_own_words_go_no_further() -> None:
    content = Answer("refused", "patient 4711 has a rare tumour").to_content()
    assert read_answer(content) == Answer("refused", "internal")
