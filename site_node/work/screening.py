"""The screening within a release job: made and tried out before anything is trained, concluded when all is drawn.

Every audit is written to private/audits, also one that blocks: the steward must be able to see why.

In mode dp (rules that drop nothing) it only finds: no verdict ends the job, and what the manifest says of it does not
depend on a real image, since a bit that does would be a reading without noise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import torch

from shared.bundle import AuditSummary, RejectionReason
from shared.errors import SynthwardError
from shared.files import private_folder, write_private
from shared.pairs import LazyPairs, Pair
from shared.study import ImageSpec
from site_node.cases import Case
from site_node.policy import ScreeningRules
from site_node.screening.embedding import Embedding
from site_node.screening.reference import RealCase, Reference, build_reference
from site_node.screening.report import AuditReport, Control
from site_node.screening.screen import Screening
from site_node.screening.verdict import audit, missed
from site_node.text.reader import TextReader

# Reasons that a sample alone is enough for, and the study's limits: no real image has a say in them.
DATA_FREE: frozenset[RejectionReason] = frozenset({"mask-empty", "mask-full", "implausible", "text", "duplicate"})
FINDINGS_ONLY = (
    "mode dp: nothing was dropped or blocked for what real images show, and none of it leaves; it is for the steward's "
    "eyes, and the choice to let the release out is not covered by its epsilon"
)
CONTROL_CASES = 20  # training cases that are planted, in each kind of copy


@dataclass(frozen=True)
class ToScreen:
    """seed: which cases are planted and how. weights: of a network for the embedding, or None."""

    release_id: str
    folder: Path
    training: list[RealCase]
    holdout: list[RealCase]
    rules: ScreeningRules
    max_correlation: float
    weights: Path | None
    seed: int


@dataclass(frozen=True)
class Bench:
    """A screening that has found what was planted; where it drops nothing, that was tried out."""

    asked: ToScreen
    reference: Reference
    screening: Screening
    controls: tuple[Control, ...]

    def conclude(
        self, released: Collection[str], seconds: Mapping[str, float], set_aside: Mapping[str, str],
        critic: Callable[[Sequence[Pair]], list[float]] | None = None,
    ) -> AuditReport:  # fmt: skip
        """The audit, written down. Raises screening.*: then nothing may leave. Where nothing drops, it never does.

        released: digests of images; critic: scores real pairs, see Source.critic_scores.
        """
        self.screening.keep(released)
        real = (*self.asked.training, *self.asked.holdout)
        scores = critic(LazyPairs(real, lambda case: case.load())) if critic else []
        report, error = audit(
            self.screening, self.reference, self.asked.rules, self.controls,
            seconds={stage: round(took, 2) for stage, took in seconds.items()}, set_aside=set_aside,
            critic_scores=scores,
        )  # fmt: skip
        if not self.asked.rules.drops:
            report, error = report.model_copy(update={"why": (*report.why, FINDINGS_ONLY)}), None
        path = private_folder(self.asked.folder / "audits") / f"{self.asked.release_id}.json"
        write_private(path, report.model_dump_json(indent=1).encode())
        if error:
            raise SynthwardError(error.code, error.what, why=error.why, do=f"{error.do}; the audit is in {path}")
        return report


def told_outside(report: AuditReport, *, drops: bool) -> AuditSummary:
    """What the manifest says of an audit. drops False: counts of the checks that read no real image, and no verdict.

    Then `inconclusive` is a constant, and none was planted: what controls found rests on real images too.
    """
    if drops:
        return report.summary()
    if not report.rejected.keys() <= DATA_FREE:
        raise ValueError("a sample was dropped for what real images show")
    return AuditSummary(
        verdict="inconclusive", sampled=report.sampled, accepted=report.accepted, rejected=report.rejected, planted=0,
        planted_found=0,
    )  # fmt: skip


def screening_pool(threads: int) -> Executor:
    """Threads for the checks, which spend their time outside the interpreter. threads: 0 for all cores."""
    return ThreadPoolExecutor(threads or os.cpu_count() or 1, initializer=_alone)


def _alone() -> None:
    """One thread for each check: as many samples are compared at once as there are threads."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def real_cases(cases: Iterable[Case], image: ImageSpec) -> list[RealCase]:
    """Cases as the screening reads them, at the study's size."""
    return [RealCase(case.case_id, case.patient, partial(case.load_for, image)) for case in cases]


def check_means(weights: Path | None) -> None:
    """Raises style.weights-* or text.models-missing where the site lacks what a screening needs; reads no case.

    For who has to know before anything is spent. weights: as in ToScreen.
    """
    Embedding(weights)
    TextReader()


def prepare_screening(asked: ToScreen, pool: Executor, progress: Callable[[int, int], None]) -> Bench:
    """Compares the cohort with itself and plants copies. Raises screening.control-missed and style.weights-*."""
    reference = build_reference(
        asked.training, asked.holdout, max_correlation=asked.max_correlation, weights=asked.weights, pool=pool,
        progress=progress,
    )  # fmt: skip
    screening = Screening(reference, asked.rules, pool)
    rng = np.random.default_rng(asked.seed)
    count = min(CONTROL_CASES, len(asked.training))
    real = [asked.training[place].load() for place in rng.permutation(len(asked.training))[:count]]
    others = [asked.holdout[place].load() for place in rng.permutation(len(asked.holdout))[:count]]
    controls = screening.plant(real, list(islice(cycle(others), count)), asked.seed)
    bench = Bench(asked, reference, screening, controls)
    if missed(controls) and asked.rules.drops:
        bench.conclude((), {}, {})
    return bench
