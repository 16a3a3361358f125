"""The networks that are trained where the dataset is: on synthetic pairs alone, one at a time, and kept as files.

A file is named by what it is trained on, so a restart neither trains again nor asks twice. One network is in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from coordinator.datasets.build import DatasetPair, read_pair
from coordinator.evaluation.evaluation import Evaluation, failures_file
from coordinator.evaluation.failures import failure_sheet
from shared.files import private_folder, write_atomic
from shared.orders import POOLED
from shared.pairs import LazyPairs, sha256_hex
from shared.segmenter import to_arrays
from shared.segmenter_training import set_aside, train
from shared.weights import load_arrays, pack, save_arrays


@dataclass(frozen=True)
class Network:
    """trained_on: a site, or "pooled". n: pairs a case, None for all. half: half the steps, to be refined at a site."""

    trained_on: str
    seed: int
    n: int | None = None
    half: bool = False

    def file(self, version: int) -> str:
        """The name of its file."""
        many = "" if self.n is None else f"-n{self.n}"
        return f"v{version}-{self.trained_on}{many}{'-half' if self.half else ''}-s{self.seed}.safetensors"


def weights_of(evaluation: Evaluation, network: Network) -> dict[str, NDArray[Any]]:
    """The network's weights, packed; trained first if there is no file yet. Raises dataset.empty, training.*."""
    path = private_folder(evaluation.folder) / network.file(evaluation.version)
    if not path.exists():
        _train(evaluation, network, path)
    return load_arrays(path)


def _train(evaluation: Evaluation, network: Network, path: Path) -> None:
    spec, image = evaluation.study.evaluation, evaluation.study.image
    lines = _lines(evaluation, network)
    fit, validation = set_aside(lines, [line.image for line in lines], seed=0)
    loaded = [LazyPairs(part, lambda line: read_pair(evaluation.objects, line)) for part in (fit, validation)]
    label = path.name.removesuffix(".safetensors")
    model = train(
        loaded[0], spec, image,
        seed=network.seed,
        steps=spec.steps // 2 if network.half else spec.steps,
        validation=loaded[1],
        weights=evaluation.encoder_weights,
        on_step=lambda done, of: evaluation.progress(label, done, of),
    )  # fmt: skip
    if network == Network(POOLED, spec.seeds[0]):
        # What the network gets wrong is shown on pairs that nobody's body is in, and that it did not learn from.
        write_atomic(failures_file(evaluation.folder, evaluation.version), failure_sheet(model, loaded[1]))
    save_arrays(path, pack(to_arrays(model)))


def _lines(evaluation: Evaluation, network: Network) -> Sequence[DatasetPair]:
    """The pairs to train on; with n, as many a case as that of all that were drawn, the same ones at every size."""
    dataset = evaluation.dataset
    lines = list(dataset.pairs) if network.trained_on == POOLED else dataset.of_site(network.trained_on)
    if network.n is None:
        return lines
    share = min(1.0, network.n / evaluation.study.generator.samples_per_case)
    return shuffled(lines)[: max(2, round(share * len(lines)))]


def shuffled(lines: Sequence[DatasetPair]) -> list[DatasetPair]:
    """The lines in an order that only their digests decide: any beginning is a fair choice among sites and pairs."""
    return sorted(lines, key=lambda line: sha256_hex(f"{line.image}/{line.mask}".encode()))
