"""What a network of each arm is trained on at a site, and what chooses its checkpoint. Weights never leave from here.

The checkpoint is chosen on patients of the training side that the network does not learn from: the same ones in every
arm and with every seed. The hold-out, on which the figures are made, is not seen before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from shared.augment import Augmentation
from shared.errors import SynthwardError
from shared.orders import MeasurementRequest
from shared.pair_arrays import from_arrays
from shared.pairs import LazyPairs, Pair
from shared.segmenter import Segmenter, from_packed
from shared.segmenter_training import set_aside, train
from shared.study import Study
from shared.weights import Arrays, digest, load_arrays
from site_node.cases import Case
from site_node.generators.cohort.presets import COHORT_PRESETS
from site_node.generators.cohort.training import train_cohort

FEW_PAIRS = 10  # pairs that are drawn for each of the few cases
_DRAWN_AT_ONCE = 16
_ATTEMPTS = 4
OnStep = Callable[[int, int], None]
_AUGMENTATION: dict[str, Augmentation] = {"real_plain": "none", "real_classical": "classical"}


@dataclass(frozen=True)
class Bench:
    """What every arm at a site starts from.

    training: cases of the training side. seed: the site's own, which no message names. inbox: what came with orders.
    weights: the administrator's encoder file, where the study names one.
    """

    study: Study
    training: Sequence[Case]
    seed: int
    inbox: Path
    weights: Path | None = None


def network(bench: Bench, order: MeasurementRequest, on_step: OnStep) -> Segmenter:
    """The order's network, in evaluation mode. Raises weights.*, pairs.*, storage.damaged, cohort.*, training.*."""
    if order.arm in ("synthetic_own", "synthetic_pooled"):
        return _received(bench, order)
    if order.arm == "few_synthetic":
        drawn = _drawn_from_few(bench, order, on_step)
        # Drawn pairs have no patient: each may stand on either side.
        learnt, chosen_by = set_aside(drawn, [str(place) for place in range(len(drawn))], seed=bench.seed)
        return _trained(bench, order, learnt, chosen_by, on_step)
    cases = _first(bench, order.n) if order.arm == "few_real" and order.n else list(bench.training)
    fit, validation = set_aside(cases, [case.patient for case in cases], seed=bench.seed)
    return _trained(bench, order, _loaded(bench, fit), _loaded(bench, validation), on_step)


def _loaded(bench: Bench, cases: Sequence[Case]) -> Sequence[Pair]:
    return LazyPairs(cases, lambda case: case.load_for(bench.study.image))


def _trained(
    bench: Bench, order: MeasurementRequest, fit: Sequence[Pair], validation: Sequence[Pair], on_step: OnStep
) -> Segmenter:
    spec = bench.study.evaluation
    refined = order.arm == "refined"
    return train(
        fit, spec, bench.study.image,
        seed=order.seed,
        beside=_pairs(bench, order) if order.pairs_sha256 else (),
        start=_received(bench, order) if refined else None,
        steps=spec.steps // 2 if refined else spec.steps,
        augmentation=_AUGMENTATION.get(order.arm, "full"),
        validation=validation,
        weights=bench.weights,
        on_step=on_step,
    )  # fmt: skip


def _received(bench: Bench, order: MeasurementRequest) -> Segmenter:
    """The network that came with the order. Raises storage.damaged, weights.mismatch."""
    return from_packed(arrays_of(bench.inbox, str(order.weights_sha256)), bench.study.evaluation, bench.study.image)


def _pairs(bench: Bench, order: MeasurementRequest) -> Sequence[Pair]:
    return from_arrays(arrays_of(bench.inbox, str(order.pairs_sha256)), bench.study.image)


def arrays_of(inbox: Path, sha256: str) -> Arrays:
    """What came with an order. Raises storage.damaged when it is not what the order named."""
    arrays = load_arrays(inbox / f"{sha256}.safetensors")
    if digest(arrays) != sha256:
        raise SynthwardError(
            "storage.damaged", "what lies in the inbox has changed", do="delete it; the coordinator sends it again"
        )
    return arrays


def _first(bench: Bench, count: int) -> list[Case]:
    """The first cases in an order that is the site's own: 5 of them are among the 10, and so on.

    One case of each patient comes before any second one: few cases shall not be frames of one examination.
    """
    if len(bench.training) < count:
        raise SynthwardError(
            "policy.arm-without-data",
            f"an arm of {count} cases, and there are {len(bench.training)} for training",
            do="nothing: the report says so; import more cases if there are some",
        )
    patients = sorted({case.patient for case in bench.training})
    place = dict(zip(patients, np.random.default_rng(bench.seed).permutation(len(patients)).tolist(), strict=True))
    turns: Counter[str] = Counter()
    ordered = []
    for case in sorted(bench.training, key=lambda case: case.case_id):
        ordered.append((turns[case.patient], place[case.patient], case))
        turns[case.patient] += 1
    return [case for _, _, case in sorted(ordered, key=lambda item: item[:2])[:count]]


def _drawn_from_few(bench: Bench, order: MeasurementRequest, on_step: OnStep) -> list[Pair]:
    """Ten pairs a case from a cohort's generator that sees these few cases and nothing else, and is thrown away."""
    cases = _first(bench, int(order.n or 0))
    preset = COHORT_PRESETS.get(bench.study.generator.preset, COHORT_PRESETS["fast"])
    generator = train_cohort(_loaded(bench, cases), preset, seed=_mixed(bench.seed, order.seed))
    wanted, drawn = FEW_PAIRS * len(cases), list[Pair]()
    for attempt in range(_ATTEMPTS * (-(-wanted // _DRAWN_AT_ONCE))):
        on_step(len(drawn), wanted)
        some = generator.sample(_mixed(bench.seed, order.seed, attempt), _DRAWN_AT_ONCE)
        drawn += [pair for pair in some if pair.mask.any() and not pair.mask.all()]
        if len(drawn) >= wanted:
            break
    return drawn[:wanted]


def _mixed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)
