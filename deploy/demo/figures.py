"""What the demo writes at its end: summary.json for machines and report.html for people, from the same figures."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coordinator.evaluation.report import render
from coordinator.evaluation.report_data import Cell, DatasetData, MatrixRow, ReportData, SiteData
from deploy.demo.meter import Meter
from deploy.demo.parties import SiteParty
from deploy.demo.study import MIN_HOLDOUT_PATIENTS, MIN_PATIENTS, STEWARD
from shared.errors import public_text
from shared.files import write_atomic
from shared.metrics import Metrics
from shared.pairs import Pair, decode_png
from shared.privacy import PrivacyStatement
from shared.sheets import contact_sheet
from shared.study import Study

SHEET_PAIRS = 24
Answers = Sequence[Mapping[str, Any]]


def write_outputs(
    out: Path,
    *,
    study: Study,
    study_sha256: str,
    sites: Sequence[SiteParty],
    imported: Mapping[str, Mapping[str, Any]],
    statuses: Mapping[str, Mapping[str, Any]],
    dataset: Mapping[str, Any],
    answers: Answers,
    checked: Mapping[str, Mapping[str, Any]],
    meter: Meter,
    real: bool,
) -> None:
    """Writes out/summary.json and out/report.html. imported, statuses and checked are what the commands answered."""
    arms = _arms(answers)
    egress = {site.name: _egress(site, statuses[site.name]["egress"]) for site in sites}
    releases = {site.name: statuses[site.name]["releases"][0] for site in sites}
    peaks = {name: mb for name, mb in sorted(meter.peak_mb.items()) if mb > 0} | {"all together": meter.total_mb}
    notes = _notes(imported, real=real)
    summary = {
        "study": {"study_id": study.study_id, "sha256": study_sha256, **study.model_dump(mode="json")},
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
        "evaluation": {
            "arms": {arm: {s: m.model_dump() for s, m in by_site.items()} for arm, by_site in arms.items()},
            "matrix": _plain_matrix(answers),
        },
        "egress": egress,
        "wire_bytes": {s.name: s.enrolment.sent + s.releases.sent + s.fleet.sent for s in sites},
        "seconds": meter.seconds,
        "peak_rss_mb": peaks,
        "verified": {name: dict(found) for name, found in checked.items()},
        "notes": notes,
    }
    write_atomic(out / "summary.json", (json.dumps(summary, indent=2, sort_keys=False) + "\n").encode())
    report = ReportData(
        study_id=study.study_id,
        title=study.title,
        purpose=study.purpose,
        closes=study.closes,
        created=datetime.now(UTC),
        sites=tuple(_site(out, site, imported[site.name], releases[site.name]) for site in sites),
        dataset=DatasetData(version=dataset["version"], pairs=dataset["pairs"], sha256=dataset["sha256"]),
        matrix=_matrix(answers, [site.name for site in sites]),
        arms=arms,
        egress=egress,
        seconds=meter.seconds,
        peak_rss_mb=peaks,
        notes=tuple(notes),
        settings={
            "image": f"{study.image.size_px} x {study.image.size_px} px, {study.image.channels} channels",
            "generator": f"{study.generator.kind}, preset {study.generator.preset}, "
            f"{study.generator.samples_per_case} pairs a case",
            "style": "none" if study.style.kind == "none" else f"{study.style.kind} from {study.style.source}",
            "screening": "six checks for copies of images and parts, with limits from each site's hold-out and planted "
            "controls; burned-in text; plausibility",
            "network": f"UNet++, {study.evaluation.encoder}, {study.evaluation.steps} steps of "
            f"{study.evaluation.batch_size} in every arm",
        },
    )
    write_atomic(out / "report.html", render(report).encode())


def _arms(answers: Answers) -> dict[str, dict[str, Metrics]]:
    """arm -> site -> metrics; synthetic_own is a site's own pairs on its own hold-out."""
    arms: dict[str, dict[str, Metrics]] = {}
    for answer in answers:
        if answer["metrics"] and (answer["arm"] != "synthetic_own" or answer["trained_on"] == answer["site"]):
            arms.setdefault(answer["arm"], {})[answer["site"]] = Metrics(**answer["metrics"])
    return arms


