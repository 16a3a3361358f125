"""The screening of a release's samples, a batch at a time, as they are drawn.

In audited mode a flagged sample is dropped and another is drawn. With differential privacy the checks only report:
a choice that rests on real images would be one more release of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from shared.bundle import RejectionReason
from shared.pairs import Pair, check_mask, encode_png, sha256_hex
from site_node.policy import ScreeningRules
from site_node.screening.controls import PARTS, PLANTED, with_date
from site_node.screening.interface import Nearness
from site_node.screening.membership import DistanceAttack, copying_z
from site_node.screening.outlines import SAME
from site_node.screening.plausibility import mask_is_plausible, statistics
from site_node.screening.reference import DROPPING, Reference, share_above
from site_node.screening.report import (
    REASON_OF,
    Attack,
    CheckName,
    CheckResult,
    Control,
    Histogram,
    Near,
    Quantiles,
    Share,
)  # fmt: skip
from site_node.text.reader import TextReader

DATE_KIND = "date-burned-in"
_NEAREST_SHOWN = 6
_BINS = 24


@dataclass(frozen=True)
class _Seen:
    """What was found in one sample. flag: the check whose limit it passed."""

    reason: RejectionReason | None
    flag: CheckName | None
    scores: dict[CheckName, Nearness]


class Screening:
    """Judges samples against a reference, and keeps what the report needs."""

    def __init__(self, reference: Reference, rules: ScreeningRules, pool: Executor) -> None:
        self._reference = reference
        self._rules = rules
        self._pool = pool
        self._reader = TextReader()
        self._seen: set[str] = set()
        self._accepted: list[tuple[str, dict[CheckName, Nearness]]] = []
        everybody = (*reference.training, *reference.holdout)
        self._attack = DistanceAttack(reference.views, len(reference.training), [case.patient for case in everybody])
        self._flagged: Counter[CheckName] = Counter()
        self.rejected: Counter[RejectionReason] = Counter()
        self.sampled = 0

    @property
    def accepted(self) -> int:
        """How many samples passed."""
        return len(self._accepted)

    def judge(self, pairs: Sequence[Pair]) -> list[RejectionReason | None]:
        """Why each sample may not be released, or None. Raises pairs.mask-not-binary: that would be our own mistake."""
        return [self._settle(pair, seen) for pair, seen in zip(pairs, self._pool.map(self._look, pairs), strict=True)]

    def _look(self, pair: Pair) -> _Seen:
        check_mask(pair.mask)
        if not pair.mask.any():
            return _Seen("mask-empty", None, {})
        if pair.mask.all():
            return _Seen("mask-full", None, {})
        if not mask_is_plausible(pair.mask, self._rules.masks):
            return _Seen("implausible", None, {})
        if self._rules.drops and not self._reference.ranges.hold(statistics(pair.image)):
            return _Seen("implausible", None, {})
        scores = self._reference.scores(pair)
        flag = self._reference.flagged(scores)
        if flag is not None and self._rules.drops:
            return _Seen(REASON_OF[flag], flag, scores)
        # Reading comes last: it costs the most, and what it reads is nobody's unless a copy has passed.
        return _Seen("text" if self._reader.has_text(pair.image) else None, flag, scores)

    def _settle(self, pair: Pair, seen: _Seen) -> RejectionReason | None:
        self.sampled += 1
        if seen.flag is not None:
            self._flagged[seen.flag] += 1
        reason = seen.reason
        name = sha256_hex(encode_png(pair.image))
        if reason is None and name in self._seen:
            reason = "duplicate"
        if reason is not None:
            self.rejected[reason] += 1
            return reason
        self._seen.add(name)
        self._accepted.append((name, seen.scores))
        self._attack.add(self._reference.embedding.describe(pair))
        return None

    def plant(self, real: Sequence[Pair], others: Sequence[Pair], seed: int) -> tuple[Control, ...]:
        """Plants copies of real training cases and counts those that are found.

        real: training cases; others: hold-out cases, as many, whose content some copies need; seed: of positions.
        """
        rng = np.random.default_rng(seed)
        controls = []
        for kind, make in PLANTED.items():
            copies = [make(pair, other, rng) for pair, other in zip(real, others, strict=True)]
            floor = self._rules.part_control_floor if kind in PARTS else self._rules.control_floor
            found = list(self._pool.map(self._is_found, copies))
            by_pixel = [
                self._reference.pixels.nearness(copy.image) > self._reference.pixel_limit for copy in copies
            ]  # fmt: skip
            controls.append(_control(kind, found, by_pixel, floor))
        dated = [with_date(pair, rng) for pair in others]
        read = list(self._pool.map(lambda pair: self._reader.has_text(pair.image), dated))
        controls.append(_control(DATE_KIND, read, [False] * len(dated), self._rules.control_floor))
        return tuple(controls)

    def _is_found(self, pair: Pair) -> bool:
        return self._reference.flagged(self._reference.scores(pair)) is not None

    def keep(self, released: Collection[str]) -> None:
        """Forgets accepted samples that the release has no room for. released: digests of the images that it has."""
        self._accepted = [sample for sample in self._accepted if sample[0] in released]

    def checks(self) -> tuple[CheckResult, ...]:
        """Each check's result over what was accepted so far."""
        return tuple(self._result(name) for name in self._reference.checks)

    def _result(self, name: CheckName) -> CheckResult:
        reference = self._reference
        scores = [found[name].score for _, found in self._accepted]
        holdout = reference.holdout_scores[name]
        order = sorted(range(len(scores)), key=lambda place: -scores[place])[:_NEAREST_SHOWN]
        nearest = []
        for place in order:
            sample, found = self._accepted[place]
            case = found[name].place
            if case is not None:
                case_id = reference.training[case].case_id
                nearest.append(Near(sample=sample, case_id=case_id, score=round(found[name].score, 4)))
        return CheckResult(
            name=name,
            drops=self._rules.drops and name in DROPPING,
            limit=round(min(reference.limits[name], 1e6), 4),
            dropped=self._flagged[name],
            samples=quantiles(scores),
            between_patients=quantiles(holdout),
            histogram=_histogram(scores, holdout),
            nearest=tuple(nearest),
        )

    def attack(self) -> Attack:
        """The membership attack on what was accepted so far."""
        limit = self._rules.max_membership_auc
        return self._attack.result(limit if len(self.holdout_patients()) >= self._rules.min_holdout_patients else None)

    def nearer_to_training(self) -> Share:
        """Of what was accepted so far, by the embedding."""
        return self._attack.nearer_to_training()

    def copying_z(self) -> float:
        """Meehan et al.'s Z of what was accepted so far, by whole images."""
        return copying_z(
            [found["whole"].score for _, found in self._accepted], self._reference.holdout_scores["whole"]
        )  # fmt: skip

    def mask_copies(self) -> tuple[Share, Share]:
        """Accepted samples, and hold-out cases, whose outline is a training case's."""
        samples = [found["mask"].score for _, found in self._accepted]
        return share_above(samples, SAME), share_above(self._reference.holdout_scores["mask"], SAME)

    def holdout_patients(self) -> set[str]:
        """Whose cases the limits rest on."""
        return {case.patient for case in self._reference.holdout}


def _control(kind: str, found: Sequence[bool], by_pixel: Sequence[bool], floor: float) -> Control:
    n = len(found)
    return Control(
        kind=kind, found=Share.of(sum(found), n), floor=floor, by_nearest_pixel=Share.of(sum(by_pixel), n)
    )  # fmt: skip


def quantiles(values: Sequence[float]) -> Quantiles:
    """Of values; zeros for none."""
    if not values:
        return Quantiles(n=0, low=0.0, median=0.0, p95=0.0, high=0.0)
    low, median, p95, high = (round(float(q), 4) for q in np.quantile(values, (0.0, 0.5, 0.95, 1.0)))
    return Quantiles(n=len(values), low=low, median=median, p95=p95, high=high)


def _histogram(samples: Sequence[float], holdout: Sequence[float]) -> Histogram:
    both = np.asarray([*samples, *holdout], np.float64)
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    edges = np.linspace(low, max(high, low + 1e-3), _BINS + 1)
    return Histogram(
        edges=tuple(round(float(edge), 5) for edge in edges),
        samples=tuple(int(count) for count in np.histogram(samples, edges)[0]),
        between_patients=tuple(int(count) for count in np.histogram(holdout, edges)[0]),
    )
