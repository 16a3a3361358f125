"""Runs an evaluation of one dataset version: measurements, then comparisons and distances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar, cast

from coordinator.datasets.build import load
from coordinator.evaluation.answers import mean_of
from coordinator.evaluation.arms import measurements, missing, record_measurement
from coordinator.evaluation.cells import Key
from coordinator.evaluation.comparing import comparisons, distributions, record_finding
from coordinator.evaluation.evaluation import Evaluation, Progress, evaluation_folder
from coordinator.rounds.flower_run import flower_run
from coordinator.rounds.measure import Order, measure
from coordinator.service import superlink
from coordinator.settings import Home
from coordinator.store.findings import Finding, findings
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Measurement, Store
from shared.identity import load_signing_key
from shared.messages import Answer
from shared.settings_files import named

Item = TypeVar("Item")
_PATIENCE_S = 3.0


def evaluate(
    home: Home, study_name: str, version: int, progress: Progress, *, timeout_s: float
) -> tuple[list[Measurement], list[Finding]]:
    """Trains, measures and compares what is still missing; all answers. Raises study.*, dataset.*, unavailable.*."""
    evaluation = prepare(home, study_name, version, progress)
    store, sha256, version = evaluation.store, evaluation.study_sha256, evaluation.version
    with flower_run(superlink(home)) as (grid, _context):
        rounds = (
            ("networks scored", missing(evaluation), ahead(measurements(evaluation))),
            ("sites compared", len(evaluation.sites), comparisons(evaluation)),
            ("distances measured", 2 * len(evaluation.sites), distributions(evaluation)),
        )
        for what, at_most, orders in rounds:
            measure(grid, orders, recorder(evaluation, what, at_most), timeout_s=timeout_s)
    return store.measurements(sha256, version), findings(store, sha256, version)


def prepare(home: Home, study_name: str, version: int, progress: Progress) -> Evaluation:
    """What an evaluation needs, from the coordinator's folder. Raises study.unknown, dataset.unknown or .revoked."""
    store, objects = Store(home.database_url()), ObjectStore(home.objects_url())
    published = store.study(study_name)
    version, dataset = load(store, published.sha256, version)
    return Evaluation(
        store=store,
        objects=objects,
        key=load_signing_key(home.keys / "signing.key"),
        folder=evaluation_folder(home, published.sha256),
        study=published.study,
        study_sha256=published.sha256,
        version=version,
        dataset=dataset,
        sites=[site for site in store.sites() if site.state == "active"],
        progress=progress,
        encoder_weights=named(home.settings().encoder_weights),
    )


def recorder(evaluation: Evaluation, what: str, at_most: int) -> Callable[[Order, str, Answer], None]:
    """Writes each final answer where its kind of order belongs, and tells how many there are of at_most."""
    told = 0

    def write(order: Order, site: str, answer: Answer) -> None:
        nonlocal told
        told += 1
        evaluation.progress(what, told, max(told, at_most))
        if order.kind == "measurement":
            record_measurement(evaluation, order, site, answer)
        else:
            record_finding(evaluation, order.kind, order, site, answer)

    return write


def mean_iou(measured: Sequence[Measurement]) -> dict[Key, dict[str, float]]:
    """(arm, trained on, n) -> site -> mean over the seeds that were measured there."""
    sites = sorted({m.site for m in measured})
    own = {site: [m for m in measured if m.site == site] for site in sites}
    found = {}
    for key in dict.fromkeys((m.arm, m.trained_on, m.n) for m in measured):
        means = {site: mean_of(key, site, own[site]).metrics for site in sites}
        found[key] = {site: metrics.iou for site, metrics in means.items() if metrics is not None}
    return found


def ahead(items: Iterator[Item], *, patience_s: float = _PATIENCE_S) -> Iterator[Item | None]:
    """The same items, the next one made in a thread while the last is used: a network trains while one travels.

    Yields None each time that the next item has not come within patience_s.
    """
    with ThreadPoolExecutor(1) as pool:
        nothing = object()
        coming = pool.submit(next, items, nothing)
        while True:
            wait([coming], timeout=patience_s)
            if not coming.done():
                yield None
                continue
            item = coming.result()
            if item is nothing:
                return
            coming = pool.submit(next, items, nothing)
            yield cast(Item, item)
