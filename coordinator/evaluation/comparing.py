"""The orders that follow the measurements: what the arms gain over the reference, and how far the pairs are from real.

Both are asked of each site by itself, and answered with figures of whole sets.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.evaluation.arms import order_id, pairs_of, signed
from coordinator.evaluation.evaluation import Evaluation
from coordinator.rounds.measure import Order
from coordinator.store.findings import Finding, FindingKind, add_finding, findings
from shared.documents import canonical
from shared.errors import SynthwardError
from shared.messages import ORDERS, Answer, read_finding
from shared.orders import POOLED, ComparisonRequest, DistributionRequest
from shared.study import Arm
from shared.weights import digest

# As many as the distances of two sets settle at, and no more real images are read than that needs.
DISTANCE_PAIRS = 400
_REFERENCES: tuple[Arm, ...] = ("real_own", "synthetic_pooled", "synthetic_own")


def reference(evaluation: Evaluation) -> Arm:
    """What gains are over: own real images where the study has that arm."""
    arms = evaluation.study.evaluation.arms
    return next((arm for arm in _REFERENCES if arm in arms), arms[0])


def comparisons(evaluation: Evaluation) -> Iterator[Order]:
    """An order for each site that has measured something new since its last comparison."""
    if evaluation.study.privacy.mode == "dp":
        return  # an interval would be a reading that nobody paid for
    measured = [
        m for m in evaluation.store.measurements(evaluation.study_sha256, evaluation.version) if m.metrics is not None
    ]
    known = {
        f.site: f.order_id
        for f in findings(evaluation.store, evaluation.study_sha256, evaluation.version)
        if f.kind == "comparison" and f.document is not None
    }
    for site in evaluation.sites:
        own = sorted(m.measurement_id for m in measured if m.site == site.name)
        name = order_id(evaluation, "comparison", site.name, *own)
        if own and known.get(site.name) != name:
            request = ComparisonRequest(
                order_id=name, study_sha256=evaluation.study_sha256, dataset_version=evaluation.version,
                reference=reference(evaluation),
            )  # fmt: skip
            yield signed(evaluation, "comparison", request, None, {site.name: site.node_id})


def distributions(evaluation: Evaluation) -> Iterator[Order]:
    """For each site an order with its own pairs, if it released some, and one with all sites' pairs."""
    if not evaluation.study.evaluation.distances or evaluation.study.privacy.mode == "dp":
        return
    known = {
        (f.site, f.trained_on)
        for f in findings(evaluation.store, evaluation.study_sha256, evaluation.version)
        if f.kind == "distribution" and f.document is not None
    }
    for site in evaluation.sites:
        for trained_on, sites in ((site.name, {site.name}), (POOLED, evaluation.dataset.privacy.keys())):
            load = pairs_of(evaluation, sites, DISTANCE_PAIRS)
            if load is None or (site.name, trained_on) in known:
                continue
            request = DistributionRequest(
                order_id=order_id(evaluation, "distribution", site.name, trained_on),
                study_sha256=evaluation.study_sha256, dataset_version=evaluation.version, trained_on=trained_on,
                pairs_sha256=digest(load()),
            )  # fmt: skip
            yield signed(evaluation, "distribution", request, load, {site.name: site.node_id})


def record_finding(evaluation: Evaluation, kind: FindingKind, order: Order, site: str, answer: Answer) -> None:
    """Writes a site's final answer into the store; what is not of this order, as a failure with its code."""
    request = ORDERS[kind].model_validate_json(order.document)
    code, document = answer.code, None
    if answer.state == "done":
        try:
            document = canonical(read_finding(kind, request, answer))
        except SynthwardError as error:
            code = error.code
    trained_on = request.trained_on if isinstance(request, DistributionRequest) else None
    add_finding(
        evaluation.store, evaluation.study_sha256, evaluation.version,
        Finding(kind, site, trained_on, order.name, code, document),
    )  # fmt: skip
