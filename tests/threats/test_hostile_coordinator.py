"""T10: a coordinator that is enrolled with a site, holds the true signing key, and turns against it.

Code that it pushes: test_code_push.py. What a policy allows and what holds where a study asks for less protection:
tests/unit/test_policy.py. Unpickling and foreign code: test_no_foreign_code.py.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.documents import Kind, canonical, sign
from shared.errors import SynthwardError
from shared.identity import new_signing_key, public_bytes
from shared.messages import (
    ORDERS,
    Answer,
    OrderKind,
    array_record,
    message_type,
    read_answer,
    read_arrays,
    read_request,
    request,
)
from shared.orders import MeasurementRequest
from shared.study import Study
from site_node.jobs import JobKind, Queue
from site_node.link.client_app import MOST_WAITING_STUDIES, build_client_app
from site_node.link.executor import Executor
from site_node.policy import Policy, write_policy
from site_node.settings import Home, Membership
from tests.helpers import refused
from tests.hostile_documents import COSTLY
from tests.link_alone import post
from tests.sites import LENIENT, make_site, make_study, signed

MOST_MB = 200  # that the link may need over what it has when idle, for any one message
MOST_S = 20.0  # until it has refused it, on a machine that has other work
ORDER_KINDS: tuple[OrderKind, ...] = tuple(ORDERS)
WAYS_OUT = ("../../private/site", "..", ".", "/etc/passwd", "a/b", "a\\b", "C:\\x", "%2e%2e%2f", "a\0b", "~root", "a\n")


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return new_signing_key()


@pytest.fixture
def home(tmp_path: Path, key: Ed25519PrivateKey) -> Home:
    return make_site(tmp_path / "north", key)


def told(home: Home, kind: str, document: bytes, signature: bytes) -> Answer:
    """The answer of the site's own client to one message."""
    return answered(home, kind, request(document, signature))


def answered(home: Home, kind: str, content: RecordDict) -> Answer:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    message = Message(content, dst_node_id=7, message_type=kind)
    return read_answer(build_client_app(home)(message=message, context=Context(1, 7, {}, RecordDict(), {})).content)


def journalled(home: Home) -> list[tuple[str, str]]:
    """(action, code) of every entry in the link's journal."""
    return [(entry.action, entry.detail) for entry in Queue(home.exchange).journal()]


def files(home: Home) -> dict[str, bytes]:
    """Every file of the site but the queue, which holds the journal."""
    return {
        str(path.relative_to(home.path)): path.read_bytes()
        for path in home.path.rglob("*")
        if path.is_file() and not path.name.startswith("queue.db")
    }


def order(study_sha256: str, kind: OrderKind = "measurement", **changes: object) -> dict[str, Any]:
    """The fields of an order that brings no arrays, or of one that would."""
    common = {"order_id": "m-1", "study_sha256": study_sha256, "dataset_version": 1}
    own: dict[OrderKind, dict[str, object]] = {
        "measurement": {"arm": "real_own", "seed": 0},
        "comparison": {},
        "distribution": {"trained_on": "pooled", "pairs_sha256": "0" * 64},
    }
    return common | own[kind] | changes


def ask(home: Home, key: Ed25519PrivateKey, kind: OrderKind, fields: dict[str, Any]) -> Answer:
    """Signs an order as it is, whether it follows the schema or not, and sends it."""
    document = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    return told(home, message_type(kind), document, sign(key, kind, document))


# What a document may cost


def test_a_costly_document_is_refused_within_stated_memory_and_time(
    home: Home, key: Ed25519PrivateKey, tmp_path: Path
) -> None:
    """Signed with the true key. The link is a process of its own, and the kernel limits its memory."""
    mail = tmp_path / "mail"
    mail.mkdir()
    honest = canonical(make_study())
    spoilt = {name: make(honest) for name, make in COSTLY.items()}
    for document in (*spoilt.values(), honest):
        post(mail, "query.study", document, sign(key, "study", document))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.link_alone", str(home.path), str(mail)],
        capture_output=True, text=True, check=False, timeout=MOST_S * len(COSTLY),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    *answers, last = (json.loads(line) for line in ended.stdout.splitlines())
    found = dict(zip(spoilt, answers, strict=True))
    assert {name: answer["code"] for name, answer in found.items()} == dict.fromkeys(COSTLY, "document.malformed")
    assert max(answer["mb"] for answer in answers) < MOST_MB, found
    assert max(answer["seconds"] for answer in answers) < MOST_S, found
    assert last["state"] == "queued", "the link still takes an honest study"
    refusals = [("study-refused", "document.malformed")] * len(COSTLY)
    assert journalled(home) == [*refusals, ("study-taken", "")]


