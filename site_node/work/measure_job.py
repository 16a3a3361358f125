"""The measurement job: a network is scored on the site's real hold-out, and six averages may leave.

For `real_own` the site trains the network itself, on its own training cases, and throws it away: weights that have
seen real images never leave. The metric gate holds back figures of too few patients, and rounds the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from shared.errors import SynthwardError
from shared.pairs import LazyPairs, Pair
from shared.segmenter import Segmenter, case_scores, from_packed, score
from shared.segmenter_training import train
from shared.study import ImageSpec, MeasurementRequest, Study
from shared.weights import digest, load_arrays
from site_node.cases import Case, PrivateStore, holdout, ledger, training
from site_node.cohort import Split, check_size
from site_node.dp.budget import check_cohort, commit, reserve
from site_node.dp.ledger import record
from site_node.dp.metrics import metrics_reading, noisy_means
from site_node.dp.noise import SecretChance
from site_node.policy import Policy, terms
from site_node.work.release_job import Progress


def measure(
    store: PrivateStore, *, study: Study, order: MeasurementRequest, inbox: Path, policy: Policy, progress: Progress
) -> dict[str, Any]:
    """{"metrics": six figures, "patients": how many hold-out patients}. Raises cohort.*, weights.*, policy.metrics,
    policy.dp-*."""
    limits = terms(policy, study)
    if not policy.metrics_may_leave:
        raise SynthwardError(
            "policy.metrics",
            "this hospital's policy lets no metrics out",
            do="change metrics_may_leave in policy.toml if the hospital agrees",
        )
    cases = store.cases()
    split = store.split(cases, policy.holdout_fraction)
    if len(split.holdout) < limits.min_holdout_patients:
        raise SynthwardError(
            "cohort.no-holdout",
            f"{len(split.holdout)} hold-out patients; the policy lets metrics out from {limits.min_holdout_patients}",
            do="import more patients, or change min_holdout_patients in policy.toml if the hospital agrees",
        )
    check_size(((case.height, case.width) for case in cases), study.image.size_px)
    if study.privacy.mode == "dp":
        return _measure_privately(store, study, order, inbox, policy, cases, split)
    with store.engine.begin() as connection:
        record(
            connection, ledger, study_sha256=order.study_sha256, kind="metrics", patients=len(split.holdout),
            subject=order.measurement_id,
        )  # fmt: skip
        if order.weights_sha256 is None:
            record(
                connection, ledger, study_sha256=order.study_sha256, kind="training", patients=len(split.training),
                subject=order.measurement_id,
            )  # fmt: skip
    if order.weights_sha256 is None:
        pairs = LazyPairs(list(training(cases, split)), lambda case: case.load_for(study.image))
        model = train(pairs, study.evaluation, study.image, on_step=lambda done, of: progress("train", done, of))
    else:
        model = _received(inbox, order.weights_sha256, study)
    metrics = score(model, _scored(list(holdout(cases, split)), study.image))
    return {
        "metrics": metrics.rounded(limits.metric_decimals).model_dump(),
        "patients": len(split.holdout),
    }


def _measure_privately(
    store: PrivateStore, study: Study, order: MeasurementRequest, inbox: Path, policy: Policy, cases: list[Case],
    split: Split,
) -> dict[str, Any]:  # fmt: skip
    """The same in mode dp: noised, paid for before a hold-out image is read, and the count of patients noised too."""
    if order.weights_sha256 is None or study.privacy.delta is None:
        raise SynthwardError(
            "policy.dp-unaccounted",
            "a network was to be trained on real cases, for a study in mode dp",
            why="that reads the training patients without noise, so that nothing would bound what leaves",
            do="ask the study's lead for the arms synthetic_own and synthetic_pooled",
        )
    check_cohort(store, study, policy, split)
    model = _received(inbox, order.weights_sha256, study)
    limits = terms(policy, study)
    reading = metrics_reading(
        study_sha256=order.study_sha256, subject=order.measurement_id, delta=study.privacy.delta,
        patients=len(split.holdout),
    )  # fmt: skip
    reservation = reserve(store, reading, policy)
    found = noisy_means(
        case_scores(model, _scored(list(holdout(cases, split)), study.image)), SecretChance(),
        floor=limits.min_holdout_patients,
    )  # fmt: skip
    commit(store, reservation)
    return {"metrics": found.metrics.rounded(limits.metric_decimals).model_dump(), "patients": found.patients}


def _received(inbox: Path, weights_sha256: str, study: Study) -> Segmenter:
    """The network that came with the order. Raises storage.damaged, weights.mismatch."""
    arrays = load_arrays(inbox / f"{weights_sha256}.safetensors")
    if digest(arrays) != weights_sha256:
        raise SynthwardError("storage.damaged", "the weights in the inbox have changed")
    return from_packed(arrays, study.evaluation, study.image)


def _scored(cases: Sequence[Case], image: ImageSpec) -> Iterator[tuple[str, Pair]]:
    for case in cases:
        yield case.patient, case.load_for(image)
