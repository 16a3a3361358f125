"""The coordinator's side of an evaluation: every network once, nothing asked twice, no site paired with nobody."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.datasets.build import Dataset, DatasetPair
from coordinator.evaluation import arms, comparing
from coordinator.evaluation.evaluation import Evaluation
from coordinator.evaluation.networks import Network, weights_of
from coordinator.rounds.measure import Order
from coordinator.store.findings import findings
from coordinator.store.objects import ObjectStore
from coordinator.store.store import PublishedStudy, Site, Store
from shared.bundle import entry
from shared.database import sqlite_url
from shared.documents import canonical
from shared.findings import ArmFigures, Comparison, Interval
from shared.identity import new_signing_key
from shared.messages import ORDERS, Answer
from shared.metrics import NAMES, Metrics
from shared.orders import DistributionRequest, MeasurementRequest
from shared.pair_arrays import from_arrays
from shared.pairs import sha256_hex
from shared.privacy import Access, PrivacyStatement
from shared.weights import digest
from tests.helpers import noise_pair, small_study
from tests.sites import signed

PAIRS_A_SITE = 8
FIGURES = Metrics(**dict.fromkeys(NAMES, 0.5))
TINY = {"steps": 2, "batch_size": 2, "decoder_channels": (8, 8, 8, 8, 8), "seeds": (0, 1)}


def an_evaluation(folder: Path, *, sites: tuple[str, ...] = ("harbour", "north"), **spec: Any) -> Evaluation:
    """A store with one study, these sites, and a dataset of eight pairs of each."""
    store, objects = Store(sqlite_url(folder / "store.db")), ObjectStore(str(folder / "objects"))
    key = new_signing_key()
    study = small_study(evaluation={**TINY, **spec}, generator={"preset": "demo", "samples_per_case": 4})
    payload, signature = signed(key, study)
    store.publish(PublishedStudy(sha256_hex(payload), payload, signature), actor="operator")
    lines = []
    for place, site in enumerate(sites):
        store.invite(site, f"{place}" * 64, timedelta(hours=1), actor="operator")
        store.enrol(f"{place}" * 64, Site(site, "active", f"{place}", bytes([place]) * 32, b"f", place + 1))
        for seed in range(PAIRS_A_SITE):
            line, found = entry(noise_pair(100 * place + seed))
            for name, data in found.items():
                objects.put(name, data)
            lines.append(DatasetPair(site=site, image=line.image, mask=line.mask))
    statement = PrivacyStatement(accesses=(Access(kind="training"),))
    dataset = Dataset(
        study_sha256=sha256_hex(payload), bundles=("1" * 64,), privacy=dict.fromkeys(sites, statement),
        pairs=tuple(sorted(lines, key=lambda line: (line.site, line.image))),
    )  # fmt: skip
    return Evaluation(
        store, objects, key, folder / "evaluation", study, sha256_hex(payload), 1, dataset, store.sites(),
        lambda *_: None,
    )  # fmt: skip


def read(order: Order) -> MeasurementRequest:
    return MeasurementRequest.model_validate_json(order.document)


def answer_all(evaluation: Evaluation) -> list[Order]:
    """Every order is answered with the same figures by everybody."""
    asked = list(arms.measurements(evaluation))
    for order in asked:
        for site in order.sites:
            arms.record_measurement(evaluation, order, site, Answer("done", "", FIGURES, 12, order.name))
    return asked


def test_each_arm_is_ordered_and_its_arrays_are_what_the_order_names(tmp_path: Path) -> None:
    evaluation = an_evaluation(
        tmp_path, arms=("real_own", "synthetic_own", "synthetic_pooled", "real_and_others"), seeds=(0,)
    )
    orders = list(arms.measurements(evaluation))
    asked = sorted((read(o).arm, read(o).trained_on or "", read(o).seed, *sorted(o.sites)) for o in orders)
    everywhere = ("harbour", "north")
    assert asked == sorted(
        [("real_own", "", 0, *everywhere), ("synthetic_pooled", "pooled", 0, *everywhere)]
        + [("synthetic_own", site, 0, *everywhere) for site in everywhere]
        + [("real_and_others", "others", 0, site) for site in everywhere]
    )
    assert len({order.name for order in orders}) == len(orders)
    for order in orders:
        named = read(order).weights_sha256 or read(order).pairs_sha256
        assert (order.arrays is None) == (named is None)
        assert order.arrays is None or digest(order.arrays()) == named


def test_others_pairs_are_those_of_all_but_the_asked(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, sites=("a", "b", "c"), arms=("real_and_others",), seeds=(0,))
    for order in arms.measurements(evaluation):
        assert order.arrays is not None
        (asked,) = order.sites
        sent = {pair.image.tobytes() for pair in from_arrays(order.arrays(), evaluation.study.image)}
        place = {"a": 0, "b": 1, "c": 2}
        own = {noise_pair(100 * place[asked] + seed).image.tobytes() for seed in range(PAIRS_A_SITE)}
        assert len(sent) == 2 * PAIRS_A_SITE
        assert not sent & own


def test_no_more_pairs_travel_than_the_study_says(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("real_and_others",), seeds=(0,), max_pairs_sent=3)
    for order in arms.measurements(evaluation):
        assert order.arrays is not None
        assert len(from_arrays(order.arrays(), evaluation.study.image)) == 3


def test_a_site_that_is_alone_gets_no_others_and_the_record_says_so(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, sites=("north",), arms=("real_and_others",), seeds=(0,))
    assert list(arms.measurements(evaluation)) == []
    (found,) = evaluation.store.measurements(evaluation.study_sha256, 1)
    assert (found.site, found.code, found.metrics) == ("north", "policy.arm-without-data", None)


def test_what_was_answered_is_not_asked_again_and_no_network_is_trained_twice(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("real_own", "synthetic_pooled"))
    assert len(answer_all(evaluation)) == 4
    written = {path.name: path.stat().st_mtime_ns for path in evaluation.folder.iterdir()}
    assert list(arms.measurements(evaluation)) == []
    assert {path.name: path.stat().st_mtime_ns for path in evaluation.folder.iterdir()} == written


def test_an_evaluation_that_was_killed_goes_on_with_the_networks_that_it_has(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("synthetic_own",))
    orders = arms.measurements(evaluation)
    first = [next(orders).name, next(orders).name]
    orders.close()  # killed here: nobody has answered
    trained = {path.name: path.stat().st_mtime_ns for path in evaluation.folder.iterdir()}
    again = list(arms.measurements(evaluation))
    assert [order.name for order in again[:2]] == first
    assert all((evaluation.folder / name).stat().st_mtime_ns == at for name, at in trained.items())
    assert len(again) == 4


def test_fewer_pairs_a_case_are_a_part_of_more(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("synthetic_pooled",), per_case=(1, 2), seeds=(0,))
    from coordinator.evaluation.networks import _lines

    sizes = [_lines(evaluation, Network("pooled", 0, n)) for n in (1, 2, None)]
    assert [len(lines) for lines in sizes] == [4, 8, 16]
    assert set(sizes[0]) < set(sizes[1]) < set(sizes[2])
    assert [read(order).n for order in arms.measurements(evaluation)] == [None, 1, 2]


def test_a_refined_network_is_another_than_the_whole(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("synthetic_pooled", "refined"), seeds=(0,), steps=4)
    whole, half = (weights_of(evaluation, Network("pooled", 0, half=half)) for half in (False, True))
    assert digest(whole) != digest(half)
    assert {path.name for path in evaluation.folder.iterdir()} == {
        "v1-pooled-s0.safetensors", "v1-pooled-half-s0.safetensors", "v1-failures.png",
    }  # fmt: skip


# Comparisons and distances


def test_a_site_is_asked_to_compare_once_for_what_it_has_measured(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("real_own",), seeds=(0, 1))
    assert list(comparing.comparisons(evaluation)) == [], "nothing was measured"
    first = next(iter(arms.measurements(evaluation)))
    arms.record_measurement(evaluation, first, "north", Answer("done", "", FIGURES, 12, first.name))
    (order,) = comparing.comparisons(evaluation)
    assert list(order.sites) == ["north"]
    comparing.record_finding(evaluation, "comparison", order, "north", answer_to(order, comparison(evaluation)))
    assert list(comparing.comparisons(evaluation)) == []
    answer_all(evaluation)
    again = {site for order in comparing.comparisons(evaluation) for site in order.sites}
    assert again == {"harbour", "north"}, "there is more to compare now"


def test_in_mode_dp_nothing_is_compared_and_no_distance_measured(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("synthetic_pooled",), seeds=(0,))
    answer_all(evaluation)
    private = small_study(
        privacy={"mode": "dp", "epsilon": 1.0, "delta": 1e-3}, evaluation={**TINY, "arms": ("synthetic_pooled",)}
    )
    noised = Evaluation(**{**vars(evaluation), "study": private})
    assert list(comparing.comparisons(noised)) == []
    assert list(comparing.distributions(noised)) == []


def test_each_site_measures_its_distance_from_its_own_pairs_and_from_all(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path)
    orders = list(comparing.distributions(evaluation))
    asked = {(*o.sites, DistributionRequest.model_validate_json(o.document).trained_on) for o in orders}
    assert asked == {("harbour", "harbour"), ("harbour", "pooled"), ("north", "north"), ("north", "pooled")}
    for order in orders:
        assert order.arrays is not None
        assert digest(order.arrays()) == DistributionRequest.model_validate_json(order.document).pairs_sha256


def comparison(evaluation: Evaluation, **changes: Any) -> Comparison:
    interval = Interval(mean=0.5, low=0.4, high=0.6)
    values: dict[str, Any] = {
        "study_sha256": evaluation.study_sha256, "dataset_version": 1, "reference": "real_own", "patients": 12,
        "resamples": 2000, "arms": [ArmFigures(arm="real_own", seeds=1, figures=dict.fromkeys(NAMES, interval))],
    }  # fmt: skip
    return Comparison.model_validate(values | changes)


def answer_to(order: Order, found: Comparison) -> Answer:
    return Answer("done", document=canonical(found), about=order.name)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, ""),
        ({"study_sha256": "6" * 64}, "document.malformed"),
        ({"dataset_version": 9}, "document.malformed"),
    ],
)
def test_another_studys_figures_are_written_down_as_a_failure(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    evaluation = an_evaluation(tmp_path, arms=("real_own",), seeds=(0,))
    answer_all(evaluation)
    order = next(iter(comparing.comparisons(evaluation)))
    (site,) = order.sites
    found = comparison(evaluation, **changes)
    comparing.record_finding(evaluation, "comparison", order, site, answer_to(order, found))
    (kept,) = findings(evaluation.store, evaluation.study_sha256, 1)
    assert (kept.code, kept.document is None) == (code, bool(code))


def test_a_later_failure_does_not_take_an_answer_away(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("real_own",), seeds=(0,))
    answer_all(evaluation)
    order = next(iter(comparing.comparisons(evaluation)))
    (site,) = order.sites
    comparing.record_finding(evaluation, "comparison", order, site, answer_to(order, comparison(evaluation)))
    comparing.record_finding(evaluation, "comparison", order, site, Answer("failed", "unavailable.timeout"))
    (kept,) = findings(evaluation.store, evaluation.study_sha256, 1)
    assert kept.document is not None


def test_a_document_in_place_of_metrics_is_no_measurement(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("real_own",), seeds=(0,))
    order = next(iter(arms.measurements(evaluation)))
    arms.record_measurement(evaluation, order, "north", Answer("done", document=b"{}", about=order.name))
    (kept,) = evaluation.store.measurements(evaluation.study_sha256, 1)
    assert (kept.code, kept.metrics) == ("document.malformed", None)


def test_every_kind_of_order_names_its_study_and_version(tmp_path: Path) -> None:
    evaluation = an_evaluation(tmp_path, arms=("real_own",), seeds=(0,))
    orders = (
        answer_all(evaluation) + list(comparing.comparisons(evaluation)) + list(comparing.distributions(evaluation))
    )
    for order in orders:
        request = ORDERS[order.kind].model_validate_json(order.document)
        assert (request.order_id, request.study_sha256, request.dataset_version) == (
            order.name, evaluation.study_sha256, 1,
        )  # fmt: skip
    assert len({order.name for order in orders}) == len(orders)
    assert np.all([len(order.signature) == 64 for order in orders])
