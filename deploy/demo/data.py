"""The demo's data: phantoms for three sites, or a part of real folders, laid out as a hospital would have them."""

from __future__ import annotations

import csv
import re
from pathlib import Path

from shared.errors import SynthwardError
from site_node.phantoms.scenes import Look, write_site

PHANTOM_SITES: dict[str, Look] = {"north": "endoscopy_warm", "harbour": "endoscopy_cool", "valley": "fundus"}
FRAMES_A_PATIENT = 2


def phantom_folders(target: Path, *, cases: int, size_px: int) -> dict[str, Path]:
    """site -> folder of drawn pairs with a patients.csv, two frames a patient."""
    folders = {}
    for seed, (site, look) in enumerate(PHANTOM_SITES.items()):
        folder = target / site
        write_site(
            folder,
            look,
            patients=max(2, cases // FRAMES_A_PATIENT),
            cases_per_patient=FRAMES_A_PATIENT,
            size_px=size_px,
            seed=seed,
        )
        folders[site] = folder
    return folders


def real_folders(sources: list[Path], target: Path, *, cases: int) -> dict[str, Path]:
    """site -> folder with links to `cases` pairs of each source, spread evenly over it, and its patient keys.

    Nothing is copied: the links point at the source's files.
    """
    folders: dict[str, Path] = {}
    for source in sources:
        site = re.sub(r"[^a-z0-9]+", "-", source.name.lower()).strip("-")[:30] or "site"
        if site in folders:
            site = f"{site}-{len(folders) + 1}"
        folders[site] = _part(source, target / site, cases)
    return folders


def _part(source: Path, target: Path, cases: int) -> Path:
    images = {p.stem: p for p in sorted((source / "images").glob("*")) if not p.name.startswith(".")}
    masks = {p.stem: p for p in sorted((source / "masks").glob("*")) if not p.name.startswith(".")}
    stems = sorted(images.keys() & masks.keys())
    if not stems:
        raise SynthwardError(
            "intake.layout",
            f"{source} holds no pairs",
            do="name folders with images/ and masks/ that share their names",
        )
    count = min(cases, len(stems))
    chosen = [stems[i * len(stems) // count] for i in range(count)]
    for kind, paths in (("images", images), ("masks", masks)):
        (target / kind).mkdir(parents=True)
        for stem in chosen:
            (target / kind / paths[stem].name).symlink_to(paths[stem].resolve())
    patients = _patients(source)
    if patients:
        with (target / "patients.csv").open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["image", "patient"])
            lines.writerows([images[stem].name, patients.get(stem, stem)] for stem in chosen)
    return target


def _patients(source: Path) -> dict[str, str]:
    """stem -> patient key, from patients.csv or index.csv; empty when the source has neither."""
    for name, image, patient in (("patients.csv", "image", "patient"), ("index.csv", "stem", "group")):
        if (source / name).exists():
            with (source / name).open(newline="", encoding="utf-8") as file:
                return {Path(row[image]).stem: row[patient] for row in csv.DictReader(file)}
    return {}
