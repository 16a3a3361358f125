"""The benchmark of use: folds share no patient, networks are compared as the claims say, and it can be killed."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.metrics import NAMES, Metrics
from shared.pairs import Pair
from shared.segmenter import build, to_arrays
from shared.segmenter_training import train
from shared.study import EvaluationSpec, ImageSpec, StyleSpec
from site_node.generators.cohort.generator import CohortGenerator
from site_node.generators.cohort.presets import COHORT_PRESETS, CohortPreset
from site_node.generators.cohort.training import train_cohort
from tests.benchmarks import utility, utility_fedavg, utility_pairs, utility_report
from tests.benchmarks.utility import Options
from tests.benchmarks.utility_data import fold_of, read_hospitals, thinned
from tests.benchmarks.utility_fedavg import Federation
from tests.benchmarks.utility_parts import Parts
from tests.benchmarks.utility_report import Measured
from tests.unit.test_cohort_generator import TINY
from tests.unit.test_segmenter import disc

TINY_OPTIONS = Options(
    sizes=32, cases=8, test=4, samples=2, seeds=1, steps=2, batch=2, preset="demo", few=(5,), per_case=(1,), rounds=1
)


@pytest.fixture(autouse=True)
def _tiny_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COHORT_PRESETS, "demo", replace(TINY, labeller_steps=2))


def metrics(iou: float) -> Metrics:
    return Metrics(**dict.fromkeys(NAMES, iou))


def measured(label: str, of: str, n: int | None = None, part: str = "main", **ious: float) -> Measured:
    """Three patients at each hospital, with this IoU and a little more and less."""
    scores = {
        at: {0: {f"p{i}": metrics(iou + step) for i, step in enumerate((-0.01, 0.0, 0.01))}} for at, iou in ious.items()
    }
    return Measured(part, label, of, n, scores)


def claimed(*found: Measured) -> dict[str, bool]:
    return {claim.name: claim.met for claim in utility_report.claims("96 px", found, None)}


@given(st.lists(st.sampled_from("abcdefghij"), min_size=3, max_size=60), st.integers(2, 4))
def test_every_patient_is_tested_in_one_fold_and_none_is_much_larger(patients: list[str], folds: int) -> None:
    if len(set(patients)) < folds:
        with pytest.raises(ValueError, match="cannot be parted"):
            fold_of(patients, folds)
        return
    found = fold_of(patients, folds)
    sizes = [sum(found[patient] == fold for patient in patients) for fold in range(folds)]

    assert set(found) == set(patients)
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= max(patients.count(patient) for patient in set(patients))


def test_cases_beyond_the_most_are_left_out_evenly() -> None:
    assert thinned(range(10), 5) == [0, 2, 4, 6, 8]
    assert thinned(range(3), 5) == [0, 1, 2]


def test_no_patient_is_trained_and_tested_on() -> None:
    folds = [read_hospitals([], size_px=32, fold=fold, folds=3, most_training=8, most_test=4) for fold in range(3)]
    for hospitals in folds:
        for hospital in hospitals:
            assert not {patient for patient, _ in hospital.training} & {patient for patient, _ in hospital.test}
            assert hospital.training[0][1].image.shape == (32, 32, 3)
    tested = [patient for hospitals in folds for patient in {p for p, _ in hospitals[0].test}]
    assert len(tested) == len(set(tested))


def test_folds_are_put_together_and_a_killed_benchmark_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(TINY_OPTIONS, folds=3, parts=(), folder=tmp_path)
    benches = [utility.bench_of(options, fold) for fold in range(3)]

    def run(fold: int) -> None:
        (network,) = [n for n in benches[fold].networks() if n.name == "real_plain-of-endoscopy-warm"]
        utility._scores(options, benches[fold], fold, network, 0)

    run(0)
    run(1)
    assert utility.measure(options) == ([], [])  # a fold is missing: nothing is said yet
    run(2)
    rows, claims = utility.measure(options)
    (found,) = [row for row in rows if row.name.endswith("at endoscopy-cool: IoU")]
    (network,) = utility.together(options, benches)

    patients = {patient for bench in benches for patient, _ in bench.hospitals[1].test}
    assert set(network.scores["endoscopy-cool"][0]) == patients
    assert (found.runs, claims) == (1, [])
    assert 0.0 <= found.low <= found.median <= found.high <= 1.0
    assert (tmp_path / "utility.png").stat().st_size > 0

    monkeypatch.setattr(utility, "case_scores", lambda *_: pytest.fail("scored what was scored before"))
    run(1)
    assert list(utility.together(options, benches)) == [network]
    assert utility.measure(replace(options, steps=3)) == ([], [])  # other settings: nothing is taken over


def test_a_generator_is_of_its_fold_and_is_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = utility.bench_of(replace(TINY_OPTIONS, folder=tmp_path), 0)
    hospital = bench.hospitals[0]
    seen: list[int] = []

    def trained(pairs: list[Pair], preset: CohortPreset, *, seed: int, checkpoint: Path) -> CohortGenerator:
        assert all(pair is case for pair, (_, case) in zip(pairs, hospital.training, strict=False))
        seen.append(len(pairs))
        return train_cohort(pairs, preset, seed=seed, checkpoint=checkpoint)

    monkeypatch.setattr(utility_pairs, "train_cohort", trained)
    whole = bench.drawn(hospital)
    few = utility_pairs.drawn(bench.parts, bench.resting, hospital, "demo", 10, 5)
    again = bench.drawn(hospital)

    assert seen == [8, 5]
    assert (len(whole.samples), len(few.samples)) == (16, 50)
    assert len(whole.per_case(1)) <= 8
    assert all(np.array_equal(a.image, b.image) for a, b in zip(whole.samples, again.samples, strict=True))
    assert not list(bench.parts.folder.glob("*.checkpoint"))
    other = utility.bench_of(replace(TINY_OPTIONS, folder=tmp_path, folds=3), 1)
    assert other.parts.path("pairs", other.resting, "npz") != bench.parts.path("pairs", bench.resting, "npz")


def test_every_arm_is_there_for_every_hospital() -> None:
    bench = utility.bench_of(replace(TINY_OPTIONS, few=(5, 50)), 0)
    names = [network.name for network in bench.networks()]
    assert len(names) == len(set(names))
    for label in ("real_own", "real_plain", "real_classical", "synthetic_own", "real_and_others", "refined"):
        assert {f"{label}-of-endoscopy-warm", f"{label}-of-endoscopy-cool"} <= set(names)
    assert {"synthetic_pooled-of-all", "real_pooled-of-all", "fedavg-of-all"} <= set(names)
    # There are eight training cases: an arm of fifty would be one of eight.
    assert {name for name in names if name.startswith("few_real")} == {
        "few_real-5-of-endoscopy-warm",
        "few_real-5-of-endoscopy-cool",
    }


def test_federated_averaging_is_the_mean_of_what_the_hospitals_learnt_and_noise_changes_it() -> None:
    image, spec = ImageSpec(size_px=32), EvaluationSpec(steps=4, batch_size=2)
    cohorts = [[disc(seed) for seed in range(2)], [disc(seed) for seed in range(10, 12)]]
    averaged, noised = (
        to_arrays(utility_fedavg.federated(Federation(1, noise), cohorts, spec, image, seed=0)) for noise in (None, 0.5)
    )
    torch.manual_seed(0)
    first = build(spec, image)
    own = [to_arrays(train(c, spec, image, seed=10 + i, start=first, steps=2)) for i, c in enumerate(cohorts)]

    name = "network.segmentation_head.0.weight"
    assert not np.array_equal(own[0][name], own[1][name])
    assert np.allclose(averaged[name], (own[0][name] + own[1][name]) / 2, atol=1e-6)
    assert float(np.abs(noised[name] - averaged[name]).mean()) > 0.5


def test_less_noise_and_more_rounds_spend_more() -> None:
    assert Federation(5, None).epsilon == float("inf")
    assert Federation(5, 0.1).epsilon > Federation(5, 1.0).epsilon > Federation(1, 1.0).epsilon > 0.0


def test_a_network_that_noise_drowned_is_a_row_and_no_figure(tmp_path: Path) -> None:
    options = replace(TINY_OPTIONS, folder=tmp_path)
    bench = utility.bench_of(options, 0)
    (network,) = [n for n in bench.networks() if n.label == "fedavg dp noise 1"]
    path = bench.parts.path(f"network-{network.name}-seed0", options.scored(0, "fedavg"), "json")
    path.write_text('{"found": {"failed": "training.diverged"}}')

    (found,) = utility.together(options, [bench])
    (row,) = utility_report.rows("32 px", [found], None)
    assert "training.diverged" in row.name
    assert (row.runs, row.unit) == (1, "runs")


def test_a_claim_is_met_by_what_was_measured_alone() -> None:
    real = measured("real_own", "a", a=0.5, b=0.3)
    others = {"real and others": measured("real_and_others", "a", a=0.49, b=0.36)}
    weak = measured("real_and_others", "a", a=0.45, b=0.34)

    own, there = (f"96 px, real of a and others' synthetic over real alone, at {at}: IoU" for at in "ab")
    assert claimed(real, *others.values()) == {own + ", low end of the interval": True, there: True}
    assert claimed(real, weak) == {own + ", low end of the interval": False, there: False}
    assert claimed(real) == {}


@pytest.mark.parametrize(("iou", "met"), [(0.48, True), (0.47, False)])
def test_synthetic_alone_is_claimed_as_a_share_of_real(iou: float, met: bool) -> None:
    found = claimed(measured("real_own", "a", a=0.5), measured("synthetic_own", "a", a=iou))
    assert found == {"96 px, a: F-score of synthetic alone over real alone": met}


@pytest.mark.parametrize(("iou", "met"), [(0.27, True), (0.25, False)])
def test_ten_drawn_for_each_of_five_are_claimed_over_those_five(iou: float, met: bool) -> None:
    few = measured("few_real", "a", 5, "few", a=0.2), measured("few_synthetic", "a", 5, "few", a=iou)
    assert claimed(*few) == {"96 px, a: relative IoU gain of 10 x 5 drawn over 5 real": met}


@pytest.mark.parametrize(("ious", "met"), [((0.3, 0.35), True), ((0.3, 0.29), False)])
def test_style_is_claimed_for_the_best_of_them_over_the_same_samples_without(
    ious: tuple[float, float], met: bool
) -> None:
    raw = measured("synthetic_own", "a", 1, "per_case", a=0.3)
    styles = [measured(f"synthetic_own moments {i}", "a", None, "style", a=iou) for i, iou in enumerate(ious)]
    ((name, found),) = claimed(raw, *styles).items()
    assert "best of 2 styles" in name
    assert found is met


def test_a_gain_is_taken_on_the_seeds_that_both_have() -> None:
    real, other = measured("real_own", "a", a=0.3), measured("refined", "a", a=0.4)
    real.scores["a"][1] = {patient: metrics(1.0) for patient in real.scores["a"][0]}
    gain = utility_report.gain_of(other, real, "a")
    assert gain is not None
    assert gain.mean == pytest.approx(0.1, abs=1e-6)
    assert utility_report.gain_of(other, measured("real_own", "a", b=0.3), "a") is None


def test_styled_samples_keep_their_masks_and_are_made_once(tmp_path: Path) -> None:
    bench = utility.bench_of(replace(TINY_OPTIONS, folder=tmp_path), 0)
    hospital, style = bench.hospitals[0], StyleSpec(kind="moments", source="cohort", strength=1.0)
    raw = [disc(seed) for seed in range(3)]

    made = utility_pairs.styled(bench.parts, {}, hospital, raw, style, None)
    assert all(np.array_equal(a.mask, b.mask) for a, b in zip(raw, made, strict=True))
    assert not any(np.array_equal(a.image, b.image) for a, b in zip(raw, made, strict=True))
    again = Parts(bench.parts.folder).pairs("styled-x", {}, lambda: made)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(again, made, strict=True))


def test_options_that_make_no_sense_are_refused() -> None:
    parser = argparse.ArgumentParser()
    utility.add_options(parser)
    assert utility.options_of(parser.parse_args(["--data", "a", "b", "--folds", "3"])).folds == 3
    with pytest.raises(ValueError, match="two or more"):
        utility.options_of(parser.parse_args(["--data", "a"]))
    for wrong in (["--folds", "2"], ["--parts", "mian"]):
        with pytest.raises(SystemExit):
            parser.parse_args(wrong)
