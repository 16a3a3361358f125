"""A study in mode dp: what its text may not ask for, what a cohort must have, and that neither costs a pixel."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.metrics import Metrics
from shared.orders import MeasurementRequest
from shared.segmenter import build, to_arrays
from shared.study import Study
from shared.weights import digest, pack, save_arrays
from site_node.cases import PrivateStore, ledger
from site_node.cohort import Split
from site_node.dp.budget import check_cohort, delta_ceiling
from site_node.dp.events import GaussianRelease, Unaccounted
from site_node.dp.ledger import facts
from site_node.dp.metrics import METRICS_SIGMA
from site_node.intake.patients import PatientsFrom
from site_node.policy import Policy, check
from site_node.work.measure_job import measure
from tests.helpers import noise_pair, refused
from tests.sites import make_study

WILLING = Policy(
    privacy_modes=("audited", "dp"), generators=("cohort", "per_case"), min_patients=2, min_holdout_patients=1,
    min_dp_patients=10,
)  # fmt: skip
ARMS = {"steps": 2, "arms": ["synthetic_own", "synthetic_pooled"]}


def dp_study(**changes: object) -> Study:
    """A study that a willing hospital takes."""
    values: dict[str, object] = {"privacy": {"mode": "dp", "epsilon": 2.0, "delta": 1e-3}, "evaluation": ARMS}
    return make_study(**(values | changes))


def test_the_study_of_these_tests_is_taken() -> None:
    check(WILLING, dp_study())


@pytest.mark.parametrize(
    ("policy", "study", "code"),
    [
        ({"privacy_modes": ("audited",)}, {}, "policy.privacy-mode"),
        ({}, {"generator": {"kind": "per_case"}}, "policy.dp-generator"),
        ({}, {"style": {"kind": "moments", "source": "cohort"}}, "policy.dp-unaccounted"),
        ({}, {"style": {"kind": "moments", "source": "stored"}}, "policy.dp-unaccounted"),
        ({}, {"evaluation": {"steps": 2}}, "policy.dp-unaccounted"),
        ({}, {"privacy": {"mode": "dp", "epsilon": 3.01, "delta": 1e-3}}, "policy.dp-epsilon"),
        ({"max_epsilon_per_year": 1.9}, {}, "policy.dp-epsilon"),
        ({"dp_delta": 1e-4}, {}, "policy.dp-epsilon"),
    ],
)
def test_each_refusal_has_its_code(policy: dict[str, object], study: dict[str, object], code: str) -> None:
    with refused(code):
        check(WILLING.model_copy(update=policy), dp_study(**study))


def test_style_from_public_images_reads_no_patient_and_is_allowed() -> None:
    check(WILLING, dp_study(style={"kind": "moments", "source": "public"}))


# The cohort


def with_cases(folder: Path, patients_from: PatientsFrom | None) -> PrivateStore:
    """A store with cases; None: as a version imported them that wrote down no source."""
    store = PrivateStore(folder)
    found = ((f"patient-{i}", noise_pair(i)) for i in range(4))
    store.replace_cases(found, actor="test", patients_from=patients_from or "patients.csv")
    if patients_from is None:
        with store.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM imports")
    return store


def split_of(training: int) -> Split:
    return Split(frozenset(f"t{i}" for i in range(training)), frozenset({"h"}))


@pytest.mark.parametrize("source", ["patients.csv", "index.csv"])
def test_a_cohort_with_keys_and_patients_enough_carries_a_study(tmp_path: Path, source: PatientsFrom) -> None:
    check_cohort(with_cases(tmp_path, source), dp_study(), WILLING, split_of(10))


@pytest.mark.parametrize("source", ["one patient a pair", None])
def test_without_patient_keys_there_is_no_unit(tmp_path: Path, source: PatientsFrom | None) -> None:
    with refused("policy.dp-keys"):
        check_cohort(with_cases(tmp_path, source), dp_study(), WILLING, split_of(10))


def test_keys_are_those_of_the_cases_that_stand_there_now(tmp_path: Path) -> None:
    store = with_cases(tmp_path, "patients.csv")
    store.replace_cases([("a", noise_pair(1))], actor="test", patients_from="one patient a pair")
    assert not store.has_patient_keys()


@pytest.mark.parametrize(
    ("policy", "study"), [({}, {}), ({"min_dp_patients": 2, "min_patients": 10}, {}),
                          ({"min_dp_patients": 2}, {"release": {"min_patients": 10}})],
)  # fmt: skip
def test_too_few_patients_are_refused_by_the_strictest_floor(
    tmp_path: Path, policy: dict[str, object], study: dict[str, object]
) -> None:
    store = with_cases(tmp_path, "patients.csv")
    strict = WILLING.model_copy(update=policy)
    check_cohort(store, dp_study(**study), strict, split_of(10))
    with refused("policy.dp-patients"):
        check_cohort(store, dp_study(**study), strict, split_of(9))


def test_delta_is_at_most_a_tenth_of_one_in_all_patients(tmp_path: Path) -> None:
    store, study = with_cases(tmp_path, "patients.csv"), dp_study()  # delta 1e-3
    check_cohort(store, study, WILLING, split_of(100))
    with refused("policy.dp-epsilon"):
        check_cohort(store, study, WILLING, split_of(101))


def test_a_policys_own_delta_tightens_and_never_loosens() -> None:
    assert delta_ceiling(WILLING, 200) == 1 / 2000
    assert delta_ceiling(WILLING.model_copy(update={"dp_delta": 1e-6}), 200) == 1e-6
    assert delta_ceiling(WILLING.model_copy(update={"dp_delta": 0.5}), 200) == 1 / 2000


# Metrics


def test_a_measurement_in_mode_dp_is_noised_and_paid_for(tmp_path: Path) -> None:
    store, study = with_cases(tmp_path, "patients.csv"), dp_study(image={"size_px": 32})
    arrays = pack(to_arrays(build(study.evaluation, study.image)))
    order = MeasurementRequest(
        order_id="m-1", study_sha256="5" * 64, dataset_version=1, arm="synthetic_own", trained_on="north", seed=0,
        weights_sha256=digest(arrays),
    )  # fmt: skip
    save_arrays(tmp_path / f"{order.weights_sha256}.safetensors", arrays)
    policy = WILLING.model_copy(update={"min_dp_patients": 1})

    exact, noised = (
        measure(store, study=one, order=order, inbox=tmp_path, policy=policy, progress=lambda *_: None)
        for one in (make_study(image=study.image, evaluation=study.evaluation), study)
    )

    assert Metrics.model_validate(noised["metrics"]) != Metrics.model_validate(exact["metrics"])
    assert noised["patients"] >= policy.min_holdout_patients
    with store.reading.begin() as connection:
        paid = facts(connection, ledger)
    assert [(fact.kind, fact.event, fact.state) for fact in paid] == [
        ("metrics", Unaccounted("metrics"), ""), ("metrics", GaussianRelease(METRICS_SIGMA), "committed"),
    ]  # fmt: skip


# Nothing is read by a job that may not be


@pytest.mark.parametrize(
    ("order", "policy", "code"),
    [
        ({"arm": "real_own"}, {"min_dp_patients": 1}, "policy.dp-unaccounted"),
        ({}, {}, "policy.dp-patients"),
        ({}, {"min_dp_patients": 1, "dp_delta": 1e-9}, "policy.dp-epsilon"),
    ],
)
def test_a_measurement_that_is_refused_has_read_nothing(
    tmp_path: Path, order: dict[str, str], policy: dict[str, object], code: str
) -> None:
    store = with_cases(tmp_path, "patients.csv")
    for path in (tmp_path / "cases").rglob("*.png"):
        path.unlink()  # so that reading one would be another error
    weights = {} if order else {"arm": "synthetic_own", "trained_on": "north", "weights_sha256": "7" * 64}
    request = MeasurementRequest.model_validate(
        {"order_id": "m-1", "seed": 0, "study_sha256": "5" * 64, "dataset_version": 1, **order, **weights}
    )
    with refused(code):
        measure(
            store, study=dp_study(image={"size_px": 32}), order=request, inbox=tmp_path,
            policy=WILLING.model_copy(update=policy), progress=lambda *_: None,
        )  # fmt: skip
