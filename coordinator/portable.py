"""Bundles from a medium: the same admission as over the wire, with the same quarantine and the same receipts.

Over the wire a certificate says who is calling. Here nobody calls: a bundle is its site's because the manifest is
signed with the key of a site that is enrolled and not revoked, which admission checks before it keeps anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coordinator.admission import Admission, SignedReceipt
from coordinator.capture import Capture
from coordinator.store.store import Store
from coordinator.upload import MAX_CHUNK_BYTES, Missing
from shared.bundle import Manifest, object_path
from shared.documents import MAX_DOCUMENT_BYTES, parse
from shared.errors import ExitCode, SynthwardError
from shared.files import write_atomic
from shared.pairs import sha256_hex
from shared.portable import BUNDLES, MOST_SIGNATURE_BYTES, RECEIPTS, check_folder, names_in, open_plain, read_plain


@dataclass(frozen=True)
class Outcome:
    """What became of a bundle on the medium. code: why it is not accepted."""

    bundle_sha256: str
    state: Literal["accepted", "refused"]
    code: str


class Importer:
    """Takes in what lies on a medium. capture: a copy for the operator's audit, as over the wire."""

    def __init__(self, store: Store, admission: Admission, capture: Capture) -> None:
        self._store = store
        self._admission = admission
        self._capture = capture

    def take_in(self, medium: Path) -> list[Outcome]:
        """Every bundle on the medium, each for itself, in order; receipts are written to the medium.

        A bundle that is in already gets its receipt again. Raises portable.file where there is no medium, storage.full.
        """
        outcomes = []
        for sha256 in names_in(medium / BUNDLES):
            try:
                receipt = self._take(sha256, medium / BUNDLES / sha256)
            except SynthwardError as error:
                if error.exit_code is ExitCode.STORAGE:
                    raise  # ours, not the bundle's
                self._store.record("operator", "import-refused", sha256, error.code)
                outcomes.append(Outcome(sha256, "refused", error.code))
                continue
            (medium / RECEIPTS).mkdir(exist_ok=True)
            check_folder(medium / RECEIPTS)
            write_atomic(medium / RECEIPTS / f"{sha256}.sig", receipt.signature)
            write_atomic(medium / RECEIPTS / f"{sha256}.json", receipt.payload)
            outcomes.append(Outcome(sha256, "accepted", ""))
        return outcomes

    def _take(self, sha256: str, folder: Path) -> SignedReceipt:
        check_folder(folder)
        payload = read_plain(folder / "manifest.json", most_bytes=MAX_DOCUMENT_BYTES)
        signature = read_plain(folder / "manifest.sig", most_bytes=MOST_SIGNATURE_BYTES)
        if sha256_hex(payload) != sha256:
            raise SynthwardError("admission.digest", f"the manifest in {folder.name} is another bundle's")
        site = parse(Manifest, payload).site
        if self._store.site(site).state != "active":
            raise SynthwardError("trust.revoked", f"site {site} was revoked")
        answer = self._admission.begin(site, payload, signature)
        self._capture.keep("bundle", site, payload + signature)
        if isinstance(answer, SignedReceipt):
            return answer
        check_folder(folder / "objects")
        upload = self._admission.upload(site, sha256)
        for missing in answer:
            for offset, data in _rest(folder, missing):
                self._capture.keep("bundle", site, data)
                upload.store_chunk(missing.sha256, offset, data)
        upload.settle()
        return self._admission.finish(site, sha256)


def _rest(folder: Path, missing: Missing) -> Iterator[tuple[int, bytes]]:
    """(offset, chunk) of what is missing of an object; a file that goes on beyond its size is admission's to refuse."""
    with open_plain(object_path(folder, missing.sha256)) as file:
        offset = file.seek(missing.offset)
        while data := file.read(MAX_CHUNK_BYTES):
            yield offset, data
            offset += len(data)
