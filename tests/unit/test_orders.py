"""Orders for figures, on both sides of the wire: what fits an arm, what the hospital agreed to, whose answer it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import ConfigRecord, RecordDict
from pydantic import ValidationError

from coordinator.rounds.measure import Order, measure
from shared.documents import canonical, sign
from shared.errors import SynthwardError
from shared.findings import ArmFigures, Comparison, Distribution, Gain, Interval, Measure
from shared.identity import new_signing_key
from shared.messages import Answer, OrderKind, array_record, read_answer, read_finding, request
from shared.metrics import NAMES, Metrics
from shared.orders import ComparisonRequest, DistributionRequest, MeasurementRequest
from shared.pair_arrays import to_arrays
from shared.weights import digest
from site_node.jobs import JobKind, JobState, Queue
from site_node.link.client_app import build_client_app
from site_node.link.orders import take_order
from site_node.policy import Policy
from site_node.settings import Home
from tests.helpers import noise_pair, refused, small_study
from tests.memory_grid import MemoryGrid
from tests.sites import LENIENT, make_site, signed

SHA = "5" * 64
BASE: dict[str, Any] = {"order_id": "m-1", "study_sha256": SHA, "dataset_version": 1, "seed": 0}
FIGURES = Metrics(**dict.fromkeys(NAMES, 0.5))
INTERVALS = {name: Interval(mean=0.5, low=0.4, high=0.6) for name in NAMES}


@pytest.mark.parametrize(
    "order",
    [
        {"arm": "real_own", "weights_sha256": SHA, "trained_on": "north"},
        {"arm": "synthetic_own", "trained_on": "north"},
        {"arm": "synthetic_pooled", "trained_on": "pooled", "weights_sha256": SHA, "pairs_sha256": SHA},
        {"arm": "synthetic_pooled", "weights_sha256": SHA},
        {"arm": "real_and_others", "trained_on": "others", "weights_sha256": SHA},
        {"arm": "real_and_others"},
        {"arm": "few_real"},
        {"arm": "few_synthetic", "n": 0},
        {"arm": "real_own", "seed": -1},
    ],
)
def test_an_order_that_does_not_fit_its_arm_is_none(order: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MeasurementRequest.model_validate({**BASE, **order})


# What a site takes


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return new_signing_key()


@pytest.fixture
def home(tmp_path: Path, key: Ed25519PrivateKey) -> Home:
    return make_site(tmp_path / "north", key)


def taken(home: Home, key: Ed25519PrivateKey, **evaluation: object) -> str:
    """The digest of a study of 32 px that the site has taken."""
    return Queue(home.exchange).take_study(signed(key, small_study(evaluation={"steps": 2, **evaluation}))[0])


def ask(home: Home, key: Ed25519PrivateKey, kind: OrderKind, order: Any, arrays: Any = None) -> Answer:
    payload = canonical(order)
    content = request(payload, sign(key, kind, payload), None if arrays is None else array_record(arrays))
    return take_order(home, Queue(home.exchange), kind, content, key.public_key())


@pytest.mark.parametrize(
    "asked",
    [
        {"arm": "real_own", "seed": 7},
        {"arm": "real_plain"},
        {"arm": "few_real", "n": 6},
    ],
)
def test_arms_seeds_and_numbers_that_the_study_did_not_declare_are_refused(
    home: Home, key: Ed25519PrivateKey, asked: dict[str, Any]
) -> None:
    study = taken(home, key, arms=["real_own", "few_real"], few_cases=[5])
    with refused("policy.arm"):
        ask(home, key, "measurement", MeasurementRequest.model_validate({**BASE, "study_sha256": study, **asked}))
    assert len(Queue(home.exchange).jobs()) == 1


def test_one_seed_after_the_other_is_measured_and_each_once(home: Home, key: Ed25519PrivateKey) -> None:
    study = taken(home, key)
    orders = [
        MeasurementRequest.model_validate(
            {**BASE, "study_sha256": study, "arm": "real_own", "seed": seed, "order_id": i}
        )
        for i, seed in (("m-1", 0), ("m-2", 1), ("m-3", 0))
    ]
    assert [ask(home, key, "measurement", order).about for order in orders] == ["m-1", "m-2", "m-3"]
    assert sum(job.kind is JobKind.MEASURE for job in Queue(home.exchange).jobs()) == 2


def test_pairs_of_others_are_kept_as_the_order_names_them_and_no_others(home: Home, key: Ed25519PrivateKey) -> None:
    study = taken(home, key)
    image = small_study().image
    arrays = to_arrays([noise_pair(1), noise_pair(2)], image)
    order = MeasurementRequest.model_validate(
        {
            **BASE,
            "study_sha256": study,
            "arm": "real_and_others",
            "trained_on": "others",
            "pairs_sha256": digest(arrays),
        }
    )
    other = to_arrays([noise_pair(3)], image)
    with refused("trust.signature"):
        ask(home, key, "measurement", order, other)
    with refused("weights.mismatch"):
        ask(home, key, "measurement", order)
    assert ask(home, key, "measurement", order, arrays) == Answer("queued", about="m-1")
    again = order.model_copy(update={"pairs_sha256": digest(other)})
    with refused("policy.repeated-reading"):
        ask(home, key, "measurement", again, other)


def test_distances_are_the_studys_to_declare_and_the_hospitals_to_limit(tmp_path: Path, key: Ed25519PrivateKey) -> None:
    home = make_site(tmp_path / "wary", key, policy=Policy(**{**LENIENT.model_dump(), "max_measurements": 1}))
    arrays = to_arrays([noise_pair(1)], small_study().image)
    declared = taken(home, key)

    def order(study: str, trained_on: str) -> DistributionRequest:
        return DistributionRequest(
            order_id="m-1", study_sha256=study, dataset_version=1, trained_on=trained_on, pairs_sha256=digest(arrays)
        )

    assert ask(home, key, "distribution", order(declared, "north"), arrays).state == "queued"
    with refused("policy.repeated-reading"):
        ask(home, key, "distribution", order(declared, "pooled"), arrays)
    undeclared = make_site(tmp_path / "other", key)
    study = taken(undeclared, key, distances=False)
    with refused("policy.arm"):
        ask(undeclared, key, "distribution", order(study, "north"), arrays)


def test_an_order_signed_as_another_kind_is_refused(home: Home, key: Ed25519PrivateKey) -> None:
    study = taken(home, key)
    payload = canonical(ComparisonRequest(order_id="m-1", study_sha256=study, dataset_version=1))
    with refused("trust.signature"):
        take_order(
            home, Queue(home.exchange), "comparison", request(payload, sign(key, "measurement", payload)),
            key.public_key(),
        )  # fmt: skip


# What a coordinator takes


def comparison(**changes: Any) -> Comparison:
    values = {
        "study_sha256": SHA, "dataset_version": 1, "reference": "real_own", "patients": 12, "resamples": 2000,
        "arms": [ArmFigures(arm="real_own", seeds=1, figures=INTERVALS)],
    }  # fmt: skip
    return Comparison.model_validate(values | changes)


def distribution(**changes: Any) -> Distribution:
    values = {
        "study_sha256": SHA, "dataset_version": 1, "trained_on": "north", "patients": 12, "images": 30,
        "measures": [Measure(name="kl_intensity", value=0.2, yardstick=0.01)],
    }  # fmt: skip
    return Distribution.model_validate(values | changes)


COMPARISON = ComparisonRequest(order_id="m-1", study_sha256=SHA, dataset_version=1)
DISTRIBUTION = DistributionRequest(
    order_id="m-1", study_sha256=SHA, dataset_version=1, trained_on="north", pairs_sha256=SHA
)


@pytest.mark.parametrize(
    ("order", "kind", "found"),
    [
        (COMPARISON, "comparison", comparison(study_sha256="6" * 64)),
        (COMPARISON, "comparison", comparison(dataset_version=2)),
        (COMPARISON, "comparison", comparison(reference="synthetic_pooled")),
        (COMPARISON, "comparison", distribution()),
        (DISTRIBUTION, "distribution", distribution(trained_on="pooled")),
        (DISTRIBUTION, "distribution", comparison()),
    ],
)
def test_figures_of_something_else_are_refused(order: Any, kind: OrderKind, found: Any) -> None:
    with refused("document.malformed"):
        read_finding(kind, order, Answer("done", document=canonical(found), about="m-1"))


def test_the_right_figures_are_read() -> None:
    for kind, order, found in (
        ("comparison", COMPARISON, comparison()), ("distribution", DISTRIBUTION, distribution()),
    ):  # fmt: skip
        assert read_finding(kind, order, Answer("done", document=canonical(found))) == found  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "spelled",
    [
        canonical(comparison()).replace(b"0.5", b"NaN"),
        canonical(comparison()).replace(b'"mean":0.5', b'"mean":1.5'),
        canonical(comparison()).replace(b'"low":0.4', b'"low":0.7'),
        canonical(comparison()).replace(b'"patients":12', b'"patients":1'),
        canonical(comparison()).replace(b'"seeds":1', b'"names":"Mrs Smith","seeds":1'),
        b"[" * 100_000,
        b"",
    ],
)
def test_figures_out_of_range_or_with_something_more_are_refused(spelled: bytes) -> None:
    with refused("document.malformed"):
        read_finding("comparison", COMPARISON, Answer("done", document=spelled))


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_a_gain_is_beyond_chance_only_where_its_interval_leaves_nothing_out(low: float) -> None:
    assert not Gain(mean=0.1, low=low, high=0.2).beyond_chance
    assert Gain(mean=0.1, low=0.05, high=0.2).beyond_chance
    assert Gain(mean=-0.1, low=-0.2, high=-0.05).beyond_chance


def test_an_arm_may_stand_in_a_comparison_once() -> None:
    with pytest.raises(ValidationError):
        comparison(arms=[ArmFigures(arm="real_own", seeds=1, figures=INTERVALS)] * 2)


@pytest.mark.parametrize("about", ["", "m-2"])
def test_an_answer_to_another_order_is_a_failure(key: Ed25519PrivateKey, home: Home, about: str) -> None:
    class Confused:
        """Answers every order with the figures of another."""

        def __init__(self) -> None:
            self._app = build_client_app(home)

        def __call__(self, message: Any, context: Any) -> Any:
            reply = self._app(message=message, context=context)
            reply.content = Answer("done", "", FIGURES, 12, about).to_content()
            return reply

    study = taken(home, key)
    order = MeasurementRequest.model_validate({**BASE, "study_sha256": study, "arm": "real_own"})
    payload = canonical(order)
    found: dict[str, Answer] = {}
    measure(
        MemoryGrid({7: Confused()}),  # type: ignore[dict-item]
        iter([Order("m-1", "measurement", payload, sign(key, "measurement", payload), None, {"north": 7})]),
        lambda o, _site, a: found.update({o.name: a}),
        timeout_s=0.3,
    )
    assert found == {"m-1": Answer("failed", "document.malformed", about="m-1")}


@pytest.mark.parametrize(
    "answer",
    [
        {"state": "done", "code": "", "patients": 3, "about": "x" * 41, "document": b""},
        {"state": "done", "code": "", "patients": 3, "about": "m-1", "document": "text"},
        {"state": "done", "code": "", "patients": 3, "about": "m-1", "document": bytes(9 * 1024 * 1024)},
        {"state": "done", "code": "", "patients": 3},
        {"state": "finished", "code": "", "patients": 3, "about": "", "document": b""},
    ],
)
def test_an_answer_of_another_shape_is_refused(answer: dict[str, Any]) -> None:
    with pytest.raises(SynthwardError) as caught:
        read_answer(RecordDict({"answer": ConfigRecord(answer)}))
    assert caught.value.code == "document.malformed"


def test_a_finding_comes_back_through_the_queue(home: Home, key: Ed25519PrivateKey) -> None:
    study = taken(home, key)
    order = ComparisonRequest(order_id="m-9", study_sha256=study, dataset_version=1)
    assert ask(home, key, "comparison", order) == Answer("queued", about="m-9")
    queue = Queue(home.exchange)
    job = next(job for job in queue.jobs() if job.kind is JobKind.COMPARE)
    found = comparison(study_sha256=study)
    queue.end(job.job_id, JobState.DONE, result={"document": canonical(found).decode()})
    answer = ask(home, key, "comparison", order)
    assert (answer.state, read_finding("comparison", order, answer)) == ("done", found)
