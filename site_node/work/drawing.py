"""Pairs of a release: drawn, moved in style, screened, and written one by one, generator by generator.

A batch of samples and one generator are in memory at a time.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from shared.bundle import Manifest, PairEntry, entry, object_path
from shared.files import private_folder
from shared.pairs import Pair, Pixels
from site_node.airlock.workflow import release_folder
from site_node.cases import Case
from site_node.screening.screen import Screening
from site_node.style.interface import Style, another
from site_node.work.release_state import ReleaseJob
from site_node.work.sources import Well

ATTEMPTS_PER_SAMPLE = 6
BATCH = 16  # samples that are drawn and styled together


def draw_pairs(job: ReleaseJob, wells: Iterator[Well], style: Style, screening: Screening) -> Iterator[PairEntry]:
    """Draws, styles, screens and writes pairs, generator by generator."""
    folder = release_folder(job.store, job.release_id)
    shutil.rmtree(folder, ignore_errors=True)  # of a job that was killed before it drafted
    private_folder(folder / "objects")
    cases = job.training()
    asked = job.wanted
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


def _samples(job: ReleaseJob, well: Well, attempt: int, count: int, style: Style, cases: list[Case]) -> list[Pair]:
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


def drop_unlisted(folder: Path, manifest: Manifest) -> None:
    """Removes objects that the manifest does not name (over the study's limit of pairs)."""
    listed = {f"{name}.png" for name in manifest.objects()}
    for path in (folder / "objects").iterdir():
        if path.name not in listed:
            path.unlink()
