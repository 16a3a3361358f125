"""What a receiver can ask of an exported version: is it whole and unchanged, and is any of its releases taken back?

Needs neither the coordinator's folder nor a network: only the exported folder, and for the second question the signed
list that the coordinator hands out, and its key.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.datasets.build import Dataset, DatasetPair
from shared.documents import parse
from shared.errors import SynthwardError
from shared.pairs import sha256_hex


@dataclass(frozen=True)
class Verified:
    """A folder that holds what it says. sha256: of dataset.json, to compare with what the coordinator told."""

    dataset: Dataset
    sha256: str


def verify_export(folder: Path) -> Verified:
    """Recomputes every digest of an exported version. Raises dataset.damaged, naming the first misfit."""
    payload = _read(folder / "dataset.json")
    try:
        dataset = parse(Dataset, payload)
    except SynthwardError as error:
        raise _damaged("dataset.json is not a dataset of this version", error.what) from error
    listed = list(_index(folder / "index.csv"))
    if [pair for _, pair in listed] != list(dataset.pairs):
        raise _damaged("index.csv does not list the pairs of dataset.json")
    for kind in ("images", "masks"):
        expected = {f"{stem}.png": getattr(pair, kind.removesuffix("s")) for stem, pair in listed}
        if len(expected) != len(listed):
            raise _damaged("index.csv gives two pairs one name")
        found = {path.name for path in (folder / kind).iterdir()} if (folder / kind).is_dir() else set()
        for name in sorted(found ^ expected.keys()):
            raise _damaged(f"{kind}/{name} is {'not listed' if name in found else 'missing'}")
        for name, digest in expected.items():
            if sha256_hex(_read(folder / kind / name)) != digest:
                raise _damaged(f"{kind}/{name} was changed")
    return Verified(dataset, sha256_hex(payload))


def _index(path: Path) -> Iterator[tuple[str, DatasetPair]]:
    """(stem, pair) of each line."""
    try:
        for line in csv.DictReader(_read(path).decode("utf-8").splitlines(), strict=True):
            pair = DatasetPair(site=line["site"], image=line["image_sha256"], mask=line["mask_sha256"])
            yield line["stem"], pair
    except (KeyError, ValueError, csv.Error) as error:
        raise _damaged("index.csv cannot be read", type(error).__name__) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _damaged(f"{path} cannot be read", type(error).__name__) from error


def _damaged(what: str, why: str = "") -> SynthwardError:
    return SynthwardError(
        "dataset.damaged", what, why=why, do="get the version afresh from the coordinator, and compare the digests"
    )
