"""The way without a network: sealed bundles onto a medium that people carry, and receipts back from it.

What goes onto it is what the link would send, byte for byte. From its export on a bundle counts as on its way, so that
it can be taken back only by a revocation, as after the first byte of an upload; it counts as accepted when its receipt
has come back, and never before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.bundle import Manifest, object_path
from shared.documents import MAX_DOCUMENT_BYTES, parse
from shared.errors import SynthwardError
from shared.files import whole_folder
from shared.identity import public_key
from shared.pairs import sha256_hex
from shared.portable import BUNDLES, MOST_SIGNATURE_BYTES, RECEIPTS, names_in, read_plain
from site_node.jobs import Queue
from site_node.receipts import check_receipt
from site_node.settings import Home


@dataclass(frozen=True)
class Read:
    """What became of a receipt. code: why it was refused; empty where it holds."""

    bundle_sha256: str
    code: str


def export(home: Home, queue: Queue, target: Path) -> list[str]:
    """Copies every bundle that waits for its receipt to target/bundles/; their digests, also of those there already.

    Raises storage.damaged where the outbox is not what was sealed, storage.full.
    """
    exported = []
    for row in queue.offered("waiting", "sending"):
        sha256 = row.bundle_sha256
        if not queue.start_sending(sha256):
            continue  # withdrawn a moment ago
        exported.append(sha256)
        place = target / BUNDLES / sha256
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            with whole_folder(place) as folder:
                size = _copy(home.outbox / sha256, folder)
            queue.count_egress("exported", size)
            queue.record("operator", "export-bundle", sha256)
    return exported


def take_receipts(home: Home, queue: Queue, source: Path) -> list[Read]:
    """Takes receipts back that belong to bundles of this site's; each is believed only for its signature.

    Raises portable.file where the medium has no receipts at all.
    """
    key = public_key(bytes.fromhex(home.membership().coordinator_key))
    waiting = {row.bundle_sha256 for row in queue.offered("waiting", "sending")}
    read = []
    for sha256 in names_in(source / RECEIPTS, ".json"):
        if sha256 not in waiting:
            continue  # another site's, or taken already
        try:
            payload = read_plain(source / RECEIPTS / f"{sha256}.json", most_bytes=MAX_DOCUMENT_BYTES)
            signature = read_plain(source / RECEIPTS / f"{sha256}.sig", most_bytes=MOST_SIGNATURE_BYTES)
            manifest = parse(Manifest, (home.outbox / sha256 / "manifest.json").read_bytes())
            check_receipt(key, manifest, payload, signature)
        except SynthwardError as error:
            queue.record("operator", "receipt-refused", sha256, error.code)
            read.append(Read(sha256, error.code))
            continue
        queue.settle(sha256, "accepted", code="", receipt=payload, signature=signature)
        read.append(Read(sha256, ""))
    return read


def _copy(source: Path, folder: Path) -> int:
    """Copies a sealed bundle and compares each digest; how many bytes that was."""
    payload = (source / "manifest.json").read_bytes()
    if sha256_hex(payload) != source.name:
        raise _changed(source.name)
    (folder / "manifest.json").write_bytes(payload)
    (folder / "manifest.sig").write_bytes((source / "manifest.sig").read_bytes())
    (folder / "objects").mkdir()
    size = len(payload) + MOST_SIGNATURE_BYTES
    for name in parse(Manifest, payload).objects():
        data = object_path(source, name).read_bytes()
        if sha256_hex(data) != name:
            raise _changed(source.name)
        object_path(folder, name).write_bytes(data)
        size += len(data)
    return size


def _changed(sha256: str) -> SynthwardError:
    return SynthwardError(
        "storage.damaged", f"bundle {sha256} has changed in the outbox", do="look at the disk; the release is not lost"
    )
