"""The distribution job: how far synthetic pairs are from the site's real ones, as figures of whole sets."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

from shared.documents import canonical
from shared.errors import SynthwardError
from shared.findings import Distribution, Measure
from shared.orders import DistributionRequest
from shared.pair_arrays import from_arrays
from shared.pairs import LazyPairs
from shared.study import Study
from site_node.cases import Case, PrivateStore, ledger
from site_node.dp.ledger import record
from site_node.policy import Policy
from site_node.scoring.arms import arrays_of
from site_node.scoring.distribution import measure_distribution
from site_node.scoring.gate import admit
from site_node.style.features import load_features

_FEATURES = {"squeezenet": "squeezenet", "vgg19": "vgg"}


def measure_distances(
    store: PrivateStore, *, study: Study, order: DistributionRequest, inbox: Path, policy: Policy,
    weights: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """{"document": a Distribution, canonical}. weights: of the features' network, if there is one.

    Raises policy.metrics, policy.dp-unaccounted, policy.arm-without-data for a single pair, cohort.*, style.weights-*,
    screening.inconclusive with too few patients for two halves, storage.damaged, pairs.shape.
    """
    found = admit(store, study, policy)
    synthetic = from_arrays(arrays_of(inbox, order.pairs_sha256), study.image)
    if len(synthetic) < 2:
        raise SynthwardError("policy.arm-without-data", "one pair has no distance from a set")
    with store.engine.begin() as connection:
        record(
            connection, ledger, study_sha256=order.study_sha256, kind="distances", subject=order.order_id,
            patients=len(found.split.training) + len(found.split.holdout),
        )  # fmt: skip
    features = load_features(weights) if weights else None
    patients: dict[str, list[Case]] = defaultdict(list)
    for case in found.cases:
        patients[case.patient].append(case)
    images, measures = measure_distribution(
        synthetic,
        {key: LazyPairs(cases, lambda case: case.load_for(study.image)) for key, cases in patients.items()},
        features=features,
        seed=store.seed("distances", order.study_sha256),
    )
    decimals = found.limits.metric_decimals
    document = Distribution(
        study_sha256=order.study_sha256,
        dataset_version=order.dataset_version,
        trained_on=order.trained_on,
        patients=len(patients),
        images=images,
        features=_FEATURES[features.name] if features else "none",  # type: ignore[arg-type]
        measures=tuple(
            # Digits, not decimals: two halves of one cohort may lie a thousandth apart.
            Measure(name=m.name, value=float(f"{m.value:.{decimals}g}"), yardstick=float(f"{m.yardstick:.{decimals}g}"))
            for m in measures
        ),
    )
    return {"document": canonical(document).decode()}
