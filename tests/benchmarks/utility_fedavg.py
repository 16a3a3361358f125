"""What a user would choose instead: the same UNet++ by Flower's own FedAvg, with and without its central privacy.

Flower's strategy runs its own rounds; only the network between server and clients is left out. Weights trained on real
images leave a hospital in every round, so this stands in a benchmark on public data and nowhere in the product.

Under Flower's central privacy the unit is a hospital, and the noise is that of `clip` by the number of hospitals: with
two it either drowns the network or bounds nothing. Both are there, with their epsilon.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg, Strategy
from numpy.typing import NDArray

from shared.pairs import Pair
from shared.segmenter import Segmenter, build, from_arrays, to_arrays
from shared.segmenter_training import train
from shared.study import EvaluationSpec, ImageSpec
from site_node.dp.accountant import epsilon
from site_node.dp.events import GaussianRelease
from tests.memory_grid import MemoryGrid

DELTA = 1e-2  # of two hospitals: "1 / number of units" would already be a half
_COUNTER = "num_batches_tracked"  # int64, which an average would make a fraction
_SMALLEST_VARIANCE = 1e-5


@dataclass(frozen=True)
class Federation:
    """How often weights are averaged, and the noise. noise: Flower's noise_multiplier, None without privacy; clip: L2
    norm of a hospital's change of all weights in a round."""

    rounds: int = 5
    noise: float | None = None
    clip: float = 10.0

    @property
    def label(self) -> str:
        """What the arm is called."""
        return "fedavg" if self.noise is None else f"fedavg dp noise {self.noise:g}"

    @property
    def epsilon(self) -> float:
        """What all rounds together spend for one hospital at DELTA; infinite without noise."""
        if self.noise is None:
            return float("inf")
        # Every hospital is in every round, so each round is a Gaussian release of one hospital's clipped change.
        return epsilon([GaussianRelease(self.noise)] * self.rounds, DELTA).rdp


def federated(
    federation: Federation, cohorts: Sequence[Sequence[Pair]], spec: EvaluationSpec, image: ImageSpec, *, seed: int
) -> Segmenter:
    """The averaged network after all rounds. cohorts: of each hospital.

    All hospitals together take spec.steps optimiser steps, as every other arm does. Raises training.diverged and
    weights.mismatch where noise has drowned the network.
    """
    logging.getLogger("flwr").setLevel(logging.ERROR)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        first = to_arrays(build(spec, image))
    # Flower draws its noise from numpy's global generator.
    np.random.seed(seed)
    steps = max(1, spec.steps // (federation.rounds * len(cohorts)))

    def network(arrays: ArrayRecord) -> Segmenter:
        """The network with these weights, where noise may have made a variance negative."""
        found = dict(first)
        for name, array in arrays.items():
            values = array.numpy()
            found[name] = np.maximum(values, np.float32(_SMALLEST_VARIANCE)) if name.endswith("running_var") else values
        return from_arrays(found, spec, image)

    def hospital(place: int) -> ClientApp:
        app = ClientApp()

        @app.train()
        def of_a_round(message: Message, _: Context) -> Message:
            this_round = message.content.config_records["config"]["server-round"]
            assert isinstance(this_round, int)
            begun = network(message.content.array_records["arrays"])
            drawn = 1_000 * seed + 10 * this_round + place
            trained = train(cohorts[place], spec, image, seed=drawn, start=begun, steps=steps)
            # Equal weights for all: the noise is that of equal ones.
            answer = RecordDict({"arrays": _record(to_arrays(trained)), "metrics": MetricRecord({"num-examples": 1.0})})
            return Message(answer, reply_to=message)

        return app

    strategy: Strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=len(cohorts), min_available_nodes=len(cohorts))
    if federation.noise is not None:
        strategy = DifferentialPrivacyServerSideFixedClipping(strategy, federation.noise, federation.clip, len(cohorts))
    grid = _Hospitals({1 + place: hospital(place) for place in range(len(cohorts))})
    return network(strategy.start(grid, _record(first), num_rounds=federation.rounds).arrays)


class _Hospitals(MemoryGrid):
    """Hospitals in this process: a message is answered where it is sent."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return list(self.pull_messages(self.push_messages(messages)))


def _record(arrays: dict[str, NDArray[Any]]) -> ArrayRecord:
    """What travels: everything but counters."""
    return ArrayRecord({name: Array(array) for name, array in arrays.items() if not name.endswith(_COUNTER)})
