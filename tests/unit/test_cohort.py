"""The split by patient, and the checks of a cohort against floor and study."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import SynthwardError
from site_node.cohort import Side, Split, check_floor, check_size, split_by_patient

SALT = b"a site's secret"
keys = st.text(min_size=1, max_size=8)
cohorts = st.sets(keys, min_size=2, max_size=40)
unhurried = settings(deadline=None, max_examples=60)  # a busy machine must not fail a property
fractions = st.floats(min_value=0.05, max_value=0.95)


@unhurried
@given(cohorts, fractions, st.binary(min_size=1, max_size=32))
def test_every_patient_is_on_exactly_one_side_and_neither_is_empty(
    patients: set[str], fraction: float, salt: bytes
) -> None:
    split = split_by_patient(patients, holdout_fraction=fraction, salt=salt)
    assert split.training | split.holdout == patients
    assert not split.training & split.holdout
    assert split.training
    assert split.holdout


@unhurried
@given(st.lists(keys, min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_neither_order_nor_the_number_of_a_patients_images_matters(images: list[str], random: Random) -> None:
    images = [*images, "one", "another"]
    shuffled = images * 2
    random.shuffle(shuffled)
    assert split_by_patient(shuffled, holdout_fraction=0.3, salt=SALT) == split_by_patient(
        images, holdout_fraction=0.3, salt=SALT
    )


def sides(split: Split) -> dict[str, Side]:
    """What a site remembers of a split."""
    return dict.fromkeys(split.training, "training") | dict.fromkeys(split.holdout, "holdout")


@unhurried
@given(cohorts, st.sets(keys, max_size=10), fractions)
def test_a_patient_never_changes_sides_when_the_cohort_grows(before: set[str], more: set[str], fraction: float) -> None:
    old = split_by_patient(before, holdout_fraction=fraction, salt=SALT)
    new = split_by_patient(before | more, holdout_fraction=fraction, salt=SALT, known=sides(old))
    assert old.training <= new.training
    assert old.holdout <= new.holdout


@unhurried
@given(st.integers(min_value=2, max_value=60), fractions)
def test_the_holdout_has_its_fraction_to_the_patient(count: int, fraction: float) -> None:
    split = split_by_patient((f"p{n}" for n in range(count)), holdout_fraction=fraction, salt=SALT)
    assert len(split.holdout) == min(max(round(fraction * count), 1), count - 1)


def test_patients_who_were_all_trained_on_leave_no_holdout() -> None:
    with pytest.raises(SynthwardError) as caught:
        split_by_patient(["a", "b"], holdout_fraction=0.5, salt=SALT, known={"a": "training", "b": "training"})
    assert caught.value.code == "cohort.no-holdout"


def test_another_salt_gives_another_split() -> None:
    patients = [f"p{number}" for number in range(40)]
    splits = {split_by_patient(patients, holdout_fraction=0.5, salt=bytes([salt])).holdout for salt in range(1, 9)}
    assert len(splits) == 8


def test_the_split_is_the_same_on_every_machine_and_in_every_version() -> None:
    split = split_by_patient((f"p{number}" for number in range(10)), holdout_fraction=0.3, salt=SALT)
    assert split.holdout == {"p0", "p1", "p9"}


@pytest.mark.parametrize("patients", [[], ["only one"], ["only one", "only one"]])
def test_fewer_than_two_patients_have_no_holdout(patients: list[str]) -> None:
    with pytest.raises(SynthwardError) as caught:
        split_by_patient(patients, holdout_fraction=0.3, salt=SALT)
    assert caught.value.code == "cohort.no-holdout"
    assert caught.value.do


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_fraction_that_leaves_a_side_empty_is_a_mistake_of_the_caller(fraction: float) -> None:
    with pytest.raises(ValueError, match="holdout_fraction"):
        split_by_patient(["a", "b"], holdout_fraction=fraction, salt=SALT)


def test_an_empty_salt_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="salt"):
        split_by_patient(["a", "b"], holdout_fraction=0.5, salt=b"")


def test_a_split_with_a_patient_on_both_sides_cannot_be_made() -> None:
    with pytest.raises(ValueError, match="share no patient"):
        Split(frozenset({"a", "b"}), frozenset({"b"}))


def test_the_floor_itself_is_enough_and_one_patient_less_is_not() -> None:
    check_floor(5, 5)
    with pytest.raises(SynthwardError, match="4 patients") as caught:
        check_floor(4, 5)
    assert caught.value.code == "cohort.too-few-patients"
    assert "4" not in caught.value.public()


def test_a_study_may_be_as_large_as_the_smallest_shorter_side() -> None:
    check_size([(64, 200), (128, 64)], 64)
    check_size([], 64)


def test_a_study_larger_than_an_image_is_refused_and_says_how_many_are_too_small() -> None:
    with pytest.raises(SynthwardError, match=r"2 of 3 images.*the smallest 48") as caught:
        check_size(iter([(64, 200), (300, 63), (48, 64)]), 64)
    assert caught.value.code == "cohort.study-larger-than-images"
