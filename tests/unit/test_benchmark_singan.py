"""The generators' benchmark: its figures say what they claim to, on data where the answer is known."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.pairs import Pair
from site_node.generators.per_case.presets import FAITHFUL
from tests.benchmarks import singan, singan_arms, singan_quality, singan_report, singan_timing
from tests.benchmarks.singan_report import Figure, Figures
from tests.helpers import noise_pair
from tests.training_cases import TINY


def flat_pair(level: int, size_px: int = 16) -> Pair:
    return Pair(np.full((size_px, size_px, 3), level, np.uint8), np.zeros((size_px, size_px), np.uint8))


def drawn_pairs(count: int, first: int = 0, size_px: int = 32) -> list[Pair]:
    return [noise_pair(first + seed, size_px) for seed in range(count)]


@settings(max_examples=10, deadline=None)
@given(step=st.integers(1, 60))
def test_the_patch_distance_grows_as_the_difference_of_colours_does(step: int) -> None:
    near = singan_quality.patch_distance([flat_pair(10)], [flat_pair(10 + step)])
    far = singan_quality.patch_distance([flat_pair(10)], [flat_pair(10 + 3 * step)])
    assert near > 0
    assert far == pytest.approx(3 * near, rel=1e-4)
    assert singan_quality.patch_distance([flat_pair(10)], [flat_pair(10)]) == 0


def test_the_patch_distance_sees_blur_that_the_colours_do_not_show() -> None:
    sharp, others = drawn_pairs(8), drawn_pairs(8, first=100)
    blurred = [
        Pair(np.asarray(Image.fromarray(p.image).resize((16, 16), Image.Resampling.BOX).resize((32, 32))), p.mask)
        for p in others
    ]
    assert singan_quality.patch_distance(blurred, sharp) > 3 * singan_quality.patch_distance(others, sharp)


def test_the_patch_distance_sees_masks() -> None:
    pairs = drawn_pairs(8)
    full = [Pair(pair.image, np.full_like(pair.mask, 255)) for pair in pairs]
    assert singan_quality.patch_distance(full, pairs) > 3 * singan_quality.patch_distance(pairs[:4], pairs[4:])


def test_samples_that_are_all_alike_have_no_diversity() -> None:
    pairs = drawn_pairs(6)
    assert singan_quality.diversity(pairs[:1] * 5, pairs) == 0
    assert singan_quality.diversity(pairs, pairs) == pytest.approx(1)
    halved = [Pair((pair.image // 2).astype(np.uint8), pair.mask) for pair in pairs]
    assert singan_quality.diversity(halved, pairs) == pytest.approx(0.5, abs=0.01)


def test_binarity_counts_values_near_either_end() -> None:
    values = np.array([-0.02, 0.0, 0.05, 0.2, 0.5, 0.85, 0.95, 1.0], np.float32)
    assert singan_quality.binarity(values) == 5 / 8


def test_copies_are_counted_as_copies_and_hold_outs_are_not() -> None:
    training = [pair.image for pair in drawn_pairs(10)]
    holdout = [pair.image for pair in drawn_pairs(40, first=500)]
    fresh = [pair.image for pair in drawn_pairs(40, first=900)]
    # A mirrored and brightened copy is a copy.
    copies = [np.fliplr(image) // 2 + 60 for image in training]
    nearest, q5 = singan_quality.copying(copies, training, holdout)
    assert nearest > 0.95
    assert q5 == 1
    assert singan_quality.copying(holdout, training, holdout)[1] == pytest.approx(0.05, abs=0.01)
    assert singan_quality.copying(fresh, training, holdout)[1] < 0.3


def test_pairs_without_a_lesion_teach_nothing() -> None:
    empty, lesion = flat_pair(90, 32), noise_pair(3)
    full = Pair(lesion.image, np.full_like(lesion.mask, 255))
    assert singan_quality.usable([empty, lesion, full]) == [lesion]
    assert singan_quality.iou_of_use([empty, full], [("a", lesion)], steps=1, seed=0) == 0


@settings(max_examples=60, deadline=None)
@given(groups=st.lists(st.sampled_from("abcdefghijklmnop"), min_size=12, max_size=60), count=st.integers(1, 8))
def test_no_patient_is_in_two_parts(groups: list[str], count: int) -> None:
    try:
        parts = singan_arms.split(groups, (count, count, 5))
    except ValueError:
        return
    assert [len(part) for part in parts[:2]] == [count, count]
    assert 1 <= len(parts[2]) <= 5
    patients = [{groups[index] for index in part} for part in parts]
    assert len(set.union(*patients)) == sum(len(part) for part in patients)
    assert parts == singan_arms.split(groups, (count, count, 5))


def test_single_images_fill_the_parts_and_too_few_are_refused() -> None:
    groups = [str(index) for index in range(12)]
    assert [len(part) for part in singan_arms.split(groups, (5, 5, 200))] == [5, 5, 2]
    with pytest.raises(ValueError, match="fewer CASES"):
        singan_arms.split(groups, (6, 6, 200))


def test_phantoms_stand_in_where_there_is_no_folder() -> None:
    cases = singan_arms.read_cases(None, 2)
    assert len(cases.training) == len(cases.validation) == len(cases.test) == 2
    keys = [{key for key, _ in part} for part in (cases.training, cases.validation, cases.test)]
    assert len(set.union(*keys)) == sum(len(part) for part in keys)
    assert singan_arms.at(cases.test, 32)[0][1].image.shape == (32, 32, 3)


def test_a_generator_a_case_gives_its_samples_with_their_cases() -> None:
    pairs = drawn_pairs(2)
    drawn = singan_arms.per_case(TINY, pairs, 0, 3)
    assert drawn.sources == (0, 0, 0, 1, 1, 1)
    assert len(drawn.pairs) == 6
    assert drawn.train_s > drawn.sample_s > 0
    assert drawn.peak_mb > 50
    assert 0 <= drawn.binarity <= 1


def test_the_sides_are_timed_on_the_scales_of_the_authors_schedule() -> None:
    pair = noise_pair(0, 32)
    sizes = [stage.sizes[-1] for stage in singan_timing.stages(pair, FAITHFUL)]
    assert sizes == [(25, 25), (29, 29), (32, 32)]
    timed = singan_timing.time_sides([pair], TINY, iterations=1, repeats=2)
    assert [len(values) for values in (timed.reference, timed.faithful, timed.short)] == [2, 2, 2]
    # Scaled up to 2000 iterations a scale, either loop takes minutes; a whole tiny training does not.
    assert min(*timed.reference, *timed.faithful) > 10 * max(timed.short)


def measured(**changes: list[float]) -> Figures:
    values = {
        "reference timed_s": [4000.0, 4100.0, 3900.0],
        "faithful timed_s": [2800.0],
        "fast timed_s": [40.0],
        "cohort core_s": [10.0],
        "cohort iou": [0.5, 0.4, 0.45],
        "real iou": [0.5],
        "cohort q5": [0.02, 0.08],
        "faithful_share iou": [0.2],
        "fast_compared iou": [0.195],
    } | {name.replace("__", " "): value for name, value in changes.items()}
    figures = []
    for name, found in values.items():
        arm, column = name.split(" ")
        figures.append(Figure(128, arm.replace("_", " "), f"{arm}, 3 cases", column, found))
    return Figures(tuple(figures))


def test_claims_follow_from_the_medians() -> None:
    found = singan_report.claims(measured())
    assert [claim.met for claim in found] == [True] * 6
    assert [claim.value for claim in found] == pytest.approx([4000 / 2800, 100, 400, 0.005, 0.9, 0.05], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("faithful__timed_s", [3000.0]),
        ("fast__timed_s", [201.0]),
        ("cohort__core_s", [20.5]),
        ("fast_compared__iou", [0.18]),
        ("real__iou", [0.55]),
        ("cohort__q5", [0.07]),
    ],
)
def test_a_goal_that_is_not_reached_is_missed(name: str, values: list[float]) -> None:
    found = singan_report.claims(measured(**{name: values}))
    assert sum(not claim.met for claim in found) == 1


def test_what_was_not_measured_is_not_claimed() -> None:
    assert singan_report.claims(Figures(())) == []
    only = Figures((Figure(250, "fast", "fast", "short_peak_mb", [1400.0]),))
    assert [claim.met for claim in singan_report.claims(only)] == [False]


def test_rows_are_in_their_units() -> None:
    (row,) = singan_report.rows(Figures((Figure(64, "fast", "fast, 2 cases", "sample_s", [0.01, 0.03, 0.0125]),)))
    assert (row.unit, row.runs, row.median, row.low, row.high) == ("core-ms", 3, 12.5, 10.0, 30.0)
    assert "64 px" in row.name
    assert "2 cases" in row.name


def test_parts_are_put_together_unless_they_were_made_with_other_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = singan.Options(folder=tmp_path, seeds=1)
    figure = Figure(64, "real", "4 real pairs", "iou", [0.5])
    singan._save(options, "real", 64, [figure])
    singan._save(replace(options, seeds=3), "per_case", 64, [replace(figure, arm="fast")])
    singan._save(replace(options, steps=7), "cohort", 64, [replace(figure, arm="cohort")])
    assert {found.arm for found in singan.together(options).all} == {"real", "fast"}
    assert "cohort-64.json" in capsys.readouterr().out


def test_a_part_that_there_is_not_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    singan.add_options(parser)
    options = singan.options_of(parser.parse_args(["--parts", "real,timing", "--sizes", "64", "--cases", "9"]))
    assert (options.parts, options.sizes, options.cases) == (("real", "timing"), (64,), 9)
    assert parser.parse_args([]).parts == singan.PARTS
    with pytest.raises(SystemExit):
        parser.parse_args(["--parts", "reall"])
    assert "reall" in capsys.readouterr().err


def test_faithfuls_share_of_iterations_costs_about_as_much_at_every_size() -> None:
    options = singan.Options(share=0.05)
    assert options.shared_iterations(64) == 100
    assert options.shared_iterations(128) == 25


def test_the_plot_needs_a_point(tmp_path: Path) -> None:
    assert not singan_report.plot(Figures(()), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
    assert singan_report.plot(measured(), tmp_path / "some.png")
    assert Image.open(tmp_path / "some.png").width > 300


def test_a_sheet_has_twelve_samples_beside_twelve_real_pairs(tmp_path: Path) -> None:
    samples, reals = [flat_pair(200)] * 30, [flat_pair(20)] * 5
    singan_report.sheet(samples, reals, tmp_path / "sheets" / "fast-16.png")
    pixels = np.asarray(Image.open(tmp_path / "sheets" / "fast-16.png"))
    left, right = np.array_split(pixels, 2, axis=1)
    assert statistics.median(left.ravel().tolist()) == 200
    assert statistics.median(right.ravel().tolist()) == 20
