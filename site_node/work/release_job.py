"""The release job: from a site's training cases to a screened draft that waits for its steward.

For each training case: fit a generator (kept, so that a killed job goes on where it stopped), draw pairs, move their
style towards the case, screen them one by one, and drop what is too near to a real image. One case's pixels and one
generator are in memory at a time. Every reading of real pixels is in the ledger before it happens.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from shared import __version__
from shared.bundle import Manifest, PairEntry, entry, object_path, sorted_entries
from shared.files import private_folder
from shared.pairs import Pair
from shared.privacy import AccessKind
from shared.study import Study
from site_node.airlock.workflow import Airlock, Release, release_folder
from site_node.cases import Case, PrivateStore, holdout, ledger, training
from site_node.cohort import Split, check_floor, check_size
from site_node.dp.ledger import facts, record, statement
from site_node.generators.presets import PRESETS
from site_node.generators.singan_seg import SinGanSeg, train_case
from site_node.policy import Policy, Terms, policy_sha256, terms
from site_node.screening.copies import Bank
from site_node.screening.report import Control
from site_node.screening.screen import Screening
from site_node.style.colour_and_texture import transfer

ATTEMPTS_PER_SAMPLE = 6
CONTROL_CASES = 20
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Job:
    """What every step of the job needs."""

    store: PrivateStore
    site: str
    study: Study
    study_sha256: str
    policy: Policy
    terms: Terms
    release_id: str
    cases: list[Case]
    split: Split
    progress: Progress
    seconds: defaultdict[str, float]

    def training(self) -> list[Case]:
        return list(training(self.cases, self.split))

    def note(self, kind: AccessKind, patients: int) -> None:
        """Writes a reading into the ledger, before it happens."""
        with self.store.engine.begin() as connection:
            record(
                connection, ledger, study_sha256=self.study_sha256, kind=kind, patients=patients,
                subject=self.release_id,
            )  # fmt: skip

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - start


def make_release(
    store: PrivateStore, *, site: str, study: Study, study_sha256: str, policy: Policy, progress: Progress
) -> Release:
    """Drafts and screens a release. Raises cohort.*, training.*, screening.*: then nothing was drafted.

    A job that was killed after it had drafted finds its release and leaves it alone: somebody may be reviewing it.
    """
    release_id = f"release-{study_sha256[:16]}"
    for release in Airlock(store).releases():
        if release.release_id == release_id:
            return release
    cases = store.cases()
    split = store.split(cases, policy.holdout_fraction)
    job = _Job(
        store, site, study, study_sha256, policy, terms(policy, study), release_id, cases, split,
        progress, defaultdict(float),
    )  # fmt: skip
    check_floor(len(split.training), job.terms.min_patients)
    check_size(((case.height, case.width) for case in cases), study.image.size_px)
    job.note("training", len(split.training))
    if study.style.kind != "none":
        job.note("style", len(split.training))
    job.note("screening", len(split.training) + len(split.holdout))
    with job.timed("screen"):
        screening = Screening(Bank(case.load_for(job.study.image).image for case in cases), job.terms.max_correlation)
    entries = sorted_entries(_pairs(job, screening))[: study.release.max_pairs]
    with job.timed("screen"):
        report = screening.report(*_yardsticks(job, screening), {k: round(v, 2) for k, v in job.seconds.items()})
    with store.reading.begin() as connection:
        privacy = statement(facts(connection, ledger), job.release_id)
    manifest = Manifest(
        study_sha256=study_sha256,
        site=site,
        release_id=job.release_id,
        made_on=datetime.now(UTC).date(),
        size_px=study.image.size_px,
        channels=study.image.channels,
        generator=study.generator.kind,
        preset=study.generator.preset,
        style=study.style.kind,
        training_patients=len(split.training),
        policy_sha256=policy_sha256(policy),
        software=f"synthward/{__version__}",
        privacy=privacy,
        audit=report.summary(),
        pairs=entries,
    )
    _drop_unlisted(release_folder(store, job.release_id), manifest)
    return Airlock(store).draft(manifest, report.model_dump(mode="json"), made_by="trainer")


def _pairs(job: _Job, screening: Screening) -> Iterator[PairEntry]:
    """Draws, styles, screens and writes pairs, case by case."""
    folder = release_folder(job.store, job.release_id)
    shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed before it drafted
    private_folder(folder / "objects")
    cases = job.training()
    for done, case in enumerate(cases):
        job.progress("train", done, len(cases))
        real = case.load_for(job.study.image)
        with job.timed("train"):
            generator = _generator(job, case, real)
        yield from _samples(job, screening, case, real, generator, folder)
    job.progress("train", len(cases), len(cases))


def _generator(job: _Job, case: Case, real: Pair) -> SinGanSeg:
    """The case's generator: fitted now, or kept from before a kill. Generators are patient data."""
    folder = private_folder(job.store.folder / "generators" / job.study_sha256[:16])
    path = folder / f"{case.case_id}.safetensors"
    if path.exists():
        return SinGanSeg.load(path)
    preset = PRESETS[job.study.generator.preset]
    generator = train_case(real, preset, seed=job.store.seed("train", job.study_sha256, case.case_id))
    generator.save(path)
    return generator


def _samples(
    job: _Job, screening: Screening, case: Case, real: Pair, generator: SinGanSeg, folder: Path
) -> Iterator[PairEntry]:
    wanted = job.study.generator.samples_per_case
    accepted = 0
    for attempt in range(wanted * ATTEMPTS_PER_SAMPLE):
        if accepted == wanted:
            return
        with job.timed("sample"):
            pair = generator.sample(job.store.seed("sample", job.study_sha256, case.case_id, str(attempt)))
        if job.study.style.kind != "none":
            with job.timed("style"):
                pair = transfer(pair, real.image, strength=job.study.style.strength)
        with job.timed("screen"):
            reason = screening.judge(pair)
        if reason is None:
            line, objects = entry(pair)
            for name, data in objects.items():
                object_path(folder, name).write_bytes(data)
            accepted += 1
            yield line


def _yardsticks(job: _Job, screening: Screening) -> tuple[tuple[Control, ...], list[float]]:
    """(planted controls, nearest correlation of each hold-out image to the training images)."""
    controls = screening.controls(case.load_for(job.study.image).image for case in job.training()[:CONTROL_CASES])
    bank = Bank(case.load_for(job.study.image).image for case in job.training())
    return controls, [bank.nearest(case.load_for(job.study.image).image) for case in holdout(job.cases, job.split)]


def _drop_unlisted(folder: Path, manifest: Manifest) -> None:
    """Removes objects that the manifest does not name (over the study's limit of pairs)."""
    listed = {f"{name}.png" for name in manifest.objects()}
    for path in (folder / "objects").iterdir():
        if path.name not in listed:
            path.unlink()
