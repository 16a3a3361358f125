"""The release job: from a site's training cases to a screened draft that waits for its steward.

Generators are fitted first (and kept, so that a killed job goes on where it stopped), then pairs are drawn, moved in
style, screened one by one, and those too near to a real image dropped. A batch of samples and one generator are in
memory at a time. Every reading of real pixels is in the ledger before it happens.
"""

from __future__ import annotations

import shutil
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from shared import __version__
from shared.bundle import Manifest, PairEntry, entry, object_path, sorted_entries
from shared.files import private_folder
from shared.pairs import Pair, Pixels
from shared.privacy import AccessKind
from shared.study import Study
from site_node.airlock.workflow import Airlock, Release, release_folder
from site_node.cases import Case, PrivateStore, holdout, ledger, training
from site_node.cohort import Split, check_floor, check_size
from site_node.dp.ledger import facts, record, statement
from site_node.policy import Policy, Terms, policy_sha256, terms
from site_node.screening.screen import Screening
from site_node.screening.verdict import check_holdout
from site_node.settings import Settings
from site_node.style.interface import ACCESS, Style, another, prepare
from site_node.style.stored import StoredMoments, moments_file, take
from site_node.style.stored import load as load_moments
from site_node.style.stored import save as save_moments
from site_node.work.machine import Workers
from site_node.work.screening import ToScreen, prepare_screening, real_cases, screening_pool
from site_node.work.sources import Well, source
from site_node.work.time_left import TrainingProgress

ATTEMPTS_PER_SAMPLE = 6
BATCH = 16  # samples that are drawn and styled together


class Progress(Protocol):
    """Told how far a job is; `training` while generators are fitted."""

    def __call__(self, stage: str, done: int, of: int, training: TrainingProgress | None = None) -> None: ...


@dataclass(frozen=True)
class _Job:
    """What every step of the job needs."""

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

    def training(self) -> list[Case]:
        return list(training(self.cases, self.split))

    def screened(self) -> ToScreen:
        """What the screening compares with, and by which rules."""
        image, settings = self.study.image, self.settings
        return ToScreen(
            release_id=self.release_id,
            folder=self.store.folder,
            training=real_cases(self.training(), image),
            holdout=real_cases(holdout(self.cases, self.split), image),
            rules=self.terms.rules,
            max_correlation=self.terms.max_correlation,
            weights=Path(settings.screening_weights) if settings.screening_weights else None,
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
        self.note("training_each" if self.study.generator.kind == "per_case" else "training", len(self.split.training))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] += time.monotonic() - start


def make_release(
    store: PrivateStore, *, site: str, study: Study, study_sha256: str, policy: Policy, settings: Settings,
    progress: Progress,
) -> Release:  # fmt: skip
    """Drafts and screens a release. Raises cohort.*, style.*, training.*, screening.*: then nothing was drafted.

    A job that was killed after it had drafted finds its release and leaves it alone: somebody may be reviewing it.
    """
    release_id = f"release-{study_sha256[:16]}"
    for release in Airlock(store).releases():
        if release.release_id == release_id:
            return release
    cases = store.cases()
    split = store.split(cases, policy.holdout_fraction)
    job = _Job(
        store, site, study, study_sha256, policy, terms(policy, study), settings, release_id, cases, split,
        progress, defaultdict(float),
    )  # fmt: skip
    check_floor(len(split.training), job.terms.min_patients)
    check_size(((case.height, case.width) for case in cases), study.image.size_px)
    check_holdout(len(split.holdout), job.terms.rules)
    style = _style(job)
    job.note_training()
    job.note("screening", len(split.training) + len(split.holdout))
    origin = source(store, study, study_sha256, job.training(), Workers.of(settings))
    with screening_pool(settings.threads) as pool:
        # Before training: a screening that is blind here would keep everything in, hours later.
        with job.timed("screen"):
            bench = prepare_screening(job.screened(), pool, lambda done, of: progress("compare", done, of))
        with job.timed("train"):
            set_aside = origin.train(lambda told: progress("train", told.done, told.of, told))
        entries = sorted_entries(_pairs(job, origin.wells(), style, bench.screening))[: study.release.max_pairs]
        with job.timed("screen"):
            report = bench.conclude({line.image for line in entries}, job.seconds, set_aside, origin.critic_scores)
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
        style_source=study.style.source,
        training_patients=len(split.training),
        policy_sha256=policy_sha256(policy),
        software=f"synthward/{__version__}",
        privacy=privacy,
        audit=report.summary(),
        pairs=entries,
    )
    _drop_unlisted(release_folder(store, job.release_id), manifest)
    return Airlock(store).draft(manifest, report.model_dump(mode="json"), made_by="trainer", patients=split)