def test_a_document_over_the_limit_is_refused_before_its_signature_is_looked_at(home: Home) -> None:
    content = request(b"x" * (16 * 1024 * 1024 + 1), bytes(64))
    with refused("document.malformed"):
        read_request(content)


def npy(header: bytes) -> bytes:
    """A file in numpy's format with any header and next to no data."""
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"0000"


@pytest.mark.parametrize(
    "data",
    [
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }"),
        npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"),
        npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        npy(b"(" * 9_000),
        npy(b"[" * 60_000),
        npy(b"{'descr': [('a', '<f4', (10**9, 10**9))], 'fortran_order': False, 'shape': (1,), }"),
        b"",
        b"PK\x03\x04" + bytes(60),
    ],
    ids=["endless", "negative", "pickled", "deep", "long", "wide", "nothing", "zip"],
)
def test_arrays_that_lie_about_themselves_are_refused(data: bytes) -> None:
    record = ArrayRecord({"a": Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=data)})
    content = RecordDict({"arrays": record})
    with refused("weights.mismatch"):
        read_arrays(content, max_bytes=2**20, refuse=lambda what: SynthwardError("weights.mismatch", what))


def test_more_arrays_than_any_network_has_are_refused(home: Home, key: Ed25519PrivateKey) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(300, np.float32))
    array = Array(dtype="float32", shape=(300,), stype="numpy.ndarray", data=buffer.getvalue())
    content = RecordDict({"arrays": ArrayRecord({"a": array, "b": array})})

    def too_large(what: str) -> SynthwardError:
        return SynthwardError("weights.mismatch", what)

    assert read_arrays(content, max_bytes=2 * len(array.data), refuse=too_large).keys() == {"a", "b"}
    with refused("weights.mismatch"):
        read_arrays(content, max_bytes=2 * len(array.data) - 1, refuse=too_large)


# Whose word it is


def rotated(home: Home, key: Ed25519PrivateKey) -> None:
    """The site has enrolled again, with a coordinator that has this key now."""
    before = home.membership().model_dump()
    home.join(Membership.model_validate({**before, "coordinator_key": public_bytes(key.public_key()).hex()}))


def test_a_study_under_a_former_key_is_refused_and_journalled(home: Home, key: Ed25519PrivateKey) -> None:
    payload, signature = signed(key, make_study())
    present = new_signing_key()
    rotated(home, present)
    assert told(home, "query.study", payload, signature) == Answer("refused", "trust.signature")
    assert journalled(home) == [("study-refused", "trust.signature")]
    assert told(home, "query.study", *signed(present, make_study())) == Answer("queued")


@pytest.mark.parametrize("kind", ORDER_KINDS)
def test_an_order_under_a_former_key_is_refused_and_journalled(
    home: Home, key: Ed25519PrivateKey, kind: OrderKind
) -> None:
    sha256 = Queue(home.exchange).take_study(canonical(make_study()))
    rotated(home, new_signing_key())
    assert ask(home, key, kind, order(sha256, kind)) == Answer("refused", "trust.signature")
    assert journalled(home)[-1] == ("order-refused", "trust.signature")


@pytest.mark.parametrize(("said", "meant"), [p for p in product(ORDER_KINDS, ORDER_KINDS) if p[0] != p[1]])
def test_an_order_of_one_kind_does_not_pass_for_another(
    home: Home, key: Ed25519PrivateKey, said: OrderKind, meant: Kind
) -> None:
    sha256 = Queue(home.exchange).take_study(canonical(make_study()))
    document = canonical(MeasurementRequest.model_validate(order(sha256)))
    answer = told(home, message_type(said), document, sign(key, meant, document))
    assert answer == Answer("refused", "trust.signature")
    assert len(Queue(home.exchange).jobs()) == 1


# What it may ask for


