"""Everything that stays the same over the orders of one evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.datasets.build import Dataset
from coordinator.settings import Home
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Site, Store
from shared.study import Study

Progress = Callable[[str, int, int], None]


def evaluation_folder(home: Home, study_sha256: str) -> Path:
    """Where a study's networks lie, and the sheets of what they got wrong."""
    return home.path / "evaluation" / study_sha256[:16]


def failures_file(folder: Path, version: int) -> Path:
    """The PNG of failures.failure_sheet that the evaluation of a dataset version leaves."""
    return folder / f"v{version}-failures.png"


@dataclass(frozen=True)
class Evaluation:
    """One dataset version, who is asked about it, and where its networks lie. folder: of the study."""

    store: Store
    objects: ObjectStore
    key: Ed25519PrivateKey
    folder: Path
    study: Study
    study_sha256: str
    version: int
    dataset: Dataset
    sites: Sequence[Site]
    progress: Progress
    encoder_weights: Path | None = None
