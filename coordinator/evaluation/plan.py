"""What an evaluation consists of: every network that is measured, by arm, whose pairs, how many, and seed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.orders import OTHERS, POOLED
from shared.study import Arm, EvaluationSpec

# Sites train while networks are trained here, so what they train alone goes out first; what takes them longest, last.
_FIRST: tuple[Arm, ...] = ("real_own",)
_SHARED: tuple[Arm, ...] = ("synthetic_own", "synthetic_pooled", "real_and_others", "refined")
_LAST: tuple[Arm, ...] = ("real_plain", "real_classical", "few_real", "few_synthetic")


@dataclass(frozen=True)
class Asked:
    """One network: everything but who is asked to measure it."""

    arm: Arm
    seed: int
    trained_on: str | None = None
    n: int | None = None


def asked(spec: EvaluationSpec, released: Sequence[str]) -> Iterator[Asked]:
    """Every arm that the study declares with every seed, the seeds of an arm together. released: sites with pairs."""
    for arm in (*_FIRST, *_SHARED, *_LAST):
        if arm in spec.arms:
            for trained_on, n in _variants(arm, spec, released):
                yield from (Asked(arm, seed, trained_on, n) for seed in spec.seeds)


def _variants(arm: Arm, spec: EvaluationSpec, released: Sequence[str]) -> list[tuple[str | None, int | None]]:
    if arm == "synthetic_own":
        return [(site, n) for n in (None, *spec.per_case) for site in sorted(released)]
    if arm == "synthetic_pooled":
        return [(POOLED, n) for n in (None, *spec.per_case)]
    if arm == "real_and_others":
        return [(OTHERS, None)]
    if arm == "refined":
        return [(POOLED, None)]
    if arm in ("few_real", "few_synthetic"):
        return [(None, n) for n in spec.few_cases]
    return [(None, None)]
