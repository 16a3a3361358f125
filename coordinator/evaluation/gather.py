"""Gathers a report's data from the coordinator's own records: releases, measurements, comparisons and distances.

Promise: a site that is missing, refused, or answered something else than it was asked has its reason in the place of
its figures, and nothing of it is averaged in.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

from coordinator.datasets.build import load
from coordinator.evaluation.answers import Question, comparison_of, distribution_of, fewest, means_of
from coordinator.evaluation.evaluation import failures_file
from coordinator.evaluation.releases import Known, gather_release
from coordinator.evaluation.report_data import DatasetData, ReportData, RunData, SiteData
from coordinator.store.findings import findings
from coordinator.store.objects import ObjectStore
from coordinator.store.store import PublishedStudy, Store
from shared.errors import public_text
from shared.orders import POOLED

PACKAGES = ("synthward", "torch", "segmentation-models-pytorch", "timm", "flwr", "numpy")


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
    sha256 = next(row.sha256 for row in store.datasets(published.sha256) if row.version == version)
    question = Question(published.study, published.sha256, version, tuple(sorted(dataset.privacy)))
    answers = store.measurements(published.sha256, version)
    found = findings(store, published.sha256, version)
    sites, means = [], []
    for name in _names(store, {*dataset.privacy, *(a.site for a in answers), *(f.site for f in found)}):
        known = extras.sites.get(name, Known())
        release = gather_release(store, objects, dataset, name, known)
        own = [answer for answer in answers if answer.site == name]
        told = [finding for finding in found if finding.site == name]
        comparison, no_comparison = comparison_of(question, told)
        distances = sorted((f for f in told if f.kind == "distribution"), key=lambda f: f.trained_on == POOLED)
        sites.append(
            SiteData(
                name=name,
                cases=known.cases,
                patients=known.patients,
                holdout_patients=comparison.patients if comparison is not None else fewest(own),
                release=release,
                no_release="" if release is not None else _no_release(store, published, name),
                comparison=comparison,
                no_comparison=no_comparison,
                distributions=tuple(distribution_of(question, finding) for finding in distances),
            )
        )
        means += means_of(question, name, comparison, own)
    return ReportData(
        study=published.study,
        study_sha256=published.sha256,
        created=datetime.now(UTC),
        dataset=DatasetData(version=version, pairs=len(dataset.pairs), sha256=sha256),
        sites=tuple(sites),
        means=tuple(means),
        versions={"python": platform.python_version(), **{name: version_of(name) for name in PACKAGES}},
        notes=extras.notes,
        failures_png=_failures(failures, version),
        run=extras.run,
    )


def _failures(folder: Path | None, version: int) -> bytes | None:
    """The sheet of failures, if the evaluation of this version has come that far."""
    path = failures_file(folder, version) if folder is not None else None
    return path.read_bytes() if path is not None and path.is_file() else None


def _names(store: Store, heard_of: set[str]) -> list[str]:
    """All sites that take part or did: a revoked one only where something of it is in the version."""
    active = [site.name for site in store.sites() if site.state == "active"]
    return [*active, *sorted(heard_of - set(active))]


def _no_release(store: Store, published: PublishedStudy, name: str) -> str:
    state, code = store.deliveries(published.sha256).get(name, ("", ""))
    if code:
        return public_text(code)
    taken_back = any(row.site == name for row in store.bundles(published.sha256, "revoked"))
    if taken_back:
        return "it took its release back"
    return "it has not answered the study" if not state else "none of its releases is in this version"
