"""A small cohort of drawn patients to screen against, made once for the tests that need one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from functools import cache

from shared.pairs import Pair
from shared.study import MaskLimits
from site_node.phantoms.scenes import Look, scene
from site_node.policy import ScreeningRules
from site_node.screening.reference import RealCase, Reference, build_reference
from site_node.work.screening import screening_pool

SIZE_PX = 64
LOOK: Look = "endoscopy_warm"
TRAINING = [scene(LOOK, seed, SIZE_PX) for seed in range(16)]
HOLDOUT = [scene(LOOK, seed, SIZE_PX) for seed in range(100, 112)]
STRANGERS = [scene(LOOK, seed, SIZE_PX) for seed in range(200, 212)]
RULES = ScreeningRules(
    control_floor=0.9, part_control_floor=0.7, min_holdout_patients=10, inconclusive_because="",
    max_membership_auc=1.0, masks=MaskLimits(),
)  # fmt: skip


def real_cases(pairs: list[Pair], side: str) -> list[RealCase]:
    """A patient for each pair."""
    return [RealCase(f"{side}-{i}", f"patient-{side}-{i}", lambda pair=pair: pair) for i, pair in enumerate(pairs)]


@contextmanager
def pool() -> Iterator[Executor]:
    """Threads for the checks."""
    with screening_pool(1) as executor:
        yield executor


def make_reference(
    executor: Executor, training: list[Pair] = TRAINING, holdout: list[Pair] = HOLDOUT, *, max_correlation: float = 1.0
) -> Reference:
    """A reference over drawn patients."""
    return build_reference(
        real_cases(training, "t"), real_cases(holdout, "h"), max_correlation=max_correlation, weights=None,
        pool=executor, progress=lambda *_: None,
    )  # fmt: skip


@cache
def usual_reference() -> Reference:
    """The one that most tests share: it is made once, and nothing changes it."""
    with pool() as executor:
        return make_reference(executor)
