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
from shared.errors import SynthwardError
from shared.identity import public_key
from shared.messages import ORDERS, Answer, OrderKind, read_request
from shared.study import Study
from site_node.jobs import Queue
from site_node.link.orders import answer_of, take_order
from site_node.policy import check, read_policy
from site_node.settings import Home


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

    def taken(message: Message, _context: Context) -> Message:
        return _answered(message, lambda: take_order(home, queue, kind, message.content, _key(home)))

    return taken


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
        verify(_key(home), "study", payload, signature)
        study = parse(Study, payload)
        check(read_policy(home.policy_file), study)
    except SynthwardError as error:
        queue.record("coordinator", "study-refused", "", error.code)
        raise
    sha256 = queue.take_study(payload)
    job = queue.job(f"release-{sha256[:16]}")
    return answer_of(job) if job is not None else Answer("queued")


def _key(home: Home) -> Ed25519PublicKey:
    """The coordinator's, as enrolment pinned it."""
    return public_key(bytes.fromhex(home.membership().coordinator_key))
