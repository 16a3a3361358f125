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
from shared.segmenter import from_packed, score
from shared.segmenter_training import train
from shared.study import ImageSpec, MeasurementRequest, Study
from shared.weights import digest, load_arrays
from site_node.cases import Case, PrivateStore, holdout, ledger, training
from site_node.cohort import check_size
from site_node.dp.ledger import record
from site_node.policy import Policy, terms
from site_node.work.release_job import Progress


def measure(
    store: PrivateStore, *, study: Study, order: MeasurementRequest, inbox: Path, policy: Policy, progress: Progress
) -> dict[str, Any]:
    """{"metrics": six figures, "patients": how many hold-out patients}. Raises cohort.*, weights.*."""
    limits = terms(policy, study)
    cases = store.cases()
    split = store.split(cases, policy.holdout_fraction)
    if len(split.holdout) < limits.min_holdout_patients:
        raise SynthwardError(
            "cohort.no-holdout",
            f"{len(split.holdout)} hold-out patients; the policy lets metrics out from {limits.min_holdout_patients}",
            do="import more patients, or change min_holdout_patients in policy.toml if the hospital agrees",
        )
    check_size(((case.height, case.width) for case in cases), study.image.size_px)
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
        arrays = load_arrays(inbox / f"{order.weights_sha256}.safetensors")
        if digest(arrays) != order.weights_sha256:
            raise SynthwardError("storage.damaged", "the weights in the inbox have changed")
        model = from_packed(arrays, study.evaluation, study.image)
    metrics = score(model, _scored(list(holdout(cases, split)), study.image))
    return {
        "metrics": metrics.rounded(limits.metric_decimals).model_dump(),
        "patients": len(split.holdout),
    }


def _scored(cases: Sequence[Case], image: ImageSpec) -> Iterator[tuple[str, Pair]]:
    for case in cases:
        yield case.patient, case.load_for(image)
