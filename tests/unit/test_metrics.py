"""The six metrics against their formulas, written out plainly here, and the average by patient."""

from __future__ import annotations

import math
from fractions import Fraction
from random import Random

import numpy as np
import pytest
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
        return {"dice_loss": 0.0, "iou": 1.0, "f_score": 1.0, "accuracy": 1.0, "recall": 1.0, "precision": 1.0}
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
    }


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
def test_where_a_pixel_stands_does_not_matter(
    case: tuple[NDArray[np.float32], NDArray[np.bool_]], random: Random
) -> None:
    probability, mask = case
    order = list(range(mask.size))
    random.shuffle(order)
    moved = case_metrics(probability.ravel()[order][None], mask.ravel()[order][None])
    assert moved.model_dump() == pytest.approx(case_metrics(probability, mask).model_dump(), abs=1e-6)


def of(probability: list[float], mask: list[int]) -> dict[str, float]:
    """Metrics of one line of pixels."""
    return case_metrics(np.array([probability], np.float32), np.array([mask], np.bool_)).model_dump()


def six(*values: float) -> dict[str, float]:
    """Values by name, in the order of NAMES."""
    return dict(zip(NAMES, values, strict=True))


@pytest.mark.parametrize(
    ("probability", "mask", "expected"),
    [
        # dice_loss, iou, f_score, accuracy, recall, precision
        ([1, 1, 0, 0], [1, 1, 0, 0], six(0.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
        ([0, 0, 1, 1], [1, 1, 0, 0], six(1.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
        ([1, 0, 1, 0], [1, 1, 0, 0], six(0.5, 1 / 3, 0.5, 0.5, 0.5, 0.5)),
        ([0, 0, 0, 0], [0, 0, 0, 0], six(0.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
        ([0.4, 0, 0, 0], [0, 0, 0, 0], six(0.0, 1.0, 1.0, 1.0, 1.0, 1.0)),
        ([0, 0, 0, 0], [0, 1, 0, 0], six(1.0, 0.0, 0.0, 0.75, 0.0, 0.0)),
        ([0, 1, 0, 0], [0, 0, 0, 0], six(1.0, 0.0, 0.0, 0.75, 1.0, 0.0)),
        ([0.5, 0.499, 0, 0], [1, 0, 0, 0], six(1 - 1 / 1.999, 1.0, 1.0, 1.0, 1.0, 1.0)),
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
    assert mean.model_dump() == pytest.approx(six(*[0.5] * 6))


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
    answer = ConfigRecord({"state": "done", "code": "", "patients": 7})
    with refused("metrics.range"):
        read_answer(RecordDict({"answer": answer, "metrics": MetricRecord(values)}))


@pytest.mark.parametrize("values", [dict.fromkeys(NAMES[:-1], 0.5), dict.fromkeys((*NAMES, "auc"), 0.5), {}])
def test_five_or_seven_metrics_are_refused(values: dict[str, float]) -> None:
    answer = ConfigRecord({"state": "done", "code": "", "patients": 7})
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