def _row_name(answer: Mapping[str, Any]) -> str:
    return str(answer["trained_on"] or "own real")


def _plain_matrix(answers: Answers) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for answer in answers:
        rows.setdefault(_row_name(answer), {})[answer["site"]] = answer["metrics"] or {"refused": answer["code"]}
    return rows


def _matrix(answers: Answers, sites: Sequence[str]) -> tuple[MatrixRow, ...]:
    cells: dict[str, dict[str, Cell]] = {}
    for answer in answers:
        metrics = Metrics(**answer["metrics"]) if answer["metrics"] else None
        cell = Cell(metrics=metrics, reason="" if metrics else public_text(answer["code"]))
        cells.setdefault(_row_name(answer), {})[answer["site"]] = cell
    rows = [MatrixRow(kind="site", site=name, cells=cells[name]) for name in sites if name in cells]
    if "pooled" in cells:
        rows.append(MatrixRow(kind="pooled", cells=cells["pooled"]))
    if "own real" in cells:
        rows.append(MatrixRow(kind="own_real", cells=cells["own real"]))
    return tuple(rows)


def _egress(site: SiteParty, counted: Mapping[str, int]) -> dict[str, int]:
    """kind -> bytes; the kinds add up to every byte that passed the site's relays.

    Messages are counted by the site's own software, the total outside of it; what is left between them is Flower's
    polling, heartbeats and node signatures on the one hand, and TLS and framing on the other.
    """
    answers = counted.get("flower:query.study", 0)
    metrics = counted.get("flower:evaluate.measurement", 0)
    enrolment, bundle, checkpoint = (counted.get(kind, 0) for kind in ("enrolment", "bundle", "checkpoint"))
    return {
        "release bundle": bundle,
        "enrolment (public keys, requests)": enrolment,
        "ends of the journals (lengths, digests)": checkpoint,
        "answers to the study": answers,
        "metrics": metrics,
        "Flower: polling, heartbeats, TLS": site.fleet.sent - answers - metrics,
        "gRPC: TLS and framing": site.enrolment.sent + site.releases.sent - enrolment - bundle - checkpoint,
    }


def _site(out: Path, site: SiteParty, imported: Mapping[str, Any], release: Mapping[str, Any]) -> SiteData:
    privacy = PrivacyStatement.model_validate(
        json.loads((out / "dataset" / "dataset.json").read_text(encoding="utf-8"))["privacy"][site.name]
    )
    pairs = _released_pairs(out / "dataset", site.name)
    shown = pairs[:: max(1, len(pairs) // SHEET_PAIRS)][:SHEET_PAIRS]
    report = release["report"]
    return SiteData(
        name=site.name,
        cases=imported["cases"],
        patients=imported["patients"],
        training_patients=imported["training_patients"],
        holdout_patients=imported["holdout_patients"],
        sampled=report["sampled"],
        released=release["pairs"],
        privacy_label=privacy.label(),
        privacy_sentences=tuple(privacy.sentences()),
        approved_by=(STEWARD,),
        rejected=report["rejected"],
        sheet_png=contact_sheet(shown, columns=8, cell_px=112) if shown else None,
        sheet_pairs=len(shown),
    )


def _released_pairs(folder: Path, site: str) -> list[Pair]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        stems = [row["stem"] for row in csv.DictReader(file) if row["site"] == site]
    return [
        Pair(
            decode_png((folder / "images" / f"{stem}.png").read_bytes()),
            decode_png((folder / "masks" / f"{stem}.png").read_bytes()),
        )
        for stem in stems
    ]


def _notes(imported: Mapping[str, Mapping[str, Any]], *, real: bool) -> list[str]:
    notes = [
        f"This is the demo: three sites on one machine, and floors lowered to {MIN_PATIENTS} training and "
        f"{MIN_HOLDOUT_PATIENTS} hold-out patients. A hospital's defaults are 20 and 10.",
        "The releases were approved by demo-steward, which is a script. At a hospital a person looks and decides.",
    ]
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
