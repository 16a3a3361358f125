"""What the site's Flower client answers. Installed at the site; nothing that arrives is ever executed.

It checks a signature and the hospital's policy, queues the work durably, and answers with a code; results are read
from the queue. It never opens the private half.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from shared.documents import parse, verify
from shared.errors import ExitCode, SynthwardError
from shared.identity import public_key
from shared.messages import ORDERS, Answer, OrderKind, read_request
from shared.pairs import sha256_hex
from shared.study import Study
from site_node.jobs import JobKind, JobState, Queue
from site_node.link.orders import answer_of, take_order
from site_node.policy import check, read_policy
from site_node.settings import Home

MOST_WAITING_STUDIES = 20


def build_client_app(home: Home) -> ClientApp:
    """The site's ClientApp."""
    app, queue = ClientApp(), Queue(home.exchange)

    @app.query("study")
    def study(message: Message, _context: Context) -> Message:
        return _answered(message, lambda: take_study(home, queue, message.content))

    for kind in ORDERS:
        app.evaluate(kind)(_taker(home, queue, kind))
    return app


def _taker(home: Home, queue: Queue, kind: OrderKind) -> Callable[[Message, Context], Message]:
    """What takes orders of a kind."""

    def take(content: RecordDict) -> Answer:
        try:
            return take_order(home, queue, kind, content, _key(home))
        except SynthwardError as error:
            queue.record("coordinator", "order-refused", "", error.code)
            raise

    def taken(message: Message, _context: Context) -> Message:
        return _answered(message, lambda: take(message.content))

    return taken


def _answered(message: Message, work: Callable[[], Answer]) -> Message:
    try:
        answer = work()
    except SynthwardError as error:
        if error.exit_code is ExitCode.STORAGE:
            raise  # it will pass: without an answer of ours the coordinator asks again
        answer = Answer("refused", error.code)
    return Message(answer.to_content(), reply_to=message)


def take_study(home: Home, queue: Queue, content: RecordDict) -> Answer:
    """Checks a study and queues it, or says where the one that was taken stands.

    Raises trust.*, policy.*, document.*, study.exists.
    """
    try:
        payload, signature = read_request(content)
        verify(_key(home), "study", payload, signature)
        study = parse(Study, payload)
        check(read_policy(home.policy_file), study)
        _check_room(queue, payload)
        sha256 = queue.take_study(payload)
    except SynthwardError as error:
        queue.record("coordinator", "study-refused", "", error.code)
        raise
    job = queue.release_job(sha256)
    return answer_of(job) if job is not None else Answer("queued")


def _check_room(queue: Queue, payload: bytes) -> None:
    """Raises policy.studies for one study more than may wait: each is hours of training, and costs nobody a word."""
    waiting = [job for job in queue.jobs() if job.kind is JobKind.RELEASE and job.state is JobState.QUEUED]
    if len(waiting) >= MOST_WAITING_STUDIES and queue.release_job(sha256_hex(payload)) is None:
        raise SynthwardError("policy.studies", f"{len(waiting)} studies wait to be trained already")


def _key(home: Home) -> Ed25519PublicKey:
    """The coordinator's, as enrolment pinned it."""
    return public_key(bytes.fromhex(home.membership().coordinator_key))
