"""The release job: from a site's training cases to a screened draft that waits for its steward.

Generators are fitted first (and kept, so that a killed job goes on where it stopped), then pairs are drawn, moved in
style, screened one by one, and those too near to a real image dropped. A batch of samples and one generator are in
memory at a time. Every reading of real pixels is in the ledger before it happens.

In mode dp the training is noised and paid for (site_node/work/private_cohort.py), and nothing that leaves depends on a
real image in any other way: how many pairs are drawn follows from the study and the number of patients, only checks
that read no real image drop samples, and the screening's findings stay with the steward.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import Executor
from datetime import UTC, datetime

from shared import __version__
from shared.bundle import Manifest, sorted_entries
from shared.errors import SynthwardError
from shared.privacy import PrivacyStatement
from shared.settings_files import named
from shared.study import Study
from site_node.airlock.workflow import Airlock, Release, release_folder
from site_node.cases import PrivateStore, ledger
from site_node.cohort import check_floor, check_size
from site_node.dp.budget import check_cohort
from site_node.dp.ledger import facts, statement
from site_node.policy import Policy, check_dp, policy_sha256, terms
from site_node.screening.screen import Screening
from site_node.screening.verdict import check_holdout
from site_node.settings import Settings
from site_node.style.interface import ACCESS, Style, prepare
from site_node.style.stored import StoredMoments, moments_file, take
from site_node.style.stored import load as load_moments
from site_node.style.stored import save as save_moments
from site_node.work.drawing import draw_pairs, drop_unlisted
from site_node.work.machine import Workers
from site_node.work.private_cohort import PrivateCohort
from site_node.work.release_state import Progress, ReleaseJob
from site_node.work.screening import (
    Bench,
    check_means,
    prepare_screening,
    screening_pool,
    told_outside,
)
from site_node.work.sources import Source, source


def make_release(
    store: PrivateStore, *, site: str, study: Study, study_sha256: str, policy: Policy, settings: Settings,
    progress: Progress,
) -> Release:  # fmt: skip
    """Drafts and screens a release. Raises cohort.*, style.*, training.*, screening.*, policy.dp-*, trust.ledger: then
    nothing was drafted.

    A job that was killed after it had drafted finds its release and leaves it alone: somebody may be reviewing it.
    """
    release_id = f"release-{study_sha256[:16]}"
    for release in Airlock(store).releases():
        if release.release_id == release_id:
            return release
    cases = store.cases()
    split = store.split(cases, policy.holdout_fraction)
    job = ReleaseJob(
        store, site, study, study_sha256, policy, terms(policy, study), settings, release_id, cases, split,
        progress, defaultdict(float),
    )  # fmt: skip
    _check(job)
    style = _style(job)
    job.note_training()
    origin = _source(job)
    with screening_pool(settings.threads) as pool:
        if job.private:  # the reservation comes before the first case is opened, also for the screening
            set_aside = _train(job, origin)
            bench = _bench(job, pool)
        else:  # before training: a screening that is blind here would keep everything in, hours later
            bench = _bench(job, pool)
            set_aside = _train(job, origin)
        entries = sorted_entries(draw_pairs(job, origin.wells(), style, bench.screening))[: study.release.max_pairs]
        _check_number(job, len(entries), bench.screening)
        with job.timed("screen"):
            report = bench.conclude({line.image for line in entries}, job.seconds, set_aside, origin.critic_scores)
    privacy = _statement(job)
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
        audit=told_outside(report, drops=job.terms.rules.drops),
        pairs=entries,
    )
    drop_unlisted(release_folder(store, job.release_id), manifest)
    return Airlock(store).draft(manifest, report.model_dump(mode="json"), made_by="trainer", patients=split)


def _check(job: ReleaseJob) -> None:
    """Refuses what this cohort cannot carry, before a pixel is read."""
    check_floor(len(job.split.training), job.terms.min_patients)
    if job.private:
        check_dp(job.policy, job.study)  # again: whoever calls this job directly gets no epsilon for less
        check_cohort(job.store, job.study, job.policy, job.split)
        check_means(job.screening_weights)  # the screening comes after the training, which is paid for by then
    else:  # in mode dp smaller images are enlarged: to refuse them would tell of the patients who have them
        check_size(((case.height, case.width) for case in job.cases), job.study.image.size_px)
    check_holdout(len(job.split.holdout), job.terms.rules)


def _source(job: ReleaseJob) -> Source:
    workers = Workers.of(job.settings)
    if job.private:
        return PrivateCohort(
            job.store, job.study, job.study_sha256, job.release_id, job.policy, workers, job.training(), job.wanted
        )
    return source(job.store, job.study, job.study_sha256, job.training(), workers)


def _train(job: ReleaseJob, origin: Source) -> Mapping[str, str]:
    with job.timed("train"):
        return origin.train(lambda told: job.progress("train", told.done, told.of, told))


def _bench(job: ReleaseJob, pool: Executor) -> Bench:
    job.note_screening()
    with job.timed("screen"):
        return prepare_screening(job.screened(), pool, lambda done, of: job.progress("compare", done, of))


def _check_number(job: ReleaseJob, found: int, screening: Screening) -> None:
    """In mode dp the number of pairs is what was announced, or none leaves."""
    if job.private and found < job.wanted:
        raise SynthwardError(
            "screening.too-few-accepted",
            f"{found} of {job.wanted} pairs passed, of {screening.sampled} samples: {dict(screening.rejected)}",
            why="in mode dp the number of pairs is settled before a patient is read",
            do="ask the study's lead for wider limits on masks; the generator is kept and costs nothing to draw from",
        )


def _statement(job: ReleaseJob) -> PrivacyStatement:
    """From the ledger. Raises policy.dp-unaccounted where a study in mode dp would get another statement."""
    with job.store.reading.begin() as connection:
        told = statement(facts(connection, ledger), job.release_id)
    if told.mode != job.study.privacy.mode:
        raise SynthwardError(
            "policy.dp-unaccounted",
            f"the ledger's readings for {job.release_id} make it {told.mode}, the study asks for "
            f"{job.study.privacy.mode}",
            why="a statement is made from the ledger alone",
            do="look at synthward-site ledger: this release was read for without noise",
        )
    return told


def _style(job: ReleaseJob) -> Style:
    """The study's style, refused before anything is trained where the site lacks what it needs."""
    settings, image = job.settings, job.study.image
    stored = _moments(job) if job.study.style.source == "stored" else None
    style = prepare(
        job.study.style, image, stored=stored, seed=job.store.seed("style", job.study_sha256),
        weights=named(settings.style_weights),
        public=named(settings.style_images),
    )  # fmt: skip
    access = ACCESS[style.reads]
    if access is not None and stored is None:  # stored moments were noted before they were taken
        job.note(access, len(job.split.training))
    return style


def _moments(job: ReleaseJob) -> StoredMoments:
    """The site's stored moments, taken from its training cases the first time; each release rests on them anew."""
    job.note("moments", len(job.split.training))
    path = moments_file(job.store.folder, job.study.image.channels)
    if not path.exists():
        save_moments(path, take((case.patient, case.load_for(job.study.image).image) for case in job.training()))
    return load_moments(path)
