"""Gathers a report's data from the coordinator's own records: releases, measurements, comparisons and distances.

Promise: a site that is missing, refused, or answered something else than it was asked has its reason in the place of
its figures, and nothing of it is averaged in.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path
from statistics import fmean

from coordinator.datasets.build import Dataset, load
from coordinator.evaluation.plan import asked
from coordinator.evaluation.releases import Known, gather_release
from coordinator.evaluation.report_data import (
    DatasetData,
    DistributionAnswer,
    Means,
    ReportData,
    RunData,
    SiteData,
)
from coordinator.settings import Home
from coordinator.store.findings import Finding, findings
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Measurement, PublishedStudy, Store
from shared.documents import parse
from shared.errors import SynthwardError, public_text
from shared.findings import Comparison, Distribution
from shared.metrics import NAMES, Metrics
from shared.study import Arm

PACKAGES = ("synthward", "torch", "segmentation-models-pytorch", "timm", "flwr", "numpy")
NO_ANSWER = "no answer yet"
_NO_INTERVALS = "a study in mode dp asks for none, which would be readings without noise"
_OTHER_WORK = "it answered with figures that do not belong to what was asked"
Cell = tuple[Arm, str | None, int | None]


@dataclass(frozen=True)
class Extras:
    """What only those know who ran all parties: facts by site, loud remarks, and how the run went."""

    sites: Mapping[str, Known] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    run: RunData | None = None


def gather(
    store: Store, objects: ObjectStore, published: PublishedStudy, version: int, *,
    failures: Path | None = None, extras: Extras | None = None,
) -> ReportData:  # fmt: skip
    """The data of a report on one dataset version (0: the newest).

    failures: the study's evaluation folder, whose sheet of failures is shown if it is there. Raises dataset.unknown,
    and dataset.revoked: a report shows pairs, and those of a release that was taken back are handed on no more.
    """
    extras = extras or Extras()
    version, dataset = load(store, published.sha256, version)
    row = next(row for row in store.datasets(published.sha256) if row.version == version)
    answers = store.measurements(published.sha256, version)
    found = findings(store, published.sha256, version)
    names = [site.name for site in store.sites() if site.state == "active"]
    names += sorted({*dataset.privacy, *(a.site for a in answers), *(f.site for f in found)} - set(names))
    sites = [
        _site(store, objects, published, version, dataset, name, answers, found, extras.sites.get(name, Known()))
        for name in names
    ]
    return ReportData(
        study=published.study,
        study_sha256=published.sha256,
        created=datetime.now(UTC),
        dataset=DatasetData(version=version, pairs=len(dataset.pairs), sha256=row.sha256),
        sites=tuple(sites),
        means=tuple(m for site in sites for m in _uncompared(site, published, dataset, answers)),
        versions={"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}},
        notes=extras.notes,
        failures_png=_failures(failures, version),
        run=extras.run,
    )


def failures_folder(home: Home, published: PublishedStudy) -> Path:
    """Where an evaluation of a study keeps its networks, and the sheets of what they got wrong."""
    return home.path / "evaluation" / published.sha256[:16]


def _failures(folder: Path | None, version: int) -> bytes | None:
    """The PNG of failures.failure_sheet that the evaluation of this version left, if it has come that far."""
    path = folder / f"v{version}-failures.png" if folder is not None else None
    return path.read_bytes() if path is not None and path.is_file() else None


def _site(
    store: Store, objects: ObjectStore, published: PublishedStudy, version: int, dataset: Dataset, name: str,
    answers: Sequence[Measurement], found: Sequence[Finding], known: Known,
) -> SiteData:  # fmt: skip
    own = [finding for finding in found if finding.site == name]
    comparison, why = _comparison(own, published, version, dataset)
    patients = {answer.patients for answer in answers if answer.site == name and answer.patients}
    release = gather_release(store, objects, dataset, name, known)
    return SiteData(
        name=name,
        cases=known.cases,
        patients=known.patients,
        # A hold-out does not change within a study: where answers differ, the fewest is what holds of all of them.
        holdout_patients=comparison.patients if comparison is not None else min(patients, default=None),
        release=release,
        no_release="" if release is not None else _no_release(store, published, name),
        comparison=comparison,
        no_comparison=why,
        distributions=tuple(_distribution(finding, published, version) for finding in own if _is_distance(finding)),
    )


def _comparison(
    own: Sequence[Finding], published: PublishedStudy, version: int, dataset: Dataset
) -> tuple[Comparison | None, str]:
    """A site's comparison, or why there is none."""
    answer = next((finding for finding in own if finding.kind == "comparison"), None)
    if answer is None:
        return None, _NO_INTERVALS if published.study.privacy.mode == "dp" else NO_ANSWER
    if answer.document is None:
        return None, public_text(answer.code)
    try:
        document = parse(Comparison, answer.document)
    except SynthwardError as error:
        return None, public_text(error.code)
    told = {(figures.arm, figures.trained_on, figures.n) for figures in document.arms}
    seeds = len(published.study.evaluation.seeds)
    asked_for = told <= set(_planned(published, dataset)) and all(f.seeds <= seeds for f in document.arms)
    if (document.study_sha256, document.dataset_version) != (published.sha256, version) or not asked_for:
        return None, _OTHER_WORK
    return document, ""


