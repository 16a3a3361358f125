"""A release in mode dp: paid for before a case is opened, and nothing real in what leaves but what was paid for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from coordinator.claims import check_claim
from shared.bundle import Manifest
from shared.documents import canonical, parse
from shared.pairs import Pair, resize_pair
from shared.privacy import ACCESS_WORDS, NOT_COVERED_WORDS
from site_node.airlock.workflow import Airlock, Release
from site_node.cases import Case, PrivateStore, ledger
from site_node.dp.account import COLUMNS, fact_row, read_account
from site_node.dp.budget import reserve
from site_node.dp.events import GaussianRelease, Reading
from site_node.dp.ledger import facts, record, statement
from site_node.generators.private_cohort.presets import MOST_STEPS, PRIVATE_PRESETS, SCHEDULES, SPARE_STEPS, Schedule
from site_node.screening.reference import Reference
from site_node.screening.report import AuditReport
from site_node.work import private_cohort
from site_node.work.screening import FINDINGS_ONLY, told_outside
from tests.helpers import refused
from tests.privacy_loss import epsilon_by_losses
from tests.private_study import (
    STEPS,
    WILLING,
    blind,
    drawn,
    private_study,
    quick,
    release,
    site_with,
    source_of,
    spent_at,
)

pytestmark = pytest.mark.usefixtures("one_thread", "tiny")
STUDY = private_study()
OTHER = Reading(GaussianRelease(3.0), "metrics", "6" * 64, "m-1", "trainer", clip=1.7, delta=1e-3, patients=3)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[PrivateStore, Release]:
    """One site and its release, looked at by the tests that change nothing."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        quick(patch)
        store = site_with(tmp_path_factory.mktemp("site"))
        ended = release(store, STUDY)
    torch.set_num_threads(threads)
    return store, ended


def without_pairs(manifest: Manifest) -> dict[str, Any]:
    return manifest.model_dump(mode="json", exclude={"pairs", "study_sha256", "release_id"})


# What it claims


def rdp_at_whole_orders(sigma: float, q: float, steps: int, delta: float) -> float:
    """Mironov, Talwar and Zhang (2019), section 3.3, at whole orders; to epsilon by Balle et al. (2020), theorem 21."""
    best = math.inf
    for order in range(2, 200):
        terms = [
            math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            + (order - k) * math.log1p(-q) + k * math.log(q) + k * (k - 1) / (2.0 * sigma**2)
            for k in range(order + 1)
        ]  # fmt: skip
        renyi = steps * float(np.logaddexp.reduce(terms)) / (order - 1)
        best = min(best, renyi + math.log1p(-1.0 / order) - (math.log(delta) + math.log(order)) / (order - 1))
    return best


def test_the_figures_of_a_training_are_those_of_two_other_computations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SCHEDULES, "demo", Schedule(0.1, STEPS))
    monkeypatch.setattr(private_cohort, "sigma_for", lambda *_, **__: 1.2)  # the search takes seconds
    store = site_with(tmp_path)
    source_of(store, STUDY).train(lambda _: None)
    claim = statement(spent_at(store), spent_at(store)[0].subject).dp
    assert claim is not None
    (training,) = claim.noised
    assert (training.kind, training.mechanism, training.clip) == ("training", "poisson-sampled-gaussian", 1.0)
    assert (training.sigma, training.q, training.steps) == (1.2, 0.1, STEPS + SPARE_STEPS)
    by_losses = epsilon_by_losses([(training.sigma, training.q, training.steps)], claim.delta)
    assert claim.epsilon_prv == pytest.approx(by_losses, rel=0.01)
    by_orders = rdp_at_whole_orders(training.sigma, training.q, training.steps, claim.delta)
    assert by_losses <= claim.epsilon_rdp <= by_orders  # the accountant has orders between the whole ones too
    assert claim.epsilon_rdp == pytest.approx(by_orders, rel=0.02)


def test_a_release_spends_what_its_study_asks_for_and_hardly_less(made: tuple[PrivateStore, Release]) -> None:
    claim = made[1].manifest.privacy.dp
    assert claim is not None
    assert 1.9 < claim.epsilon_prv <= 2.0
    assert claim.delta == 1e-3


def test_the_statement_says_that_it_is_private_what_it_cost_and_what_it_leaves_out(
    made: tuple[PrivateStore, Release],
) -> None:
    told = made[1].manifest.privacy
    assert told.mode == "dp"
    assert told.label().startswith("Differentially private for a patient at one site (add or remove one patient)")
    words = " ".join(told.sentences())
    assert (
        f"Real pixels were also read without noise: {ACCESS_WORDS['findings']}. It changed nothing that left" in words
    )
    assert NOT_COVERED_WORDS["findings"] in words
    assert "anonym" not in words.lower()


