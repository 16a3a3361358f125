"""What a site released into a dataset version, read from the manifests that the coordinator accepted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from coordinator.datasets.build import Dataset, read_pair
from coordinator.evaluation.report_data import Release
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared.bundle import Manifest, Verdict
from shared.documents import parse
from shared.sheets import contact_sheet

SHEET_PAIRS = 24
_COLUMNS, _CELL_PX = 8, 112
_WORST_FIRST: tuple[Verdict, ...] = ("blocked", "inconclusive", "passed")


@dataclass(frozen=True)
class Known:
    """What a site told those who asked it, and no message carries: its cases and patients, and who approved."""

    cases: int | None = None
    patients: int | None = None
    approved_by: tuple[str, ...] = ()


def gather_release(
    store: Store, objects: ObjectStore, dataset: Dataset, site: str, known: Known
) -> Release | None:  # fmt: skip
    """A site's part of a dataset version; None without one. Counts of several bundles are added."""
    manifests = _manifests(store, dataset, site)
    if not manifests:
        return None
    audits = [manifest.audit for manifest in manifests]
    rejected: Counter[str] = Counter()
    for audit in audits:
        rejected.update({str(reason): number for reason, number in audit.rejected.items()})
    sampled = sum(audit.sampled for audit in audits)
    accepted = min(sampled, sum(audit.accepted for audit in audits))
    claim = dataset.privacy[site]
    lines = dataset.of_site(site)
    shown = lines[:: max(1, len(lines) // SHEET_PAIRS)][:SHEET_PAIRS]
    pairs = [read_pair(objects, line) for line in shown]
    return Release(
        pairs=len(lines),
        # Two releases of a site rest on one cohort: the larger number is of all who are behind them.
        training_patients=max(manifest.training_patients for manifest in manifests),
        sampled=sampled,
        rejected=dict(sorted(rejected.items())),
        planted=sum(audit.planted for audit in audits),
        planted_found=sum(audit.planted_found for audit in audits),
        verdict=min((audit.verdict for audit in audits), key=_WORST_FIRST.index),
        software=tuple(sorted({manifest.software for manifest in manifests})),
        privacy_label=claim.label(),
        privacy_sentences=tuple(claim.sentences()),
        acceptance=accepted / sampled if sampled else None,
        epsilon=claim.dp.epsilon_prv if claim.dp is not None else None,
        membership_auc=max((a.membership_auc for a in audits if a.membership_auc is not None), default=None),
        approved_by=known.approved_by,
        sheet_png=contact_sheet(pairs, columns=_COLUMNS, cell_px=_CELL_PX) if pairs else None,
        sheet_pairs=len(pairs),
    )


def _manifests(store: Store, dataset: Dataset, site: str) -> list[Manifest]:
    rows = [store.bundle(sha256) for sha256 in dataset.bundles]
    return [parse(Manifest, bytes(row.manifest)) for row in rows if row is not None and row.site == site]