def _is_distance(finding: Finding) -> bool:
    return finding.kind == "distribution" and finding.trained_on is not None


def _distribution(finding: Finding, published: PublishedStudy, version: int) -> DistributionAnswer:
    source = str(finding.trained_on)
    if finding.document is None:
        return DistributionAnswer(trained_on=source, reason=public_text(finding.code))
    try:
        document = parse(Distribution, finding.document)
    except SynthwardError as error:
        return DistributionAnswer(trained_on=source, reason=public_text(error.code))
    if (document.study_sha256, document.dataset_version, document.trained_on) != (published.sha256, version, source):
        return DistributionAnswer(trained_on=source, reason=_OTHER_WORK)
    return DistributionAnswer(trained_on=source, found=document)


def _planned(published: PublishedStudy, dataset: Dataset) -> list[Cell]:
    """Every network of the study without its seeds, each once and in order."""
    plan = asked(published.study.evaluation, sorted(dataset.privacy))
    return list(dict.fromkeys((item.arm, item.trained_on, item.n) for item in plan))


def _uncompared(
    site: SiteData, published: PublishedStudy, dataset: Dataset, answers: Sequence[Measurement]
) -> list[Means]:  # fmt: skip
    """Means, or reasons, for what the site's comparison does not have."""
    compared = site.comparison.arms if site.comparison is not None else ()
    have = {(figures.arm, figures.trained_on, figures.n) for figures in compared}
    own = [answer for answer in answers if answer.site == site.name]
    return [_means(key, site.name, own) for key in _planned(published, dataset) if key not in have]


def _means(key: Cell, site: str, own: Sequence[Measurement]) -> Means:
    arm, trained_on, n = key
    told = [answer for answer in own if (answer.arm, answer.trained_on, answer.n) == key]
    scored = [answer for answer in told if answer.metrics is not None]
    if not scored:
        codes = [answer.code for answer in told if answer.code]
        reason = public_text(codes[-1]) if codes else NO_ANSWER
        return Means(arm=arm, trained_on=trained_on, n=n, site=site, reason=reason)
    values = [answer.metrics for answer in scored if answer.metrics is not None]
    return Means(
        arm=arm,
        trained_on=trained_on,
        n=n,
        site=site,
        seeds=len(scored),
        patients=min((answer.patients for answer in scored if answer.patients is not None), default=None),
        metrics=Metrics(**{name: fmean(getattr(value, name) for value in values) for name in NAMES}),
    )


def _no_release(store: Store, published: PublishedStudy, name: str) -> str:
    state, code = store.deliveries(published.sha256).get(name, ("", ""))
    if code:
        return public_text(code)
    taken_back = any(row.site == name for row in store.bundles(published.sha256, "revoked"))
    if taken_back:
        return "it took its release back"
    return "it has not answered the study" if not state else "none of its releases is in this version"
