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
from shared.pairs import Pair, check_mask, sha256_hex
from shared.png import encode_png
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
)
from site_node.screening.vectors import Vectors
from site_node.text.reader import TextReader

DATE_KIND = "date-burned-in"
_NEAREST_SHOWN = 6


@dataclass(frozen=True)
class _Dropped:
    """A sample that may not pass. flag: the check whose limit it passed."""

    reason: RejectionReason
    flag: CheckName | None = None


@dataclass(frozen=True)
class _Passed:
    """A sample that may, if it is no duplicate. name: its image's digest. flag: only where the checks drop nothing."""

    name: str
    flag: CheckName | None
    scores: dict[CheckName, Nearness]
    views: Vectors


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
        return [self._settle(found) for found in self._pool.map(self._look, pairs)]

    def _look(self, pair: Pair) -> _Dropped | _Passed:
        check_mask(pair.mask)
        if not pair.mask.any():
            return _Dropped("mask-empty")
        if pair.mask.all():
            return _Dropped("mask-full")
        if not mask_is_plausible(pair.mask, self._rules.masks):
            return _Dropped("implausible")
        if self._rules.drops and not self._reference.ranges.hold(statistics(pair.image)):
            return _Dropped("implausible")
        compared = self._reference.compare(pair, until_flagged=self._rules.drops)
        flag = self._reference.flagged(compared.scores)
        if flag is not None and self._rules.drops:
            return _Dropped(REASON_OF[flag], flag)
        # Reading comes last: it costs the most, and what it reads is nobody's unless a copy has passed.
        if self._reader.has_text(pair.image):
            return _Dropped("text", flag)
        return _Passed(sha256_hex(encode_png(pair.image)), flag, compared.scores, compared.views)

    def _settle(self, found: _Dropped | _Passed) -> RejectionReason | None:
        self.sampled += 1
        if found.flag is not None:
            self._flagged[found.flag] += 1
        if isinstance(found, _Passed) and found.name in self._seen:
            found = _Dropped("duplicate")
        if isinstance(found, _Dropped):
            self.rejected[found.reason] += 1
            return found.reason
        self._seen.add(found.name)
        self._accepted.append((found.name, found.scores))
        self._attack.add(found.views)
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
        return self._reference.flagged(self._reference.compare(pair, until_flagged=True).scores) is not None

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
            samples=Quantiles.of(scores),
            between_patients=Quantiles.of(holdout),
            histogram=Histogram.of(scores, holdout),
            nearest=tuple(nearest),
        )

    def attack(self, limit: float | None) -> Attack:
        """The membership attack on what was accepted so far. limit: of the area's interval, None where it has none."""
        return self._attack.result(limit)

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


def _control(kind: str, found: Sequence[bool], by_pixel: Sequence[bool], floor: float) -> Control:
    n = len(found)
    return Control(
        kind=kind, found=Share.of(sum(found), n), floor=floor, by_nearest_pixel=Share.of(sum(by_pixel), n)
    )  # fmt: skip