@pytest.mark.parametrize(
    "kind", ["query.images", "query.cases", "query.ledger", "evaluate.raw", "evaluate.predictions", "train", "evaluate"]
)
def test_a_message_of_another_kind_gets_no_answer_and_is_journalled(
    home: Home, key: Ed25519PrivateKey, kind: str
) -> None:
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    queue = Queue(home.exchange)
    before = files(home)
    executor = Executor(build_client_app(home), queue, port=1, secret=b"s" * 32)
    payload, signature = signed(key, make_study())
    message = Message(request(payload, signature), dst_node_id=7, message_type=kind)
    reply = executor.answer(message, Context(1, 7, {}, RecordDict(), {}))
    assert (reply.has_content(), reply.error.reason) == (False, "internal")
    assert journalled(home) == [("message-refused", "internal")]
    assert queue.jobs() == []
    assert files(home) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation": {"steps": 20_001}},
        {"evaluation": {"steps": 10**30}},
        {"evaluation": {"batch_size": 2**40}},
        {"evaluation": {"decoder_channels": [10**9, 1, 1, 1, 1]}},
        {"evaluation": {"decoder_channels": [-1, 1, 1, 1, 1]}},
        {"evaluation": {"seeds": list(range(21))}},
        {"evaluation": {"seeds": [0, 0]}},
        {"evaluation": {"few_cases": list(range(2, 13))}},
        {"evaluation": {"max_pairs_sent": 10**6}},
        {"generator": {"samples_per_case": 101}},
        {"image": {"size_px": 65_536}},
        {"style": {"kind": "gatys", "source": "cohort", "steps": 10**6}},
        {"release": {"max_pairs": 10**6}},
        {"closes": "endless"},
    ],
    ids=str,
)
def test_a_study_without_end_is_none_of_this_version(
    home: Home, key: Ed25519PrivateKey, changes: dict[str, Any]
) -> None:
    fields = json.loads(canonical(make_study()))
    for name, value in changes.items():
        fields[name] = fields[name] | value if isinstance(value, dict) else value
    document = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
    answer = told(home, "query.study", document, sign(key, "study", document))
    assert answer == Answer("refused", "document.malformed")
    assert Queue(home.exchange).jobs() == []


def test_studies_without_end_wait_no_more_than_a_few_at_a_time(home: Home, key: Ed25519PrivateKey) -> None:
    studies = [make_study(study_id=f"trial-{number}") for number in range(MOST_WAITING_STUDIES + 2)]
    answers = [told(home, "query.study", *signed(key, study)) for study in studies]
    assert answers[:MOST_WAITING_STUDIES] == [Answer("queued")] * MOST_WAITING_STUDIES
    assert answers[MOST_WAITING_STUDIES:] == [Answer("refused", "policy.studies")] * 2
    assert len(Queue(home.exchange).jobs()) == MOST_WAITING_STUDIES
    assert told(home, "query.study", *signed(key, studies[0])) == Answer("queued"), "one that waits is asked after"
    Queue(home.exchange).claim()
    assert told(home, "query.study", *signed(key, studies[-1])) == Answer("queued"), "there is room again"


asked = st.lists(
    st.tuples(
        st.sampled_from(["measurement", "comparison"]),
        st.integers(1, 50),
        st.sampled_from(["real_own", "real_plain", "few_real"]),
        st.integers(0, 3),
        st.sampled_from([None, 5, 10, 10_000]),
    ),
    min_size=5, max_size=12,
)  # fmt: skip


@settings(max_examples=12)
@given(asked, st.integers(1, 4))
def test_orders_without_end_are_as_many_as_the_hospital_allows(
    tmp_path_factory: pytest.TempPathFactory, orders: list[tuple[OrderKind, int, str, int, int | None]], most: int
) -> None:
    """Whatever versions, seeds, arms and numbers of cases: each kind of order costs at most that many readings."""
    key = new_signing_key()
    policy = Policy.model_validate({**LENIENT.model_dump(), "max_measurements": most})
    home = make_site(tmp_path_factory.mktemp("site"), key, policy=policy)
    sha256 = Queue(home.exchange).take_study(canonical(make_study()))
    for number, (kind, version, arm, seed, n) in enumerate(orders):
        own = {"arm": arm, "seed": seed, "n": n} if kind == "measurement" else {}
        fields = order(sha256, kind, order_id=f"m-{number}", dataset_version=version, **own)
        answer = ask(home, key, kind, {name: value for name, value in fields.items() if value is not None})
        assert answer.state in ("queued", "refused")
    kinds = [job.kind for job in Queue(home.exchange).jobs()]
    assert kinds.count(JobKind.MEASURE) <= most
    assert kinds.count(JobKind.COMPARE) <= most


# Names that lead somewhere else

