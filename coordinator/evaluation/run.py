"""Runs an evaluation of one dataset version, and reads its results as a matrix."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar, cast

from coordinator.datasets.build import load
from coordinator.evaluation.arms import Evaluation, Progress, orders, record
from coordinator.rounds.flower_run import flower_run
from coordinator.rounds.measure import measure
from coordinator.service import superlink
from coordinator.settings import Home
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Measurement, Store
from shared.identity import load_signing_key

Item = TypeVar("Item")
_PATIENCE_S = 3.0


def evaluate(home: Home, study_name: str, version: int, progress: Progress, *, timeout_s: float) -> list[Measurement]:
    """Trains and measures what is still missing; all its answers. Raises study.*, dataset.*, unavailable.*."""
    store, objects = Store(home.database_url()), ObjectStore(home.objects_url())
    published = store.study(study_name)
    version, dataset = load(store, published.sha256, version)
    evaluation = Evaluation(
        store=store,
        objects=objects,
        key=load_signing_key(home.keys / "signing.key"),
        folder=home.path / "evaluation" / published.sha256[:16],
        study=published.study,
        study_sha256=published.sha256,
        version=version,
        dataset=dataset,
        sites=[site for site in store.sites() if site.state == "active"],
        progress=progress,
    )
    with flower_run(superlink(home)) as (grid, _context):
        measure(grid, ahead(orders(evaluation)), record(evaluation), timeout_s=timeout_s)
    return store.measurements(published.sha256, version)


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


def matrix(found: Sequence[Measurement]) -> dict[str, dict[str, Measurement]]:
    """trained on -> tested at -> answer; the row of real_own is called "own real"."""
    rows: dict[str, dict[str, Measurement]] = defaultdict(dict)
    for answer in found:
        rows[answer.trained_on or "own real"][answer.site] = answer
    return dict(rows)
