"""The screening of a release's samples, one by one, as they are drawn.

In audited mode a flagged sample is dropped and another is drawn. The checks know the site's real images through the
bank alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from shared.bundle import RejectionReason
from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels, check_mask, encode_png, sha256_hex
from site_node.screening.controls import PLANTED
from site_node.screening.copies import Bank
from site_node.screening.report import AuditReport, Control, Quantiles

CONTROL_FLOOR = 0.95


class Screening:
    """Judges samples against a bank of real images, and keeps count."""

    def __init__(self, bank: Bank, max_correlation: float) -> None:
        self._bank = bank
        self._limit = max_correlation
        self._seen: set[str] = set()
        self._rejected: Counter[RejectionReason] = Counter()
        self._nearest: list[float] = []
        self.sampled = 0

    def judge(self, pair: Pair) -> RejectionReason | None:
        """Why a sample may not be released, or None. Raises pairs.mask-not-binary: that would be our own mistake."""
        self.sampled += 1
        reason = self._reason(pair)
        if reason is not None:
            self._rejected[reason] += 1
        return reason

    def _reason(self, pair: Pair) -> RejectionReason | None:
        check_mask(pair.mask)
        if not pair.mask.any():
            return "mask-empty"
        if pair.mask.all():
            return "mask-full"
        nearest = self._bank.nearest(pair.image)
        if nearest > self._limit:
            return "copy"
        name = sha256_hex(encode_png(pair.image))
        if name in self._seen:
            return "duplicate"
        self._seen.add(name)
        self._nearest.append(nearest)
        return None

    def controls(self, images: Iterable[Pixels]) -> tuple[Control, ...]:
        """Plants copies of real images and counts those that the copy check finds."""
        planted: Counter[str] = Counter()
        found: Counter[str] = Counter()
        for image in images:
            for kind, make in PLANTED.items():
                planted[kind] += 1
                found[kind] += self._bank.nearest(make(image)) > self._limit
        return tuple(Control(kind=kind, planted=planted[kind], found=found[kind]) for kind in PLANTED)

    def report(
        self,
        controls: tuple[Control, ...],
        between_patients: Sequence[float],
        seconds: dict[str, float],
        set_aside: dict[str, str],
    ) -> AuditReport:
        """The report. Raises screening.control-missed or screening.too-few-accepted: then nothing may leave."""
        missed = [c.kind for c in controls if c.found < CONTROL_FLOOR * c.planted or not c.planted]
        if missed:
            raise SynthwardError(
                "screening.control-missed",
                f"planted copies were not found: {', '.join(missed)}",
                why="a screening that misses what it planted cannot vouch for what it did not",
                do="lower max_correlation in policy.toml, or exclude images that are nearly flat",
            )
        if not self._nearest:
            raise SynthwardError(
                "screening.too-few-accepted",
                f"none of {self.sampled} samples passed: {dict(self._rejected)}",
                do="choose a preset that trains longer, or more samples a case",
            )
        return AuditReport(
            max_correlation=self._limit,
            sampled=self.sampled,
            accepted=len(self._nearest),
            rejected=dict(self._rejected),
            controls=controls,
            samples=quantiles(self._nearest),
            between_patients=quantiles(between_patients),
            seconds=seconds,
            set_aside=set_aside,
        )


def quantiles(values: Sequence[float]) -> Quantiles:
    """Of values; zeros for none."""
    if not values:
        return Quantiles(n=0, low=0.0, median=0.0, p95=0.0, high=0.0)
    low, median, p95, high = (round(float(q), 4) for q in np.quantile(values, (0.0, 0.5, 0.95, 1.0)))
    return Quantiles(n=len(values), low=low, median=median, p95=p95, high=high)