traversals = st.one_of(
    st.sampled_from(WAYS_OUT),
    st.builds("".join, st.lists(st.sampled_from(["../", "..\\", "/", "private", "\0", "x", "."]), min_size=1)),
    st.text(max_size=80),
).filter(lambda text: re.fullmatch(r"[a-z0-9-]*", text) is None)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Ed25519PrivateKey, str]:
    """A site that has taken a study, and that no message of these changes."""
    key = new_signing_key()
    home = make_site(tmp_path_factory.mktemp("walked") / "north", key)
    return home, key, Queue(home.exchange).take_study(canonical(make_study(evaluation={"distances": True})))


NAMES: list[tuple[OrderKind, str]] = [
    ("measurement", "order_id"), ("measurement", "study_sha256"), ("measurement", "trained_on"),
    ("measurement", "arm"), ("measurement", "weights_sha256"), ("measurement", "pairs_sha256"),
    ("measurement", "format"), ("comparison", "order_id"), ("comparison", "reference"),
    ("distribution", "trained_on"), ("distribution", "pairs_sha256"), ("distribution", "study_sha256"),
]  # fmt: skip


@settings(max_examples=60)
@given(st.sampled_from(NAMES), traversals)
def test_a_name_in_an_order_that_leads_elsewhere_is_refused_and_opens_nothing(
    walked: tuple[Home, Ed25519PrivateKey, str], place: tuple[OrderKind, str], name: str
) -> None:
    home, key, sha256 = walked
    before = files(home)
    kind, field = place
    assert ask(home, key, kind, order(sha256, kind) | {field: name}) == Answer("refused", "document.malformed")
    assert files(home) == before


@settings(max_examples=30)
@given(st.sampled_from(["study_id", "format", "closes"]), traversals)
def test_a_name_in_a_study_that_leads_elsewhere_is_refused_and_opens_nothing(
    walked: tuple[Home, Ed25519PrivateKey, str], field: str, name: str
) -> None:
    home, key, _ = walked
    before = files(home)
    document = json.dumps({**json.loads(canonical(make_study())), field: name}, sort_keys=True).encode()
    assert told(home, "query.study", document, sign(key, "study", document)).code == "document.malformed"
    assert files(home) == before


def test_names_of_arrays_never_become_names_of_files(home: Home, key: Ed25519PrivateKey) -> None:
    from shared.weights import digest, load_arrays

    arrays = {name.replace("\0", "0"): np.ones(2, np.float32) for name in WAYS_OUT}
    sha256 = Queue(home.exchange).take_study(canonical(make_study()))
    before = files(home)
    fields = order(sha256, arm="synthetic_pooled", trained_on="pooled", weights_sha256=digest(arrays))
    document = canonical(MeasurementRequest.model_validate(fields))
    content = request(document, sign(key, "measurement", document), array_record(arrays))
    assert answered(home, message_type("measurement"), content) == Answer("queued", about="m-1")
    (written,) = files(home).keys() - before.keys()
    assert written == f"exchange/inbox/{digest(arrays)}.safetensors"
    assert load_arrays(home.path / written).keys() == arrays.keys()


# The policy is the hospital's


def test_no_message_changes_the_policy_or_is_let_through_by_one_that_was_changed_back(
    home: Home, key: Ed25519PrivateKey
) -> None:
    strict = LENIENT.model_copy(update={"min_patients": 50, "max_samples_per_case": 1})
    write_policy(home.policy_file, strict)
    before = home.policy_file.read_bytes()
    looser = make_study(release={"min_patients": 1}, generator={"preset": "demo", "samples_per_case": 2})
    assert told(home, "query.study", *signed(key, looser)) == Answer("refused", "policy.samples")
    with_policy = {**json.loads(canonical(make_study())), "policy": strict.model_dump(mode="json")}
    document = json.dumps(with_policy, sort_keys=True, separators=(",", ":")).encode()
    assert told(home, "query.study", document, sign(key, "study", document)).code == "document.malformed"
    assert home.policy_file.read_bytes() == before


def test_a_study_cannot_be_changed_under_its_name(home: Home, key: Ed25519PrivateKey) -> None:
    first, second = make_study(), make_study(release={"min_patients": 3})
    assert told(home, "query.study", *signed(key, first)) == Answer("queued")
    assert told(home, "query.study", *signed(key, second)) == Answer("refused", "study.exists")
    assert journalled(home)[-1] == ("study-refused", "study.exists")
    assert [study for _, study in Queue(home.exchange).studies()] == [first]


def test_a_study_that_was_open_is_not_taken_after_its_end(home: Home, key: Ed25519PrivateKey) -> None:
    ended = make_study(closes=datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1))
    assert isinstance(ended, Study)
    assert told(home, "query.study", *signed(key, ended)) == Answer("refused", "policy.expired")