def test_the_ledger_shows_the_training_with_its_noise(made: tuple[PrivateStore, Release]) -> None:
    account = read_account(made[0], WILLING)
    rows = [dict(zip(COLUMNS, fact_row(fact), strict=True)) for fact in account.facts]
    assert [(row["kind"], row["state"]) for row in rows] == [("training", "committed"), ("findings", "")]
    assert f"q 1, {STEPS + SPARE_STEPS} steps, clip 1" in rows[0]["noise"]
    assert rows[1]["noise"] == "none: epsilon is infinite"
    assert account.left == pytest.approx(WILLING.max_epsilon_per_year - account.in_all.epsilon.prv)


def test_no_schedule_takes_more_steps_than_a_private_training_may() -> None:
    assert SCHEDULES.keys() == PRIVATE_PRESETS.keys()
    assert all(schedule.steps + SPARE_STEPS <= MOST_STEPS for schedule in SCHEDULES.values())


def test_the_coordinator_comes_to_the_same_figures(made: tuple[PrivateStore, Release]) -> None:
    manifest = made[1].manifest
    assert manifest.privacy.dp is not None
    check_claim(manifest.privacy.dp, STUDY.privacy)
    assert parse(Manifest, canonical(manifest)) == manifest


# Nothing real in what leaves but what was paid for


def test_a_manifest_counts_the_same_whatever_the_patients_images_are(
    tmp_path: Path, made: tuple[PrivateStore, Release]
) -> None:
    """As many patients, but other pictures, some smaller than the study's, and several of one patient."""

    def others(number: int) -> Sequence[Pair]:
        pair = drawn(500 + number)
        flat = Pair(np.full_like(pair.image, 40) + (pair.image > 200).astype(np.uint8), pair.mask)
        return [flat] * 5 if number == 0 else [resize_pair(pair, 24)] if number == 1 else [flat]

    again = release(site_with(tmp_path, others), STUDY).manifest
    assert without_pairs(again) == without_pairs(made[1].manifest)
    assert len(again.pairs) == len(made[1].manifest.pairs) == again.training_patients


