"""What the site's Flower client answers. Installed at the site; nothing that arrives is ever executed.

It checks a signature and the hospital's policy, queues the work durably, and answers with a code; results are read
from the queue. It never opens the private half.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared.documents import parse, verify
from shared.errors import SynthwardError
from shared.files import room_for
from shared.identity import public_key
from shared.messages import Answer, read_request
from shared.metrics import Metrics
from shared.study import MeasurementRequest, Study
from shared.weights import digest as weights_digest
from shared.weights import save_arrays
from site_node.jobs import Job, JobKind, JobState, Queue
from site_node.policy import check, read_policy
from site_node.settings import Home

MAX_WEIGHTS_BYTES = 512 * 1024 * 1024


def build_client_app(home: Home) -> ClientApp:
    """The site's ClientApp."""
    app, queue = ClientApp(), Queue(home.exchange)

    @app.query("study")
    def study(message: Message, _context: Context) -> Message:
        return _answered(message, lambda: take_study(home, queue, message.content))

    @app.evaluate("measurement")
    def measurement(message: Message, _context: Context) -> Message:
        return _answered(message, lambda: take_measurement(home, queue, message.content))

    return app


def _answered(message: Message, work: Callable[[], Answer]) -> Message:
    try:
        answer = work()
    except SynthwardError as error:
        answer = Answer("refused", error.code)
    return Message(answer.to_content(), reply_to=message)


def take_study(home: Home, queue: Queue, content: RecordDict) -> Answer:
    """Checks a study and queues it, or says where the one that was taken stands. Raises trust.*, policy.*."""
    payload, signature = read_request(content)
    try:
        verify(_coordinator_key(home), "study", payload, signature)
        study = parse(Study, payload)
        check(read_policy(home.policy_file), study)
    except SynthwardError as error:
        queue.record("coordinator", "study-refused", "", error.code)
        raise
    sha256 = queue.take_study(payload)
    job = queue.job(f"release-{sha256[:16]}")
    return _from_job(job) if job is not None else Answer("queued")


def take_measurement(home: Home, queue: Queue, content: RecordDict) -> Answer:
    """Checks a measurement and queues it, or answers with its result. Raises trust.*, policy.*, weights.*."""
    payload, signature = read_request(content)
    verify(_coordinator_key(home), "measurement", payload, signature)
    order = parse(MeasurementRequest, payload)
    study = queue.study(order.study_sha256)
    # One reading of the hold-out for each (dataset version, arm, network): the id is made of what is asked, so asking
    # again under another id finds the same job, and other weights for it are refused. How many there may be in all is
    # the hospital's limit, since versions and names are the coordinator's to choose.
    job_id = f"measure-{order.study_sha256[:12]}-v{order.dataset_version}-{order.arm}-{order.trained_on or 'own'}"
    known = queue.job(job_id)
    if known is not None:
        if known.payload.get("weights_sha256") != order.weights_sha256:
            raise SynthwardError("policy.repeated-reading", f"{job_id} was asked for with other weights")
        return _from_job(known)
    policy = read_policy(home.policy_file)
    check(policy, study)
    readings = sum(job.kind is JobKind.MEASURE and job.study_sha256 == order.study_sha256 for job in queue.jobs())
    if readings >= policy.max_measurements:
        raise SynthwardError("policy.repeated-reading", f"the hold-out was read {readings} times for this study")
    if order.arm not in study.evaluation.arms:
        raise SynthwardError("policy.arm", f"the study did not declare {order.arm}")
    if order.weights_sha256 is not None:
        _keep_weights(home.inbox / f"{order.weights_sha256}.safetensors", content, order.weights_sha256)
    queue.add_measurement(job_id, order.study_sha256, order.model_dump(mode="json"))
    return Answer("queued")


def _keep_weights(path: Path, content: RecordDict, sha256: str) -> None:
    record = content.array_records.get("weights")
    if not isinstance(record, ArrayRecord) or sum(len(a.data) for a in record.values()) > MAX_WEIGHTS_BYTES:
        raise SynthwardError("weights.mismatch", "the message brings no weights, or too many")
    try:
        # numpy's own format, read without pickle by flwr; anything else in it is an error here.
        arrays = {name: array.numpy() for name, array in record.items()}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):  # an npz comes as something else
            raise TypeError("not an array")
    except (TypeError, ValueError, OSError) as error:
        raise SynthwardError("weights.mismatch", "the weights are not arrays") from error
    if weights_digest(arrays) != sha256:
        raise SynthwardError("trust.signature", "the weights are not those that the signed order names")
    with room_for(path):
        save_arrays(path, arrays)


def _from_job(job: Job) -> Answer:
    if job.state is JobState.DONE:
        figures = job.result.get("metrics")
        metrics = Metrics.model_validate(figures) if figures else None
        return Answer("done", "", metrics, int(job.result.get("patients", 0)))
    if job.state is JobState.REFUSED:
        return Answer("refused", job.code)
    return Answer("failed", job.code) if job.state is JobState.FAILED else Answer("queued")


def _coordinator_key(home: Home) -> Ed25519PublicKey:
    return public_key(bytes.fromhex(home.membership().coordinator_key))
