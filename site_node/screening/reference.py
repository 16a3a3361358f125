"""What samples are compared with: the site's training cases, as each check keeps them, and limits from its hold-out.

Made once for a release. Every image is read once, and only what the checks keep of it stays in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.pairs import Pair
from site_node.screening.blocks import Blocks
from site_node.screening.crop import Crops
from site_node.screening.embedding import Embedding
from site_node.screening.features import Features
from site_node.screening.interface import Check, Nearness
from site_node.screening.lesion import Lesions
from site_node.screening.limits import FALSE_ALARMS, false_alarms, limit, limits
from site_node.screening.nearest_pixel import NearestPixel
from site_node.screening.outlines import Outlines
from site_node.screening.plausibility import Ranges, statistics
from site_node.screening.report import CheckName, Share
from site_node.screening.vectors import Vectors
from site_node.screening.whole import WholeImages

DROPPING: tuple[CheckName, ...] = ("lesion", "embedding", "whole", "crop", "features", "blocks")
"""The checks for which a sample is dropped, in the order in which they are asked.

The two that cost next to nothing come first, the dearest at the usual size last; those between change places with size.
A sample counts for the first check that takes it for a copy, so another order would count differently.
"""
_IN_ORDER: tuple[CheckName, ...] = (*DROPPING, "mask")


@dataclass(frozen=True)
class RealCase:
    """A real case as the screening takes it in. load: its pixels at the study's size."""

    case_id: str
    patient: str
    load: Callable[[], Pair]


@dataclass(frozen=True)
class Compared:
    """A pair against the training cases. scores: by check. views: [8, D], its embedding.

    Where the comparison ended at a flag, the checks behind it have no score, and D is 0 if the embedding is of them.
    """

    scores: dict[CheckName, Nearness]
    views: Vectors


@dataclass(frozen=True)
class Reference:
    """checks: fitted. limits: a sample above any of them is a copy. holdout_scores: in the order of holdout.

    false_alarms: of the hold-out, each image judged by limits from other patients. pixel_limit: of the yardstick.
    views: [R, 8, D], the embedding of training and then hold-out cases.
    """

    training: tuple[RealCase, ...]
    holdout: tuple[RealCase, ...]
    checks: dict[CheckName, Check[Any]]
    ranges: Ranges
    holdout_scores: dict[CheckName, list[float]]
    limits: dict[CheckName, float]
    false_alarms: Share
    pixels: NearestPixel
    pixel_limit: float
    embedding: Embedding
    views: Vectors

    @property
    def training_patients(self) -> int:
        """How many patients the training cases are of."""
        return len({case.patient for case in self.training})

    @property
    def holdout_patients(self) -> int:
        """How many patients the limits rest on."""
        return len({case.patient for case in self.holdout})

    def compare(self, pair: Pair, *, until_flagged: bool = False) -> Compared:
        """By every check, in order; until_flagged: no further than to the first one whose limit is passed."""
        scores: dict[CheckName, Nearness] = {}
        views = np.zeros((8, 0), np.float32)
        for name in _IN_ORDER:
            if name == "embedding":  # which is wanted a second time, and costs the most where a network makes it
                views = self.embedding.describe(pair)
                scores[name] = self.embedding.nearest_of(views)
            else:
                scores[name] = self.checks[name].nearest(pair)
            if until_flagged and self.flagged(scores) is not None:
                break
        return Compared(scores, views)

    def scores(self, pair: Pair) -> dict[CheckName, Nearness]:
        """Of a pair, by every check."""
        return self.compare(pair).scores

    def flagged(self, scores: dict[CheckName, Nearness]) -> CheckName | None:
        """The first dropping check whose limit is passed, of those that have a score."""
        return next((name for name in DROPPING if name in scores and scores[name].score > self.limits[name]), None)


def build_reference(
    training: Sequence[RealCase], holdout: Sequence[RealCase], *, max_correlation: float, weights: Path | None,
    pool: Executor, progress: Callable[[int, int], None],
) -> Reference:  # fmt: skip
    """Reads every case once. max_correlation: caps the limits of the checks that correlate images.

    weights: of a network for the embedding, None for the one without. progress: told (cases read, of how many).
    Raises style.weights-missing or style.weights-refused for the weights.
    """
    of = len(training) + len(holdout)
    embedding = Embedding(weights)
    checks = _checks(embedding)
    described: dict[CheckName, list[Any]] = {name: [] for name in checks}
    found, small = [], []

    def describe(case: RealCase) -> tuple[dict[CheckName, Any], Any, Pair]:
        pair = case.load()
        return {name: check.describe(pair) for name, check in checks.items()}, statistics(pair.image), pair

    for place, (kept, measured, pair) in enumerate(pool.map(describe, training), start=1):
        for name, description in kept.items():
            described[name].append(description)
        found.append(measured)
        small.append(NearestPixel.small(pair.image))
        progress(place, of)
    patients = [case.patient for case in training]
    for name, check in checks.items():
        check.fit(described[name], patients)
    pixels = NearestPixel(small)

    def measure(case: RealCase) -> tuple[dict[CheckName, float], float, Vectors]:
        pair = case.load()
        views = embedding.describe(pair)
        by_check = {name: check.nearest(pair).score for name, check in checks.items() if check is not embedding}
        by_check[embedding.name] = embedding.nearest_of(views).score
        return by_check, pixels.nearness(pair.image), views

    scores: dict[CheckName, list[float]] = {name: [] for name in checks}
    nearness: list[float] = []
    views = list(described["embedding"])
    for place, (by_check, pixel, view) in enumerate(pool.map(measure, holdout), start=1):
        for name, score in by_check.items():
            scores[name].append(score)
        nearness.append(pixel)
        views.append(view)
        progress(len(training) + place, of)
    caps: dict[CheckName, float] = {"whole": max_correlation, "crop": max_correlation}
    dropping = {name: scores[name] for name in DROPPING}
    return Reference(
        training=tuple(training),
        holdout=tuple(holdout),
        checks=checks,
        ranges=Ranges.of(found, len(set(patients))),
        holdout_scores=scores,
        limits={**limits(dropping, caps), "mask": limit(scores["mask"], FALSE_ALARMS)},
        false_alarms=false_alarms(dropping, [case.patient for case in holdout], caps),
        pixels=pixels,
        pixel_limit=limit(nearness, FALSE_ALARMS),
        embedding=embedding,
        views=np.stack(views),
    )


def _checks(embedding: Embedding) -> dict[CheckName, Check[Any]]:
    made: Iterable[Check[Any]] = (
        WholeImages(), Crops(), Features(), embedding, Lesions(), Blocks(), Outlines(),
    )  # fmt: skip
    return {check.name: check for check in made}


def share_above(scores: Sequence[float], threshold: float) -> Share:
    """How many scores reach a threshold."""
    return Share.of(int((np.asarray(scores) >= threshold).sum()) if len(scores) else 0, len(scores))
