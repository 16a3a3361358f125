"""Orders for figures, as the link takes them: a signature, the hospital's limits, what they bring, the queue.

The id of a job is made of what is asked, so that asking again under another id finds the same job, and other weights
for it are refused. How many there may be in all is the hospital's limit, since names are the coordinator's to choose.
"""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flwr.app import RecordDict

from shared.documents import parse, verify
from shared.errors import SynthwardError
from shared.files import room_for
from shared.messages import ORDERS, Answer, AnyOrder, OrderKind, read_arrays, read_request
from shared.metrics import Metrics
from shared.orders import ComparisonRequest, DistributionRequest, MeasurementRequest
from shared.study import FEW_ARMS, Study
from shared.weights import MAX_WEIGHTS_BYTES, save_arrays
from shared.weights import digest as arrays_digest
from site_node.jobs import Job, JobKind, JobState, Queue
from site_node.policy import Policy, check, read_policy
from site_node.settings import Home

_KINDS = {
    "measurement": JobKind.MEASURE,
    "comparison": JobKind.COMPARE,
    "distribution": JobKind.DISTANCE,
}


def take_order(home: Home, queue: Queue, kind: OrderKind, content: RecordDict, key: Ed25519PublicKey) -> Answer:
    """Checks an order and queues it, or answers with its result. Raises trust.*, policy.*, weights.*, study.unknown."""
    payload, signature = read_request(content)
    verify(key, kind, payload, signature)
    order = parse(ORDERS[kind], payload)
    study = queue.study(order.study_sha256)
    job_id, known_arrays = _job_id(order), _arrays_sha256(order)
    known = queue.job(job_id)
    if known is not None:
        if _arrays_sha256(ORDERS[kind].model_validate(known.payload)) != known_arrays:
            raise SynthwardError("policy.repeated-reading", f"{job_id} was asked for with other weights or pairs")
        return answer_of(known, about=order.order_id)
    policy = read_policy(home.policy_file)
    check(policy, study)
    _check_allowed(queue, policy, study, kind, order)
    if known_arrays is not None:
        _keep(home.inbox / f"{known_arrays}.safetensors", content, known_arrays)
    queue.add_order(job_id, _KINDS[kind], order.study_sha256, order.model_dump(mode="json"))
    return Answer("queued", about=order.order_id)


def answer_of(job: Job, *, about: str = "") -> Answer:
    """What a job's state says to the coordinator."""
    if job.state is JobState.DONE:
        figures = job.result.get("metrics")
        metrics = Metrics.model_validate(figures) if figures else None
        document = str(job.result.get("document", "")).encode()
        return Answer("done", "", metrics, int(job.result.get("patients", 0)), about, document)
    if job.state is JobState.REFUSED:
        return Answer("refused", job.code, about=about)
    return Answer("failed" if job.state is JobState.FAILED else "queued", job.code, about=about)


def _job_id(order: AnyOrder) -> str:
    place = f"{order.study_sha256[:12]}-v{order.dataset_version}"
    if isinstance(order, MeasurementRequest):
        many = "" if order.n is None else f"-n{order.n}"
        return f"measure-{place}-{order.arm}-{order.trained_on or 'own'}{many}-s{order.seed}"
    if isinstance(order, DistributionRequest):
        return f"distance-{place}-{order.trained_on}"
    return f"compare-{place}-{order.order_id}"  # of what was measured by then: the order's id says of what


def _arrays_sha256(order: AnyOrder) -> str | None:
    """The digest of what must come with an order."""
    if isinstance(order, MeasurementRequest):
        return order.weights_sha256 or order.pairs_sha256
    return order.pairs_sha256 if isinstance(order, DistributionRequest) else None


def _check_allowed(queue: Queue, policy: Policy, study: Study, kind: OrderKind, order: AnyOrder) -> None:
    """Raises policy.* for what the study did not declare, and for more than the hospital agreed to."""
    same = [job for job in queue.jobs() if job.study_sha256 == order.study_sha256 and job.kind is _KINDS[kind]]
    if len(same) >= policy.max_measurements:
        raise SynthwardError("policy.repeated-reading", f"this study had {len(same)} orders for {kind} already")
    declared = study.evaluation
    if isinstance(order, MeasurementRequest):
        numbers = declared.few_cases if order.arm in FEW_ARMS else declared.per_case
        as_declared = order.arm in declared.arms and order.seed in declared.seeds
        if not as_declared or (order.n is not None and order.n not in numbers):
            raise SynthwardError("policy.arm", f"the study did not declare {order.arm} with these numbers")
    if isinstance(order, ComparisonRequest) and order.reference not in declared.arms:
        raise SynthwardError("policy.arm", f"the study did not declare {order.reference}")
    if isinstance(order, DistributionRequest) and not declared.distances:
        raise SynthwardError("policy.arm", "the study did not declare distances")


def _keep(path: Path, content: RecordDict, sha256: str) -> None:
    arrays = read_arrays(
        content, max_bytes=MAX_WEIGHTS_BYTES, refuse=lambda what: SynthwardError("weights.mismatch", what)
    )
    if arrays_digest(arrays) != sha256:
        raise SynthwardError("trust.signature", "the arrays are not those that the signed order names")
    with room_for(path):
        save_arrays(path, arrays)
