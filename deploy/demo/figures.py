"""What the demo writes at its end: summary.json for machines, and the coordinator's own report with what only the demo
knows, as all parties are on one machine: cases and patients, bytes, seconds, memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coordinator.evaluation.cells import Cell, cells
from coordinator.evaluation.evaluation import evaluation_folder
from coordinator.evaluation.gather import Extras, gather
from coordinator.evaluation.releases import Known
from coordinator.evaluation.report import write_report
from coordinator.evaluation.report_data import ReportData, RunData
from coordinator.evaluation.summary import summarise
from coordinator.settings import Home
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from deploy.demo.meter import Meter
from deploy.demo.parties import Party, SiteParty
from deploy.demo.study import (
    CONTROL_FLOOR,
    MIN_HOLDOUT_PATIENTS,
    MIN_PATIENTS,
    PART_CONTROL_FLOOR,
    STEWARD,
)
from shared.files import write_atomic
from shared.study import Study

Answers = Mapping[str, Mapping[str, Any]]
_ROWS = {"real_own": "own real", "real_and_others": "own real and others"}


def write_outputs(
    out: Path,
    *,
    coordinator: Party,
    study: Study,
    sites: Sequence[SiteParty],
    imported: Answers,
    statuses: Answers,
    dataset: Mapping[str, Any],
    checked: Answers,
    meter: Meter,
    real: bool,
) -> None:
    """Writes out/summary.json and out/report.html, .json, .csv. imported, statuses, dataset and checked are what the
    commands answered."""
    # Counted once: sites go on polling while the report is made.
    sent = {site.name: (site.enrolment.sent + site.releases.sent, site.fleet.sent) for site in sites}
    egress = {name: _egress(*sent[name], statuses[name]["egress"]) for name in sent}
    releases = {site.name: statuses[site.name]["releases"][0] for site in sites}
    peaks = {name: mb for name, mb in sorted(meter.peak_mb.items()) if mb > 0} | {"all together": meter.total_mb}
    home = Home(coordinator.home)
    store = Store(home.database_url())
    published = store.study(study.study_id)
    extras = Extras(
        sites={site.name: _known(imported[site.name]) for site in sites},
        notes=tuple(_notes(imported, releases, real=real)),
        run=RunData(egress=egress, seconds=meter.seconds, peak_rss_mb=peaks),
    )
    report = gather(
        store, ObjectStore(home.objects_url()), published, dataset["version"],
        failures=evaluation_folder(home, published.sha256), extras=extras,
    )  # fmt: skip
    write_report(report, out)
    summary = {
        "study": {"study_id": study.study_id, "sha256": published.sha256, **study.model_dump(mode="json")},
        "sites": [
            {
                "name": site.name,
                **{k: imported[site.name][k] for k in ("cases", "patients", "training_patients", "holdout_patients")},
                "patients_from": imported[site.name]["patients_from"],
                "sampled": releases[site.name]["report"]["sampled"],
                "released": releases[site.name]["pairs"],
                "privacy_mode": releases[site.name]["privacy_mode"],
                "audit": releases[site.name]["report"],
            }
            for site in sites
        ],
        "dataset": {key: dataset[key] for key in ("version", "pairs", "sha256")},
        "evaluation": _evaluation(report),
        "egress": egress,
        "wire_bytes": {name: sum(both) for name, both in sent.items()},
        "seconds": meter.seconds,
        "peak_rss_mb": peaks,
        "verified": {name: dict(found) for name, found in checked.items()},
        "notes": list(extras.notes),
    }
    write_atomic(out / "summary.json", (json.dumps(summary, indent=2, sort_keys=False) + "\n").encode())


def _evaluation(report: ReportData) -> dict[str, Any]:
    """arms: arm -> site -> means, of a site's own pairs where an arm has pairs of one. matrix: trained on -> tested at.

    cells: every figure with its interval and gain, or the reason why there is none.
    """
    arms: dict[str, dict[str, Any]] = {}
    matrix: dict[str, dict[str, Any]] = {}
    table = cells(report)
    for cell in table:
        means = {name: figure.mean for name, figure in cell.figures.items()}
        if means and (cell.arm != "synthetic_own" or cell.trained_on == cell.site):
            arms.setdefault(cell.arm, {})[cell.site] = means
        row = _ROWS.get(cell.arm) or str(cell.trained_on or cell.arm)
        matrix.setdefault(row, {})[cell.site] = means or {"refused": cell.reason}
    summary = summarise(report)
    return {
        "headline": summary.headline,
        "missing": list(summary.gaps),
        "arms": arms,
        "matrix": matrix,
        "cells": [_plain(cell) for cell in table],
    }


def _plain(cell: Cell) -> dict[str, Any]:
    return {
        **{key: value for key, value in vars(cell).items() if key not in ("figures", "gains")},
        "figures": {name: vars(figure) for name, figure in cell.figures.items()},
        "gains": {name: gain.model_dump() for name, gain in cell.gains.items()},
    }


def _known(imported: Mapping[str, Any]) -> Known:
    """What no message carries; a coordinator elsewhere would not have it."""
    return Known(
        cases=imported["cases"],
        patients=imported["patients"],
        approved_by=(STEWARD,),
    )


def _egress(grpc: int, fleet: int, counted: Mapping[str, int]) -> dict[str, int]:
    """kind -> bytes; the kinds add up to every byte that passed the site's relays: `grpc` and `fleet`.

    Messages are counted by the site's own software, the total outside of it; what is left between them is Flower's
    polling, heartbeats and node signatures on the one hand, and TLS and framing on the other.
    """
    answered = {
        "answers to the study": counted.get("flower:query.study", 0),
        "metrics": counted.get("flower:evaluate.measurement", 0),
        "intervals and gains": counted.get("flower:evaluate.comparison", 0),
        "distances": counted.get("flower:evaluate.distribution", 0),
    }
    enrolment, bundle, checkpoint = (counted.get(kind, 0) for kind in ("enrolment", "bundle", "checkpoint"))
    return {
        "release bundle": bundle,
        "enrolment (public keys, requests)": enrolment,
        "ends of the journals (lengths, digests)": checkpoint,
        **{kind: size for kind, size in answered.items() if size},
        "Flower: polling, heartbeats, TLS": fleet - sum(answered.values()),
        "gRPC: TLS and framing": grpc - enrolment - bundle - checkpoint,
    }


def _notes(imported: Answers, releases: Answers, *, real: bool) -> list[str]:
    notes = [
        f"This is the demo: all sites on one machine, and floors lowered to {MIN_PATIENTS} training and "
        f"{MIN_HOLDOUT_PATIENTS} hold-out patients. A hospital's defaults are 20 and 10.",
        "The releases were approved by demo-steward, which is a script. At a hospital a person looks and decides.",
        "The screening may miss more of the copies that it plants than a hospital would let it: its floors are lowered "
        f"to {100 * CONTROL_FLOOR:.0f} % of whole copies (95 % by default) and {100 * PART_CONTROL_FLOOR:.0f} % of "
        "parts (80 %).",
        "Every network was trained once, to be done in minutes: another run may differ by more than these gaps.",
    ]
    unsure = [site for site, release in releases.items() if release["report"]["verdict"] == "inconclusive"]
    if unsure:
        notes.append(
            f"The screening's verdict was inconclusive at {', '.join(unsure)}: so few hold-out patients cannot tell a "
            "copy from chance. By default that blocks a release; the demo's policy lets it pass."
        )
    if not real:
        notes.insert(
            0, "The images are drawings (phantoms), not patients: figures show that the system works, no more."
        )
    notes += [
        f"{site}: no patient keys were given, so every pair counts as a patient of its own. Figures of this site may "
        "be better than they should be."
        for site, found in imported.items()
        if found["patients_from"] == "one patient a pair"
    ]
    return notes