def _style(job: _Job) -> Style:
    """The study's style, refused before anything is trained where the site lacks what it needs."""
    settings, image = job.settings, job.study.image
    stored = _moments(job) if job.study.style.source == "stored" else None
    style = prepare(
        job.study.style, image, stored=stored, seed=job.store.seed("style", job.study_sha256),
        weights=Path(settings.style_weights) if settings.style_weights else None,
        public=Path(settings.style_images) if settings.style_images else None,
    )  # fmt: skip
    access = ACCESS[style.reads]
    if access is not None and stored is None:  # stored moments were noted before they were taken
        job.note(access, len(job.split.training))
    return style


def _moments(job: _Job) -> StoredMoments:
    """The site's stored moments, taken from its training cases the first time; each release rests on them anew."""
    job.note("moments", len(job.split.training))
    path = moments_file(job.store.folder, job.study.image.channels)
    if not path.exists():
        save_moments(path, take((case.patient, case.load_for(job.study.image).image) for case in job.training()))
    return load_moments(path)


def _pairs(job: _Job, wells: Iterator[Well], style: Style, screening: Screening) -> Iterator[PairEntry]:
    """Draws, styles, screens and writes pairs, generator by generator."""
    folder = release_folder(job.store, job.release_id)
    shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed before it drafted
    private_folder(folder / "objects")
    cases = job.training()
    asked = job.study.generator.samples_per_case * len(cases)
    accepted = 0
    for well in wells:
        missing, attempts = well.wanted, well.wanted * ATTEMPTS_PER_SAMPLE
        while missing and attempts:
            job.progress("sample", accepted, asked)
            count = min(BATCH, missing, attempts)
            pairs = _samples(job, well, attempts, count, style, cases)
            with job.timed("screen"):
                reasons = screening.judge(pairs)
            for pair, reason in zip(pairs, reasons, strict=True):
                if reason is None:
                    line, objects = entry(pair)
                    for name, data in objects.items():
                        object_path(folder, name).write_bytes(data)
                    missing, accepted = missing - 1, accepted + 1
                    yield line
            attempts -= count
    job.progress("sample", accepted, asked)


def _samples(job: _Job, well: Well, attempt: int, count: int, style: Style, cases: list[Case]) -> list[Pair]:
    """A batch of pairs in style. attempt: tells the batches of one generator apart."""
    with job.timed("sample"):
        pairs = well.draw(str(attempt), count)
    with job.timed("style"):

        def seed(place: int) -> int:
            return job.store.seed("style", job.study_sha256, well.name, str(attempt), str(place))

        references: list[Pixels] | None = None
        if style.reads == "own case" and well.own is not None:
            references = [cases[well.own].load_for(job.study.image).image] * count
        elif style.reads == "other training cases":
            lenders = [cases[another(len(cases), well.own, seed(place))] for place in range(count)]
            references = [case.load_for(job.study.image).image for case in lenders]
        return style.apply(pairs, references, seed(0))


def _drop_unlisted(folder: Path, manifest: Manifest) -> None:
    """Removes objects that the manifest does not name (over the study's limit of pairs)."""
    listed = {f"{name}.png" for name in manifest.objects()}
    for path in (folder / "objects").iterdir():
        if path.name not in listed:
            path.unlink()
