"""The coordinator's rounds against real site clients, over a Grid in memory: no network, no processes."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from coordinator.rounds.announce import Delivery, announce
from coordinator.rounds.measure import Order, measure
from coordinator.service import Announcer
from coordinator.store.store import PublishedStudy, Site, Store
from shared.database import sqlite_url
from shared.documents import canonical, sign
from shared.errors import SynthwardError
from shared.identity import new_signing_key
from shared.messages import Answer, read_answer, request
from shared.metrics import NAMES, Metrics
from shared.orders import MeasurementRequest
from shared.pairs import sha256_hex
from shared.weights import digest, load_arrays, pack
from site_node.jobs import JobKind, JobState, Queue
from site_node.link.client_app import build_client_app
from site_node.link.orders import take_order
from site_node.policy import Policy
from site_node.settings import Home
from tests.memory_grid import MemoryGrid
from tests.sites import LENIENT, make_site, make_study, signed

FIGURES = Metrics(**dict.fromkeys(NAMES, 0.5))
WEIGHTS = pack({"layer": np.arange(6, dtype=np.float32).reshape(2, 3), "count": np.array(3, np.int64)})


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return new_signing_key()


@pytest.fixture
def home(tmp_path: Path, key: Ed25519PrivateKey) -> Home:
    return make_site(tmp_path / "north", key)


def tell(grid: MemoryGrid, payload: bytes, signature: bytes) -> dict[str, Answer]:
    """Announces one study to node 7."""
    answers: dict[str, Answer] = {}
    deliveries = [Delivery("north", 7, sha256_hex(payload), payload, signature)]
    announce(grid, deliveries, lambda d, a: answers.update({d.site: a}), timeout_s=0.5)
    return answers


def test_a_signed_study_is_queued_durably_before_it_is_acknowledged(home: Home, key: Ed25519PrivateKey) -> None:
    payload, signature = signed(key, make_study())
    answers = tell(MemoryGrid({7: build_client_app(home)}), payload, signature)
    assert answers == {"north": Answer("queued")}
    jobs = Queue(home.exchange).jobs()  # opened anew: what it finds is on the disk
    assert [(job.kind, job.state) for job in jobs] == [(JobKind.RELEASE, JobState.QUEUED)]


def test_a_study_told_twice_is_worked_on_once(home: Home, key: Ed25519PrivateKey) -> None:
    payload, signature = signed(key, make_study())
    grid = MemoryGrid({7: build_client_app(home)})
    tell(grid, payload, signature)
    assert tell(grid, payload, signature) == {"north": Answer("queued")}
    assert len(Queue(home.exchange).jobs()) == 1


@pytest.mark.parametrize(
    ("code", "signer", "changes"),
    [
        ("trust.signature", "somebody else", {}),
        ("policy.expired", "coordinator", {"closes": "2020-01-01T00:00:00Z"}),
        ("policy.privacy-mode", "coordinator", {"privacy": {"mode": "dp", "epsilon": 8.0, "delta": 1e-3}}),
        ("policy.samples", "coordinator", {"generator": {"samples_per_case": 11}}),
        ("policy.steps", "coordinator", {"evaluation": {"steps": 20_000}}),
    ],
)
def test_what_the_hospital_does_not_allow_is_refused_with_its_code(
    home: Home, key: Ed25519PrivateKey, code: str, signer: str, changes: dict[str, object]
) -> None:
    payload, signature = signed(new_signing_key() if signer == "somebody else" else key, make_study(**changes))
    assert tell(MemoryGrid({7: build_client_app(home)}), payload, signature) == {"north": Answer("refused", code)}
    assert Queue(home.exchange).jobs() == []
    assert Queue(home.exchange).journal()[-1].detail == code


def test_a_changed_study_is_refused(home: Home, key: Ed25519PrivateKey) -> None:
    payload, signature = signed(key, make_study())
    changed = payload.replace(b'"samples_per_case":2', b'"samples_per_case":9')
    assert changed != payload
    answers = tell(MemoryGrid({7: build_client_app(home)}), changed, signature)
    assert answers == {"north": Answer("refused", "trust.signature")}


def test_a_site_that_is_away_or_silent_holds_nobody_up(home: Home, key: Ed25519PrivateKey) -> None:
    payload, signature = signed(key, make_study())
    grid = MemoryGrid({7: build_client_app(home), 8: None})
    answers: dict[str, Answer] = {}
    deliveries = [
        Delivery(site, node, sha256_hex(payload), payload, signature)
        for site, node in (("north", 7), ("silent", 8), ("away", 9))
    ]
    announce(grid, deliveries, lambda d, a: answers.update({d.site: a}), timeout_s=0.5)
    assert answers == {"north": Answer("queued")}


def order(key: Ed25519PrivateKey, study_sha256: str, *, arm: str = "synthetic_own", weights: object = WEIGHTS) -> Order:
    """A signed order for node 7."""
    request = MeasurementRequest.model_validate(
        {
            "order_id": f"m-{arm.replace('_', '-')}",
            "seed": 0,
            "study_sha256": study_sha256,
            "dataset_version": 1,
            "arm": arm,
            "trained_on": None if weights is None else "harbour",
            "weights_sha256": None if weights is None else digest(weights),  # type: ignore[arg-type]
        }
    )
    payload = canonical(request)
    load = None if weights is None else lambda: weights
    return Order(request.order_id, "measurement", payload, sign(key, "measurement", payload), load, {"north": 7})  # type: ignore[arg-type, return-value]


def run(grid: MemoryGrid, orders: list[Order], *, timeout_s: float = 0.3) -> dict[str, Answer]:
    """The answers by order."""
    answers: dict[str, Answer] = {}
    measure(grid, iter(orders), lambda o, _site, a: answers.update({o.name: a}), timeout_s=timeout_s)
    return answers


@pytest.fixture
def taken(home: Home, key: Ed25519PrivateKey) -> str:
    """The digest of a study that the site has taken."""
    return Queue(home.exchange).take_study(signed(key, make_study())[0])


class Trainer:
    """Ends every queued measurement, as the trainer would, whenever the site is asked."""

    def __init__(self, home: Home) -> None:
        self._queue = Queue(home.exchange)
        self._app = build_client_app(home)

    def __call__(self, message: object, context: object) -> object:
        reply = self._app(message=message, context=context)  # type: ignore[arg-type]
        for job in self._queue.jobs():
            if job.kind is JobKind.MEASURE and job.state is JobState.QUEUED:
                self._queue.end(job.job_id, JobState.DONE, result={"metrics": FIGURES.model_dump(), "patients": 12})
        return reply


def test_weights_go_out_as_arrays_and_only_figures_come_back(home: Home, key: Ed25519PrivateKey, taken: str) -> None:
    grid = MemoryGrid({7: Trainer(home)})  # type: ignore[dict-item]
    answers = run(grid, [order(key, taken)], timeout_s=5.0)
    assert answers == {"m-synthetic-own": Answer("done", "", FIGURES, 12, "m-synthetic-own")}
    stored = load_arrays(home.inbox / f"{digest(WEIGHTS)}.safetensors")
    assert all(np.array_equal(stored[name], WEIGHTS[name]) for name in WEIGHTS)


def test_weights_travel_once_while_the_site_is_asked_again(home: Home, key: Ed25519PrivateKey, taken: str) -> None:
    grid = MemoryGrid({7: Trainer(home)})  # type: ignore[dict-item]
    run(grid, [order(key, taken)], timeout_s=5.0)
    assert [len(message.content.array_records) for message in grid.sent] == [1, 0]


def test_real_own_brings_no_weights(home: Home, key: Ed25519PrivateKey, taken: str) -> None:
    grid = MemoryGrid({7: Trainer(home)})  # type: ignore[dict-item]
    answers = run(grid, [order(key, taken, arm="real_own", weights=None)], timeout_s=5.0)
    assert answers["m-real-own"].metrics == FIGURES
    assert list(home.inbox.iterdir()) == []


def test_the_same_holdout_figures_are_given_once_and_not_for_other_weights(
    home: Home, key: Ed25519PrivateKey, taken: str
) -> None:
    grid = MemoryGrid({7: Trainer(home)})  # type: ignore[dict-item]
    run(grid, [order(key, taken)], timeout_s=5.0)
    other = {name: array + 1 for name, array in WEIGHTS.items()}
    answers = run(grid, [order(key, taken, weights=other)])
    assert answers == {"m-synthetic-own": Answer("refused", "policy.repeated-reading")}
    assert sum(job.kind is JobKind.MEASURE for job in Queue(home.exchange).jobs()) == 1


def test_how_often_a_study_may_read_the_holdout_is_the_hospitals_limit(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    home = make_site(tmp_path / "wary", key, policy=Policy(**{**LENIENT.model_dump(), "max_measurements": 1}))
    sha256 = Queue(home.exchange).take_study(signed(key, make_study())[0])
    grid = MemoryGrid({7: Trainer(home)})  # type: ignore[dict-item]
    answers = run(grid, [order(key, sha256, arm="real_own", weights=None), order(key, sha256)], timeout_s=5.0)
    assert answers["m-real-own"].state == "done"
    assert answers["m-synthetic-own"] == Answer("refused", "policy.repeated-reading")


def test_weights_that_are_no_plain_arrays_are_refused(home: Home, key: Ed25519PrivateKey, taken: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, layer=np.ones(3))
    asked = order(key, taken)
    content = request(asked.document, asked.signature)
    content["arrays"] = ArrayRecord(
        {"a": Array(dtype="float32", shape=(3,), stype="numpy.ndarray", data=buffer.getvalue())}
    )
    with pytest.raises(SynthwardError) as caught:
        take_order(home, Queue(home.exchange), "measurement", content, key.public_key())
    assert caught.value.code == "weights.mismatch"


def test_weights_that_the_signed_order_does_not_name_are_refused(
    home: Home, key: Ed25519PrivateKey, taken: str
) -> None:
    swapped = Order(**{**vars(order(key, taken)), "arrays": lambda: {n: a + 1 for n, a in WEIGHTS.items()}})
    answers = run(MemoryGrid({7: build_client_app(home)}), [swapped])
    assert answers == {"m-synthetic-own": Answer("refused", "trust.signature")}
    assert list(home.inbox.iterdir()) == []


def test_an_arm_that_the_study_did_not_declare_is_refused(home: Home, key: Ed25519PrivateKey) -> None:
    sha256 = Queue(home.exchange).take_study(signed(key, make_study(evaluation={"arms": ["real_own"]}))[0])
    answers = run(MemoryGrid({7: build_client_app(home)}), [order(key, sha256)])
    assert answers == {"m-synthetic-own": Answer("refused", "policy.arm")}


def test_an_order_for_a_study_that_the_site_never_took_is_refused(home: Home, key: Ed25519PrivateKey) -> None:
    answers = run(MemoryGrid({7: build_client_app(home)}), [order(key, "0" * 64)])
    assert answers == {"m-synthetic-own": Answer("refused", "study.unknown")}


def test_a_site_that_stays_away_is_reported_as_that(key: Ed25519PrivateKey, taken: str) -> None:
    gone = Answer("failed", "unavailable.timeout", about="m-synthetic-own")
    assert run(MemoryGrid({}), [order(key, taken)]) == {"m-synthetic-own": gone}


@pytest.mark.parametrize(
    ("what", "figures"),
    [
        ("over one", {**FIGURES.model_dump(), "iou": 1.2}),
        ("not a number", {**FIGURES.model_dump(), "iou": float("nan")}),
        ("missing", {"iou": 0.5}),
        ("one more", {**FIGURES.model_dump(), "loss": 0.1}),
    ],
)
def test_figures_that_are_no_metrics_are_refused(what: str, figures: dict[str, float]) -> None:
    answer = ConfigRecord({"state": "done", "code": "", "patients": 3, "about": "m-1", "document": b""})
    with pytest.raises(SynthwardError) as caught:
        read_answer(RecordDict({"answer": answer, "metrics": MetricRecord(figures)}))
    assert caught.value.code == "metrics.range"


def test_text_from_a_site_goes_no_further_than_its_code() -> None:
    answer = {"state": "refused", "code": "Mrs Smith, polyp_017.png", "patients": 0, "about": "", "document": b""}
    assert read_answer(RecordDict({"answer": ConfigRecord(answer)})) == Answer("refused", "internal")


def test_a_stricter_policy_than_the_study_holds(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    strict = Policy(**{**LENIENT.model_dump(), "max_image_size_px": 32})
    home = make_site(tmp_path / "strict", key, policy=strict)
    payload, signature = signed(key, make_study())
    answers = tell(MemoryGrid({7: build_client_app(home)}), payload, signature)
    assert answers == {"north": Answer("refused", "policy.image-size")}


class Announced:
    """A coordinator's store with one study and one site, and a clock."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey) -> None:
        self.store = Store(sqlite_url(folder / "store.db"))
        payload, signature = signed(key, make_study())
        self.store.publish(PublishedStudy(sha256_hex(payload), payload, signature), actor="operator")
        self.store.invite("north", "0" * 64, timedelta(hours=1), actor="operator")
        self.store.enrol("0" * 64, Site("north", "active", "1", b"s" * 32, b"f", 7))
        self.announcer = Announcer(self.store)

    def due(self, now_s: float) -> list[str]:
        return [delivery.site for delivery in self.announcer.due(now_s)]

    def answer(self, now_s: float, answer: Answer) -> None:
        for delivery in self.announcer.due(now_s):
            self.announcer.record(delivery, answer, now_s)

    def known(self) -> tuple[str, str] | None:
        return self.store.deliveries(self.store.studies()[0].sha256).get("north")


def test_a_site_is_told_until_it_answers_and_asked_until_its_work_is_done(
    tmp_path: Path, key: Ed25519PrivateKey
) -> None:
    trial = Announced(tmp_path, key)
    trial.answer(0.0, Answer("failed", "unavailable.service"))
    assert (trial.due(1.0), trial.known()) == (["north"], None), "a node that gave no answer is told again at once"
    trial.answer(1.0, Answer("queued"))
    assert (trial.due(2.0), trial.known()) == ([], ("queued", ""))
    assert trial.due(40.0) == ["north"]
    trial.answer(40.0, Answer("refused", "cohort.too-few-patients"))
    assert (trial.due(1000.0), trial.known()) == ([], ("refused", "cohort.too-few-patients"))


def test_an_answer_that_is_no_news_is_not_written_again(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    trial = Announced(tmp_path, key)
    for minute in range(5):
        trial.answer(60.0 * minute, Answer("queued"))
    assert [entry.action for entry in trial.store.journal()].count("study-queued") == 1
