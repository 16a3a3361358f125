"""Export of a dataset version for a receiver: plain folders that any training code reads.

images/SITE-NNNNN.png   masks/SITE-NNNNN.png   index.csv   dataset.json   README.txt
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from coordinator.datasets.build import Dataset
from coordinator.store.objects import ObjectStore
from shared.documents import canonical
from shared.errors import SynthwardError
from shared.files import whole_folder
from shared.pairs import sha256_hex
from shared.study import Study


def export(objects: ObjectStore, dataset: Dataset, study: Study, version: int, target: Path) -> None:
    """Writes the version to target, whole or not at all. Raises settings.exists when target is there."""
    if target.exists():
        raise SynthwardError("settings.exists", f"{target} exists", do="name a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(target) as partial:
        for kind in ("images", "masks"):
            (partial / kind).mkdir()
        count: Counter[str] = Counter()
        with (partial / "index.csv").open("w", newline="", encoding="utf-8") as file:
            lines = csv.writer(file)
            lines.writerow(["stem", "site", "image_sha256", "mask_sha256"])
            for pair in dataset.pairs:
                count[pair.site] += 1
                stem = f"{pair.site}-{count[pair.site]:05d}"
                (partial / "images" / f"{stem}.png").write_bytes(objects.get(pair.image))
                (partial / "masks" / f"{stem}.png").write_bytes(objects.get(pair.mask))
                lines.writerow([stem, pair.site, pair.image, pair.mask])
        payload = canonical(dataset)
        (partial / "dataset.json").write_bytes(payload)
        (partial / "README.txt").write_text(
            _readme(dataset, study, version, sha256_hex(payload), count), encoding="utf-8"
        )


def _readme(dataset: Dataset, study: Study, version: int, sha256: str, count: Counter[str]) -> str:
    lines = [
        f"{study.title}: dataset version {version}",
        f"SHA-256 of dataset.json: {sha256}",
        "",
        f"{len(dataset.pairs)} synthetic pairs of {study.image.size_px} x {study.image.size_px} pixels.",
        "Every image was drawn by a generator. None shows a patient; each site's generators learned from its patients.",
        "Masks: 0 is background, 255 the lesion.",
        "",
        "A hospital can take a release back, for instance when a patient withdraws consent. From time to time, ask the",
        "coordinator for its signed list (synthward-coordinator revocations), and see whether you hold such a release:",
        "  synthward-coordinator dataset verify FOLDER --revocations LIST --coordinator-key KEY",
        "Use a version no more that does. Without the list, the command checks that every file is unchanged.",
        "",
    ]
    for site, statement in sorted(dataset.privacy.items()):
        lines += [f"{site}: {count[site]} pairs", f"  {statement.label()}", ""]
        lines += [f"  {sentence}" for sentence in statement.sentences()] + [""]
    return "\n".join(lines)
