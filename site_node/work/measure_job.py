"""The measurement job: a network is scored on the site's real hold-out, and averages may leave.

Where an arm wants real training images, the site trains the network itself and throws it away: weights that have seen
real images never leave. Each patient's scores are kept, in private/, for a comparison with other arms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shared.metrics import by_patient, patient_mean
from shared.orders import MeasurementRequest
from shared.pairs import Pair
from shared.segmenter import case_scores
from shared.study import REAL_ARMS, ImageSpec, Study
from site_node.cases import Case, PrivateStore, holdout, ledger, scores, training
from site_node.dp.budget import check_cohort, commit, reserve
from site_node.dp.ledger import record
from site_node.dp.metrics import metrics_reading, noisy_means
from site_node.dp.noise import SecretChance
from site_node.policy import Policy
from site_node.scoring.arms import Bench, network
from site_node.scoring.gate import Admitted, admit
from site_node.scoring.scores import keep
from site_node.work.release_state import Progress


def measure(
    store: PrivateStore, *, study: Study, order: MeasurementRequest, inbox: Path, policy: Policy, progress: Progress,
    weights: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """{"metrics": the figures, "patients": how many hold-out patients}. weights: the administrator's encoder file.

    Raises policy.metrics, policy.dp-*, policy.arm-without-data, cohort.*, weights.*, training.*.
    """
    found = admit(store, study, policy, noised=order.arm not in REAL_ARMS)
    bench = Bench(
        study, list(training(found.cases, found.split)), store.seed("evaluation", order.study_sha256), inbox, weights
    )
    if study.privacy.mode == "dp":
        return _measure_privately(store, bench, order, policy, found)
    with store.engine.begin() as connection:
        if order.arm in REAL_ARMS:
            record(
                connection, ledger, study_sha256=order.study_sha256, kind="training",
                patients=len(found.split.training), subject=order.order_id,
            )  # fmt: skip
        record(
            connection, ledger, study_sha256=order.study_sha256, kind="metrics", patients=len(found.split.holdout),
            subject=order.order_id,
        )  # fmt: skip
    model = network(bench, order, lambda done, of: progress("train", done, of))
    scored = case_scores(model, _pairs(list(holdout(found.cases, found.split)), study.image))
    with store.engine.begin() as connection:
        keep(connection, scores, order, by_patient(scored))
    return {
        "metrics": patient_mean(scored).rounded(found.limits.metric_decimals).model_dump(),
        "patients": len(found.split.holdout),
    }


def _measure_privately(
    store: PrivateStore, bench: Bench, order: MeasurementRequest, policy: Policy, found: Admitted
) -> dict[str, Any]:
    """The same in mode dp: noised, paid for before a hold-out image is read, and the count of patients noised too.

    No patient's scores are kept: a comparison from them would be a reading that nobody paid for.
    """
    study = bench.study
    assert study.privacy.delta is not None  # noqa: S101  a study in mode dp states one
    check_cohort(store, study, policy, found.split)
    model = network(bench, order, lambda *_: None)
    reading = metrics_reading(
        study_sha256=order.study_sha256, subject=order.order_id, delta=study.privacy.delta,
        patients=len(found.split.holdout),
    )  # fmt: skip
    reservation = reserve(store, reading, policy)
    noised = noisy_means(
        case_scores(model, _pairs(list(holdout(found.cases, found.split)), study.image)), SecretChance(),
        floor=found.limits.min_holdout_patients,
    )  # fmt: skip
    commit(store, reservation)
    return {
        "metrics": noised.metrics.rounded(found.limits.metric_decimals).model_dump(),
        "patients": noised.patients,
    }


def _pairs(cases: Sequence[Case], image: ImageSpec) -> Iterator[tuple[str, Pair]]:
    for case in cases:
        yield case.patient, case.load_for(image)