def test_what_the_screening_finds_reaches_the_steward_and_nobody_else(
    tmp_path: Path, made: tuple[PrivateStore, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes every sample for a copy, misses what it planted, and its attack tells who was trained on."""
    monkeypatch.setattr(Reference, "flagged", lambda *_: "whole")
    strict = WILLING.model_copy(
        update={"control_floor": 1.0, "part_control_floor": 1.0, "max_membership_auc": 0.5, "min_screening_patients": 2}
    )
    plain = release(site_with(tmp_path / "plain"), STUDY, strict.model_copy(update={"max_correlation": 0.5}))
    monkeypatch.setattr(Reference, "flagged", lambda *_: None)
    found = release(site_with(tmp_path / "found"), STUDY, strict)

    for ended in (plain, found):
        counts = ended.manifest.audit
        assert counts == made[1].manifest.audit
        assert (counts.verdict, counts.planted, counts.planted_found) == ("inconclusive", 0, 0)
        assert FINDINGS_ONLY in ended.report["why"]
        assert ended.state.value == "screened"
    assert plain.report["checks"][0]["dropped"] + plain.report["checks"][2]["dropped"] > 0
    assert found.report["verdict"] == "blocked"
    assert not any(check["drops"] for check in found.report["checks"])


def test_a_count_that_rests_on_real_images_is_no_count_of_a_private_manifest(
    made: tuple[PrivateStore, Release],
) -> None:
    report = Airlock(made[0]).releases()[0].report
    dropped = AuditReport.model_validate({**report, "rejected": {"copy": 1}})
    assert told_outside(dropped, drops=True).rejected == {"copy": 1}
    with pytest.raises(ValueError, match="real images"):
        told_outside(dropped, drops=False)


def test_fewer_pairs_than_announced_do_not_leave_and_the_generator_is_kept(tmp_path: Path) -> None:
    store = site_with(tmp_path)
    study = private_study(release={"min_patients": 2, "masks": {"max_area": 0.001}})
    with refused("screening.too-few-accepted"):
        release(store, study)
    assert Airlock(store).releases() == []
    assert [fact.state for fact in spent_at(store)] == ["committed"]
    blind(store)
    source_of(store, study).train(lambda _: None)  # a second attempt finds the generator, and reads nobody for it
    assert len(spent_at(store)) == 1


def test_grey_pairs_are_made_too(tmp_path: Path) -> None:
    store = site_with(tmp_path)
    source = source_of(store, private_study(image={"size_px": 32, "channels": 1}))
    source.train(lambda _: None)
    (well,) = source.wells()
    assert [pair.image.shape for pair in well.draw("1", 2)] == [(32, 32)] * 2


# Paid for before a pixel is read


def test_the_reservation_stands_before_the_first_case_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, seen = site_with(tmp_path), []
    load = Case.load

    def spied(case: Case) -> Pair:
        seen.append([(fact.kind, fact.subject) for fact in spent_at(store)])
        return load(case)

    monkeypatch.setattr(Case, "load", spied)
    ended = release(store, STUDY)

    assert seen
    assert all(stood == [("training", ended.release_id)] for stood in seen)


@pytest.mark.parametrize(
    ("study", "policy", "code"),
    [
        ({}, {"max_epsilon_per_year": 2.01}, "policy.dp-budget"),
        ({}, {"min_dp_patients": 8}, "policy.dp-patients"),
        ({"privacy": {"mode": "dp", "epsilon": 2.0, "delta": 0.02}}, {}, "policy.dp-epsilon"),
        ({"generator": {"kind": "per_case", "preset": "demo"}}, {}, "policy.dp-generator"),
        ({"style": {"kind": "moments", "source": "cohort"}}, {}, "policy.dp-unaccounted"),
        ({"evaluation": {"steps": 2, "arms": ["real_own"]}}, {}, "policy.dp-unaccounted"),
        ({"style": {"kind": "moments", "source": "public"}}, {}, "style.images-missing"),
    ],
)
def test_a_job_that_is_refused_has_read_nobody(
    tmp_path: Path, study: dict[str, object], policy: dict[str, object], code: str
) -> None:
    store = site_with(tmp_path)
    reserve(store, OTHER, WILLING)
    blind(store)
    with refused(code):
        release(store, private_study(**study), WILLING.model_copy(update=policy))
    with store.reading.begin() as connection:
        assert [fact.subject for fact in facts(connection, ledger)] == ["m-1"]


def test_a_site_that_could_not_screen_afterwards_spends_nothing(tmp_path: Path) -> None:
    store = site_with(tmp_path)
    blind(store)
    with refused("style.weights-missing"):
        release(store, STUDY, screening_weights=str(tmp_path / "absent.safetensors"))
    assert spent_at(store) == []


def test_without_patient_keys_nothing_is_read(tmp_path: Path) -> None:
    store = PrivateStore(tmp_path)
    store.replace_cases([(f"p{i}", drawn(i)) for i in range(10)], actor="test")
    blind(store)
    with refused("policy.dp-keys"):
        release(store, STUDY)
    assert spent_at(store) == []


def test_a_second_study_in_the_year_adds_up_until_the_budget_ends(tmp_path: Path) -> None:
    store, policy = site_with(tmp_path), WILLING.model_copy(update={"max_epsilon_per_year": 2.5})
    first, second, third = (
        private_study(study_id=name, privacy={"mode": "dp", "epsilon": 1.5, "delta": 1e-3})
        for name in ("first", "second", "third")
    )
    source_of(store, first, policy).train(lambda _: None)
    told = release(store, second, policy).manifest.privacy.dp
    assert told is not None
    assert told.other_noised == 1
    assert told.site_epsilon_prv > 1.2 * told.epsilon_prv
    access = told.noised[0]
    both = epsilon_by_losses([(access.sigma, access.q, 2 * access.steps)], told.delta)
    assert told.site_epsilon_prv == pytest.approx(both, rel=0.01)
    blind(store)
    with refused("policy.dp-budget"):
        release(store, third, policy)


def test_a_reading_without_noise_for_a_release_ends_its_job(tmp_path: Path, made: tuple[PrivateStore, Release]) -> None:
    """Whatever a later change of the job reads: the statement, made from the ledger, stops it."""
    store = site_with(tmp_path)
    with store.engine.begin() as connection:
        record(
            connection, ledger, study_sha256="5" * 64, kind="style", patients=7, subject=made[1].release_id
        )  # fmt: skip
    with refused("policy.dp-unaccounted"):
        release(store, STUDY)
    assert Airlock(store).releases() == []


def test_a_generator_that_nobody_paid_for_is_not_drawn_from(tmp_path: Path, made: tuple[PrivateStore, Release]) -> None:
    source, paid = source_of(site_with(tmp_path), STUDY), source_of(made[0], STUDY)
    (source._folder / paid._generator.name).write_bytes(paid._generator.read_bytes())
    with refused("trust.ledger"):
        source.train(lambda _: None)


def test_an_epsilon_that_no_noise_reaches_is_refused_with_a_code(tmp_path: Path) -> None:
    store = site_with(tmp_path)
    with refused("policy.dp-epsilon"):
        source_of(store, private_study(privacy={"mode": "dp", "epsilon": 1e-8, "delta": 1e-9})).train(lambda _: None)
    assert spent_at(store) == []
