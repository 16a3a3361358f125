"""Dataset versions: an immutable union of accepted releases, named by the digest of its contents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from coordinator.store.objects import ObjectStore
from coordinator.store.revocations import revocations
from coordinator.store.store import Store
from shared.bundle import Manifest
from shared.documents import canonical, parse
from shared.errors import SynthwardError
from shared.pairs import Pair, sha256_hex
from shared.png import decode_png
from shared.privacy import PrivacyStatement
from shared.revocation import Revocation
from shared.study import Document, Sha256, Slug


class DatasetPair(Document):
    """One pair and the site that let it out."""

    site: Slug
    image: Sha256
    mask: Sha256


class Dataset(Document):
    """A version. `pairs` are sorted, so equal releases give equal bytes and one digest."""

    format: Literal["synthward.dataset/1"] = "synthward.dataset/1"
    study_sha256: Sha256
    bundles: tuple[Sha256, ...] = Field(min_length=1)
    privacy: dict[Slug, PrivacyStatement]
    pairs: tuple[DatasetPair, ...] = Field(min_length=1)

    def of_site(self, site: str) -> list[DatasetPair]:
        """The pairs of one site."""
        return [pair for pair in self.pairs if pair.site == site]


def build(store: Store, study_sha256: str, *, actor: str) -> tuple[int, str, Dataset]:
    """(version, SHA-256, dataset) of all accepted releases that their sites have not taken back.

    The same releases give the version that is there already. Raises dataset.empty.
    """
    rows = store.bundles(study_sha256, "accepted")
    if not rows:
        raise SynthwardError("dataset.empty", "no release of this study was accepted yet", do="see: study status")
    manifests = [parse(Manifest, bytes(row.manifest)) for row in rows]
    dataset = Dataset(
        study_sha256=study_sha256,
        bundles=tuple(sorted(row.sha256 for row in rows)),
        privacy={manifest.site: manifest.privacy for manifest in manifests},
        pairs=tuple(
            sorted(
                (DatasetPair(site=m.site, image=p.image, mask=p.mask) for m in manifests for p in m.pairs),
                key=lambda pair: (pair.site, pair.image),
            )
        ),
    )
    payload = canonical(dataset)
    sha256 = sha256_hex(payload)
    known = store.datasets(study_sha256)
    for row in known:
        if row.sha256 == sha256:
            return row.version, sha256, dataset
    version = len(known) + 1
    store.add_dataset(study_sha256, sha256, version, payload, actor=actor)
    return version, sha256, dataset


def load(store: Store, study_sha256: str, version: int) -> tuple[int, Dataset]:
    """(version, dataset) of a version that was built; 0 is the newest. Raises dataset.unknown or dataset.revoked.

    A version that holds a release which was taken back is kept, and neither handed on nor trained on again.
    """
    for row in reversed(store.datasets(study_sha256)):
        if version in (0, row.version):
            dataset = parse(Dataset, bytes(row.payload))
            check_none_revoked(dataset.bundles, revocations(store), f"version {row.version}")
            return row.version, dataset
    raise SynthwardError("dataset.unknown", f"there is no version {version or ''}", do="run: dataset build")


def check_none_revoked(bundles: Iterable[str], revoked: Iterable[Revocation], what: str) -> None:
    """Raises dataset.revoked, naming the releases among these bundles that were taken back."""
    held = frozenset(bundles)
    gone = [line for line in revoked if line.bundle_sha256 in held]
    if gone:
        names = ", ".join(f"{line.bundle_sha256} of {line.site} on {line.revoked_on.isoformat()}" for line in gone)
        raise SynthwardError(
            "dataset.revoked",
            f"{what} holds {len(gone)} of {len(held)} releases that their sites have taken back: {names}",
            why="a patient behind them may have withdrawn consent",
            do="use it no more; the coordinator builds a version without them: dataset build",
        )


def read_pair(objects: ObjectStore, line: DatasetPair) -> Pair:
    """The pixels of a pair, checked against their digests."""
    return Pair(decode_png(objects.get(line.image)), decode_png(objects.get(line.mask)))
