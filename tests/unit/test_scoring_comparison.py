"""Arms compared: by patient, over seeds, paired, rounded, and never across different patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.findings import ArmFigures, Comparison
from shared.metrics import NAMES, Metrics
from site_node.scoring.comparison import ArmKey, compare
from site_node.scoring.intervals import bootstrap_mean

Scores = dict[ArmKey, dict[int, dict[str, Metrics]]]
REAL: ArmKey = ("real_own", None, None)
PLAIN: ArmKey = ("real_plain", None, None)
unhurried = settings(deadline=None, max_examples=25)
shares = st.floats(0.0, 1.0)
metrics = st.builds(Metrics, **dict.fromkeys(NAMES, shares))
SEEDS = (0, 1)
PATIENTS = ("a", "b", "c", "d", "e")
both_arms = st.fixed_dictionaries(
    {
        key: st.fixed_dictionaries({seed: st.fixed_dictionaries(dict.fromkeys(PATIENTS, metrics)) for seed in SEEDS})
        for key in (REAL, PLAIN)
    }
)


def flat(value: float) -> Metrics:
    return Metrics(**dict.fromkeys(NAMES, value))


def arm(*seeds: list[float]) -> dict[int, dict[str, Metrics]]:
    """Scores of an arm: for each seed a figure for each patient."""
    return {seed: {f"p{i:02d}": flat(value) for i, value in enumerate(row)} for seed, row in enumerate(seeds)}


def compared(scores: Mapping[ArmKey, dict[int, dict[str, Metrics]]], decimals: int = 4) -> dict[ArmKey, ArmFigures]:
    found = compare(scores, "real_own", decimals=decimals, seed=0, resamples=200)
    return {(one.arm, one.trained_on, one.n): one for one in found}


def test_seeds_are_averaged_within_a_patient_and_patients_within_the_arm() -> None:
    found = compared({REAL: arm([0.2, 0.4, 0.9], [0.4, 0.6, 0.5])})[REAL]
    assert found.seeds == 2
    assert found.figures["iou"].mean == 0.5
    # Over seeds the patients have .3, .5 and .7: no mean of them can leave that range, as single figures could.
    assert 0.3 <= found.figures["iou"].low < 0.5 < found.figures["iou"].high <= 0.7


def test_the_spread_over_seeds_is_that_of_the_mean_iou() -> None:
    assert compared({REAL: arm([0.2, 0.4], [0.5, 0.7], [0.5, 0.7])})[REAL].seed_spread == pytest.approx(0.1732)
    assert compared({REAL: arm([0.2, 0.4])})[REAL].seed_spread == 0


def test_hard_patients_cancel_out_of_a_gain() -> None:
    random = np.random.default_rng(0)
    hardness = random.uniform(0.1, 0.8, 20)
    better = hardness + random.normal(0.05, 0.01, 20)
    found = compared({REAL: arm(hardness.tolist()), PLAIN: arm(better.tolist())})
    gains = found[PLAIN].gains
    assert gains is not None
    assert gains["iou"].mean == pytest.approx(float((better - hardness).mean()), abs=1e-4)
    assert gains["iou"].beyond_chance
    # Side by side, without the pairing, the two could not be told apart.
    assert found[PLAIN].figures["iou"].low < found[REAL].figures["iou"].high


def test_a_gain_that_only_one_patient_has_is_not_beyond_chance() -> None:
    gains = compared({REAL: arm([0.5] * 10), PLAIN: arm([0.5] * 9 + [0.9])})[PLAIN].gains
    assert gains is not None
    assert gains["iou"].mean == 0.04
    assert not gains["iou"].beyond_chance


@unhurried
@given(both_arms)
def test_an_arm_gains_nothing_over_itself(scores: Scores) -> None:
    gains = compared({REAL: scores[REAL], PLAIN: scores[REAL]})[PLAIN].gains
    assert gains is not None
    assert all((gain.mean, gain.low, gain.high) == (0.0, 0.0, 0.0) for gain in gains.values())


@unhurried
@given(both_arms)
def test_the_order_of_patients_and_seeds_changes_nothing(scores: Scores) -> None:
    turned = {
        key: {seed: dict(reversed(by_patient.items())) for seed, by_patient in reversed(by_seed.items())}
        for key, by_seed in scores.items()
    }
    found = compared(scores)
    assert compared(turned) == found
    # And they are drawn in the order of their names, which is the same in every process, as that of a set is not.
    ious = np.array([np.mean([scores[REAL][seed][patient].iou for seed in SEEDS]) for patient in sorted(PATIENTS)])
    expected = [float(part) for part in bootstrap_mean(ious, seed=0, resamples=200)]
    iou = found[REAL].figures["iou"]
    assert [iou.mean, iou.low, iou.high] == pytest.approx(expected, abs=1e-4)


@unhurried
@given(both_arms, st.integers(1, 6))
def test_figures_are_rounded_and_stay_in_order(scores: Scores, decimals: int) -> None:
    exact, rounded = compared(scores, 12), compared(scores, decimals)
    for key, one in rounded.items():
        pairs = [(one.figures[name], exact[key].figures[name]) for name in NAMES]
        gains = one.gains, exact[key].gains
        if gains[0] is not None and gains[1] is not None:
            pairs += [(gains[0][name], gains[1][name]) for name in NAMES]  # type: ignore[misc]
        for here, there in pairs:
            assert here.low <= here.mean <= here.high
            for end in ("mean", "low", "high"):
                assert getattr(here, end) == round(getattr(here, end), decimals)
                assert abs(getattr(here, end) - getattr(there, end)) <= 0.51 * 10.0**-decimals


def test_the_reference_has_no_gain_and_without_it_nobody_has() -> None:
    found = compared({REAL: arm([0.5, 0.6]), PLAIN: arm([0.5, 0.6])})
    assert found[REAL].gains is None
    assert found[PLAIN].gains is not None
    assert compared({PLAIN: arm([0.5, 0.6])})[PLAIN].gains is None


def test_few_cases_are_held_against_as_few() -> None:
    scores: Scores = {
        ("few_real", None, 5): arm([0.2, 0.3]), ("few_real", None, 10): arm([0.4, 0.5]),
        ("few_synthetic", None, 5): arm([0.3, 0.4]), ("few_synthetic", None, 10): arm([0.3, 0.4]),
    }  # fmt: skip
    found = compare(scores, "few_real", decimals=3, seed=0, resamples=100)
    gains = {(one.arm, one.n): one.gains and one.gains["iou"].mean for one in found}
    assert gains == {
        ("few_real", 5): None, ("few_real", 10): None, ("few_synthetic", 5): 0.1, ("few_synthetic", 10): -0.1,
    }  # fmt: skip


def test_the_nearest_reference_is_taken() -> None:
    references: Scores = {
        ("synthetic_own", "north", 2): arm([0.1, 0.1]), ("synthetic_own", None, 2): arm([0.2, 0.2]),
        ("synthetic_own", "north", None): arm([0.3, 0.3]), ("synthetic_own", None, None): arm([0.4, 0.4]),
    }  # fmt: skip
    asked: ArmKey = ("refined", "north", 2)
    gains = []
    while references:
        found = compare({**references, asked: arm([0.9, 0.9])}, "synthetic_own", decimals=3, seed=0, resamples=100)
        gains.append(found[-1].gains and found[-1].gains["iou"].mean)
        references.pop(next(iter(references)))
    assert gains == [0.8, 0.7, 0.6, 0.5]


def test_a_comparison_can_be_made_of_them() -> None:
    pooled: ArmKey = ("synthetic_pooled", "pooled", None)
    scores: Scores = {REAL: arm([1.0, 1.0, 1.0]), PLAIN: arm([0.0, 0.0, 0.0]), pooled: arm([0.1, 0.2, 0.3], [0.7] * 3)}
    arms = compare(scores, "real_own", decimals=3, seed=0, resamples=100)
    made = Comparison(
        study_sha256="0" * 64, dataset_version=1, reference="real_own", patients=3, resamples=100, arms=arms
    )
    assert [(one.arm, one.trained_on, one.n) for one in made.arms] == [REAL, PLAIN, pooled]
    assert Comparison.model_validate_json(made.model_dump_json()) == made
    assert compare({}, "real_own", decimals=3, seed=0) == ()


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({REAL: arm([0.5, 0.6]), PLAIN: arm([0.5, 0.6, 0.7])}, "different patients"),
        ({REAL: arm([0.5, 0.6], [0.5])}, "different patients"),
        ({REAL: arm([0.5])}, "two patients"),
        ({REAL: {}}, "no seed"),
    ],
)
def test_what_cannot_be_compared_is_refused_without_naming_a_patient(scores: Scores, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        compared(scores)
    assert "p0" not in str(caught.value)
