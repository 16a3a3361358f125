"""What every step of a release job needs: the study, the cohort, the limits that hold, the ledger, the clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from shared.privacy import AccessKind
from shared.settings_files import named
from shared.study import Study
from site_node.cases import Case, PrivateStore, holdout, ledger, training
from site_node.cohort import Split
from site_node.dp.ledger import record
from site_node.policy import Policy, Terms
from site_node.settings import Settings
from site_node.work.screening import ToScreen, real_cases
from site_node.work.time_left import TrainingProgress


class Progress(Protocol):
    """Told how far a job is; `training` while generators are fitted."""

    def __call__(self, stage: str, done: int, of: int, training: TrainingProgress | None = None) -> None: ...


@dataclass(frozen=True)
class ReleaseJob:
    """One study's release at this site, from its cohort to its draft."""

    store: PrivateStore
    site: str
    study: Study
    study_sha256: str
    policy: Policy
    terms: Terms
    settings: Settings
    release_id: str
    cases: list[Case]
    split: Split
    progress: Progress
    seconds: defaultdict[str, float]

    @property
    def private(self) -> bool:
        """Whether the study is in mode dp."""
        return self.study.privacy.mode == "dp"

    @property
    def wanted(self) -> int:
        """Pairs to draw. In mode dp by patients, whose number is public there: one patient's many images would tell."""
        each, release = self.study.generator.samples_per_case, self.study.release
        if self.private:
            return min(each * len(self.split.training), release.max_pairs)
        return each * len(self.training())

    @property
    def screening_weights(self) -> Path | None:
        """The administrator's file for the screening's embedding."""
        return named(self.settings.screening_weights)

    def training(self) -> list[Case]:
        return list(training(self.cases, self.split))

    def screened(self) -> ToScreen:
        """What the screening compares with, and by which rules."""
        image = self.study.image
        return ToScreen(
            release_id=self.release_id,
            folder=self.store.folder,
            training=real_cases(self.training(), image),
            holdout=real_cases(holdout(self.cases, self.split), image),
            rules=self.terms.rules,
            max_correlation=self.terms.max_correlation,
            weights=self.screening_weights,
            seed=self.store.seed("controls", self.study_sha256),
        )

    def note(self, kind: AccessKind, patients: int) -> None:
        """Writes a reading into the ledger, before it happens."""
        with self.store.engine.begin() as connection:
            record(
                connection, ledger, study_sha256=self.study_sha256, kind=kind, patients=patients,
                subject=self.release_id,
            )  # fmt: skip

    def note_training(self) -> None:
        """For a training without noise; one with it is paid for where it happens."""
        if not self.private:
            kind: AccessKind = "training_each" if self.study.generator.kind == "per_case" else "training"
            self.note(kind, len(self.split.training))

    def note_screening(self) -> None:
        """Where it drops nothing, it changes nothing in what leaves, and is another kind of reading."""
        self.note("findings" if self.private else "screening", len(self.split.training) + len(self.split.holdout))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - start
