"""The arms of an evaluation: which networks are trained on what, and who scores them.

Weights that were trained on synthetic pairs go out to every site; `real_own` is trained at each site and stays there.
Networks are trained one at a time, and kept as files, so that a restart neither trains nor asks twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from coordinator.datasets.build import Dataset, read_pair
from coordinator.rounds.measure import Order
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Measurement, Site, Store
from shared.documents import canonical, sign
from shared.files import private_folder
from shared.messages import Answer
from shared.pairs import LazyPairs, sha256_hex
from shared.segmenter import to_arrays
from shared.segmenter_training import train
from shared.study import Arm, MeasurementRequest, Study
from shared.weights import digest, load_arrays, pack, save_arrays

POOLED = "pooled"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """Everything that stays the same over the arms of one dataset version."""

    store: Store
    objects: ObjectStore
    key: Ed25519PrivateKey
    folder: Path
    study: Study
    study_sha256: str
    version: int
    dataset: Dataset
    sites: Sequence[Site]
    progress: Progress


@dataclass(frozen=True)
class _Asked:
    arm: Arm
    trained_on: str | None


def orders(evaluation: Evaluation) -> Iterator[Order]:
    """The signed orders, each as soon as its network is trained; sites that have answered are left out."""
    arms = evaluation.study.evaluation.arms
    asked: list[_Asked] = []
    if "real_own" in arms:
        asked.append(_Asked("real_own", None))  # first: the sites train while we do
    if "synthetic_own" in arms:
        asked += [_Asked("synthetic_own", site) for site in sorted(evaluation.dataset.privacy)]
    if "synthetic_pooled" in arms:
        asked.append(_Asked("synthetic_pooled", POOLED))
    answered = {
        (m.arm, m.trained_on, m.site)
        for m in evaluation.store.measurements(evaluation.study_sha256, evaluation.version)
        if m.metrics is not None
    }
    for item in asked:
        sites = {
            site.name: site.node_id
            for site in evaluation.sites
            if (item.arm, item.trained_on, site.name) not in answered
        }
        if sites:
            yield _order(evaluation, item, sites)


def _order(evaluation: Evaluation, item: _Asked, sites: dict[str, int]) -> Order:
    weights = None if item.trained_on is None else _weights(evaluation, item.trained_on)
    name = sha256_hex(f"{evaluation.study_sha256}/{evaluation.version}/{item.arm}/{item.trained_on}".encode())
    request = MeasurementRequest(
        measurement_id=f"m-{name[:32]}",
        study_sha256=evaluation.study_sha256,
        dataset_version=evaluation.version,
        arm=item.arm,
        trained_on=item.trained_on,
        weights_sha256=None if weights is None else digest(weights),
    )
    payload = canonical(request)
    return Order(request.measurement_id, payload, sign(evaluation.key, "measurement", payload), weights, sites)


def _weights(evaluation: Evaluation, trained_on: str) -> dict[str, NDArray[Any]]:
    path = private_folder(evaluation.folder) / f"v{evaluation.version}-{trained_on}.safetensors"
    if not path.exists():
        lines = evaluation.dataset.pairs if trained_on == POOLED else evaluation.dataset.of_site(trained_on)
        pairs = LazyPairs(lines, lambda line: read_pair(evaluation.objects, line))
        spec, image = evaluation.study.evaluation, evaluation.study.image
        model = train(pairs, spec, image, on_step=lambda done, of: evaluation.progress(trained_on, done, of))
        save_arrays(path, pack(to_arrays(model)))
    return load_arrays(path)


def record(evaluation: Evaluation) -> Callable[[Order, str, Answer], None]:
    """Writes a site's final answer into the store."""

    def write(order: Order, site: str, answer: Answer) -> None:
        request = MeasurementRequest.model_validate_json(order.document)
        evaluation.store.add_measurement(
            evaluation.study_sha256,
            Measurement(
                measurement_id=order.name,
                dataset_version=evaluation.version,
                arm=request.arm,
                trained_on=request.trained_on,
                site=site,
                code=answer.code,
                metrics=answer.metrics,
                patients=answer.patients if answer.metrics else None,
            ),
        )

    return write
