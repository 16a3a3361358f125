"""The benchmark of private training: its claims follow from its figures, and its parts compare the same patients."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.pairs import Pair
from tests.benchmarks import dp, dp_arms, dp_releases, dp_report
from tests.benchmarks.dp_report import Figure
from tests.helpers import noise_pair


def iou(arm: str, epsilon: float, *values: float, cases: int = 400) -> Figure:
    return Figure(96, cases, arm, epsilon, "iou", list(values))


def met(*figures: Figure) -> dict[str, bool]:
    return {claim.name.rpartition(": ")[2]: claim.met for claim in dp_report.claims(figures)}


@pytest.mark.parametrize(("private", "better"), [((0.60, 0.61), True), ((0.55, 0.57), False), ((0.50, 0.80), False)])
def test_better_than_the_prior_means_by_more_than_the_spread_of_either(
    private: tuple[float, float], better: bool
) -> None:
    assert met(iou("private", 8.0, *private), iou("prior", 0.0, 0.53, 0.55)) == {
        "IoU over the prior's, less the seeds' spread": better
    }


def test_one_seed_claims_nothing_over_the_prior_and_another_cohort_nothing_at_all() -> None:
    assert met(iou("private", 8.0, 0.6), iou("prior", 0.0, 0.5)) == {}
    assert met(iou("private", 8.0, 0.6, 0.6, cases=100), iou("prior", 0.0, 0.5, 0.5, cases=100)) == {}


@pytest.mark.parametrize(("private", "enough"), [(0.43, True), (0.41, False)])
def test_a_share_of_what_real_pairs_reach_is_claimed(private: float, enough: bool) -> None:
    assert met(iou("private", 8.0, private), iou("real", -1.0, 0.6)) == {"IoU over that of the real pairs": enough}


@pytest.mark.parametrize(("seconds", "cheap"), [(0.019, True), (0.021, False)])
def test_a_step_that_costs_more_than_twice_as_much_misses_its_claim(seconds: float, cheap: bool) -> None:
    figures = [
        Figure(0, 0, "step private", 0.0, "step_s", [seconds]),
        Figure(0, 0, "step plain", 0.0, "step_s", [0.01]),
    ]

    assert [claim.met for claim in dp_report.claims(figures)] == [cheap]


def test_options_are_read_as_lists_and_keep_their_defaults() -> None:
    parser = argparse.ArgumentParser()
    dp.add_options(parser)
    read = dp.options_of(parser.parse_args(["--epsilons", "0.5,3", "--cases", "10 20", "--parts", "prior"]))
    assert (read.epsilons, read.cases, read.parts) == ((0.5, 3.0), (10, 20), ("prior",))
    assert replace(read, epsilons=dp.EPSILONS, cases=dp.Options.cases, parts=dp.PARTS) == dp.Options()


def test_parts_of_other_options_are_left_out(tmp_path: Path) -> None:
    options = dp.Options(folder=tmp_path)
    dp._save(options, "prior-96-100", [iou("prior", 0.0, 0.5)])
    dp._save(replace(options, samples=7), "real-96-100", [iou("real", -1.0, 0.6)])

    assert [figure.arm for figure in dp.together(options)] == ["prior"]


def test_rows_and_plot_show_every_figure(tmp_path: Path) -> None:
    figures = [iou("private", e, 0.5, 0.6) for e in (1.0, 8.0)] + [iou("real", -1.0, 0.7), iou("prior", 0.0, 0.4)]

    assert len(dp_report.rows(figures)) == 4
    assert dp_report.plot(figures, tmp_path / "dp.png")
    assert (tmp_path / "dp.png").read_bytes().startswith(b"\x89PNG")
    assert not dp_report.plot([], tmp_path / "none.png")


def test_training_patients_are_never_tested_on_and_larger_cohorts_keep_the_test() -> None:
    small, large = (dp_arms.read_cases(None, count, 32) for count in (4, 6))

    for training, test in (small, large):
        assert not {key for key, _ in training} & {key for key, _ in test}
    assert [len(small[0]), len(large[0])] == [4, 6]


def patients(level: int) -> list[list[Pair]]:
    images = [noise_pair(seed, 32) for seed in range(6)]
    return [[Pair((pair.image // 4 + level).astype(np.uint8), pair.mask)] for pair in images]


def test_noised_moments_of_brighter_patients_give_brighter_scenes() -> None:
    dark, bright = (
        np.mean([pair.image for pair in dp_releases.with_moments_of(patients(level), 0.0, 32, 6, 0)])
        for level in (40, 150)
    )

    assert bright > dark + 40


def test_votes_draw_what_was_voted_for_more_often() -> None:
    scenes = dp_releases._scenes(32, 60, 5)
    bright = sorted(scenes, key=lambda pair: float(pair.image.mean()))[-4:]
    plain = np.mean([pair.image for pair in dp_releases._scenes(32, 20, 0)])

    drawn = dp_releases.voted_for([[pair] for pair in bright], 0.0, 32, 20, 0)

    assert np.mean([pair.image for pair in drawn]) > plain + 5


def test_a_run_that_asks_for_one_seed_more_measures_that_seed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []

    def use(_pairs: object, _test: object, *, steps: int, seed: int) -> float:
        measured.append(seed)
        return 0.5 + seed / 100

    monkeypatch.setattr("tests.benchmarks.singan_quality.iou_of_use", use)
    options = dp.Options(cases=(4,), sizes=(32,), seeds=2, parts=("prior", "real"), samples=4, folder=tmp_path)
    dp.measure(options)
    dp.measure(replace(options, seeds=3))
    found = {figure.arm: figure.values for figure in dp.together(options)}

    assert measured == [0, 1, 0, 1, 2, 2]
    assert found == {"prior": [0.5, 0.51, 0.52], "real": [0.5, 0.51, 0.52]}
