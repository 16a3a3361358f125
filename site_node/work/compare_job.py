"""The comparison job: intervals and gains out of scores that are kept already. It reads no pixel."""

from __future__ import annotations

from typing import Any

from shared.documents import canonical
from shared.errors import SynthwardError
from shared.findings import Comparison
from shared.orders import ComparisonRequest
from shared.study import Study
from site_node.cases import PrivateStore, scores
from site_node.policy import Policy
from site_node.scoring.comparison import compare
from site_node.scoring.gate import admit
from site_node.scoring.scores import kept

RESAMPLES = 2_000


def compare_arms(store: PrivateStore, *, study: Study, order: ComparisonRequest, policy: Policy) -> dict[str, Any]:
    """{"document": a Comparison, canonical}. Raises policy.metrics, policy.dp-unaccounted, cohort.*, metrics.*.

    Scores of patients who were added, or taken out, between two measurements cannot be paired: metrics.not-measured.
    """
    found = admit(store, study, policy)
    with store.reading.begin() as connection:
        measured = kept(connection, scores, order.study_sha256, order.dataset_version)
    patients = {patient for seeds in measured.values() for by_key in seeds.values() for patient in by_key}
    same = all(by_key.keys() == patients for seeds in measured.values() for by_key in seeds.values())
    if not measured or not same:
        raise SynthwardError(
            "metrics.not-measured",
            "there are no scores to compare, or they are not of the same hold-out patients",
            why="cases were imported between two measurements" if measured else "no arm was measured here",
            do="build a new dataset version and evaluate that",
        )
    if len(patients) < max(2, found.limits.min_holdout_patients):
        raise SynthwardError(
            "cohort.no-holdout",
            f"scores of {len(patients)} patients",
            why="an interval needs two patients, and the policy its floor",
        )
    figures = compare(
        measured, order.reference, decimals=found.limits.metric_decimals, resamples=RESAMPLES,
        seed=store.seed("bootstrap", order.study_sha256),
    )  # fmt: skip
    document = Comparison(
        study_sha256=order.study_sha256,
        dataset_version=order.dataset_version,
        reference=order.reference,
        patients=len(patients),
        resamples=RESAMPLES,
        arms=figures,
    )
    return {"document": canonical(document).decode()}
