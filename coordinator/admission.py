"""Admission: what must be true of a bundle before the coordinator keeps it.

A site is not trusted: its certificate says who it is, its manifest is parsed strictly and compared with the study, and
every object is decoded and encoded again before it reaches the object store. What fails is quarantined as it came and
never admitted; what is accepted is accepted once, by digest, and answered with a signed receipt.
"""

from __future__ import annotations

import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.claims import check_claim
from coordinator.revoking import check_not_revoked, read_revocation, take_back
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared.bundle import Manifest, Receipt, bundle_sha256, check_object, object_path
from shared.documents import canonical, parse, sign, verify
from shared.errors import ExitCode, SynthwardError
from shared.files import room_for, sync_folder, write_atomic
from shared.identity import public_key
from shared.pairs import sha256_hex
from shared.study import Study

MAX_BUNDLE_BYTES = 64 * 1024**3
MAX_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt's canonical JSON and the coordinator's signature."""

    payload: bytes
    signature: bytes


@dataclass(frozen=True)
class Missing:
    """An object of which bytes up to offset are stored."""

    sha256: str
    offset: int


class Admission:
    """Takes bundles in. `incoming` and `quarantine` are folders of the coordinator's own."""

    def __init__(
        self, store: Store, objects: ObjectStore, key: Ed25519PrivateKey, incoming: Path, quarantine: Path
    ) -> None:
        self._store = store
        self._objects = objects
        self._key = key
        self._incoming = incoming
        self._quarantine = quarantine
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def begin(self, site: str, payload: bytes, signature: bytes) -> SignedReceipt | list[Missing]:
        """Checks a manifest; answers with what is missing, or with the receipt of a bundle that is in already."""
        manifest = parse(Manifest, payload)
        sha256 = bundle_sha256(manifest)
        if manifest.site != site:
            raise SynthwardError("admission.site", f"site {site} sent a bundle that says it is {manifest.site}'s")
        verify(public_key(self._store.site(site).signing_key), "manifest", payload, signature)
        row = self._store.bundle(sha256)
        if row is not None and row.state == "accepted":
            return SignedReceipt(bytes(row.receipt), bytes(row.receipt_signature))
        if row is not None and row.state == "quarantined":
            raise SynthwardError("admission.quarantined", f"bundle {sha256} was refused before: {row.code}")
        self._check_against_study(manifest)
        with self._locks[sha256]:
            check_not_revoked(self._store, site, sha256)  # here, where no revocation can come in between
            folder = self._incoming / sha256
            (folder / "objects").mkdir(parents=True, exist_ok=True)
            write_atomic(folder / "manifest.json", payload)
            write_atomic(folder / "manifest.sig", signature)
            self._store.begin_bundle(sha256, manifest.study_sha256, site, payload, signature)
            return list(self._missing(folder, manifest))

    def upload(self, site: str, sha256: str) -> Upload:
        """Where the chunks of a begun bundle go. Raises admission.incomplete when this site has begun no such one."""
        return Upload(sha256, self._incoming / sha256, self._manifest(site, sha256), self._locks[sha256])

    def finish(self, site: str, sha256: str) -> SignedReceipt:
        """Admits the whole bundle, or quarantines it. Safe to repeat: an accepted bundle gives its receipt again."""
        manifest = self._manifest(site, sha256)
        with self._locks[sha256]:
            row = self._store.bundle(sha256)
            if row is not None and row.state == "accepted":
                return SignedReceipt(bytes(row.receipt), bytes(row.receipt_signature))
            folder = self._incoming / sha256
            missing = list(self._missing(folder, manifest))
            if missing:
                raise SynthwardError("admission.incomplete", f"{len(missing)} objects of {sha256} are missing")
            try:
                self._admit(folder, manifest)
            except SynthwardError as error:
                # Only what is wrong with the bundle: a full disk here is not the site's fault, and Finish comes again.
                if error.exit_code is ExitCode.INPUT:
                    self._put_in_quarantine(folder, sha256, error.code, site=site)
                raise
            receipt = self._receipt(sha256, manifest)
            stands = self._store.accept_bundle(sha256, receipt.payload, receipt.signature, site=site)
            shutil.rmtree(folder)  # the objects are in the store, the manifest in the database
            return SignedReceipt(*stands)

    def revoke(self, site: str, payload: bytes, signature: bytes) -> SignedReceipt:
        """Takes back one of the site's bundles, wherever it stands; what of it has arrived halfway is deleted."""
        revoked = read_revocation(self._store, site, payload, signature)
        sha256 = revoked.bundle_sha256
        with self._locks[sha256]:
            receipt = SignedReceipt(*take_back(self._store, self._key, revoked, payload, signature))
            shutil.rmtree(self._incoming / sha256, ignore_errors=True)
            return receipt

    def _check_against_study(self, manifest: Manifest) -> None:
        try:
            study = self._store.study(manifest.study_sha256).study
        except SynthwardError as error:
            raise SynthwardError("admission.study", "the bundle names a study that was never published") from error
        if datetime.now(UTC) >= study.closes:
            raise SynthwardError("admission.study", f"study {study.study_id} closed at {study.closes.isoformat()}")
        _compare(manifest, study)

    def _manifest(self, site: str, sha256: str) -> Manifest:
        row = self._store.bundle(sha256)
        # Somebody else's bundle and one that never began get the same answer.
        if row is None or row.site != site:
            raise SynthwardError("admission.incomplete", f"site {site} has begun no bundle {sha256}")
        if row.state == "quarantined":
            raise SynthwardError("admission.quarantined", f"bundle {sha256} was refused before: {row.code}")
        check_not_revoked(self._store, site, sha256)
        return parse(Manifest, bytes(row.manifest))

    def _missing(self, folder: Path, manifest: Manifest) -> Iterator[Missing]:
        for name in sorted(manifest.objects()):
            complete = object_path(folder, name)
            if not complete.exists():
                partial = complete.with_suffix(".part")
                yield Missing(name, partial.stat().st_size if partial.exists() else 0)

    def _admit(self, folder: Path, manifest: Manifest) -> None:
        masks = {pair.mask for pair in manifest.pairs}
        names = sorted(manifest.objects())
        for name in names:
            check_object(object_path(folder, name).read_bytes(), manifest, as_mask=name in masks)
        # Only now: a bundle that is refused at its last object must leave nothing in the store.
        for name in names:
            self._objects.put(name, object_path(folder, name).read_bytes())

    def _receipt(self, sha256: str, manifest: Manifest) -> SignedReceipt:
        receipt = Receipt(
            bundle_sha256=sha256,
            study_sha256=manifest.study_sha256,
            site=manifest.site,
            pairs=len(manifest.pairs),
            bytes=sum(manifest.objects().values()),
            accepted_at=datetime.now(UTC),
        )
        payload = canonical(receipt)
        return SignedReceipt(payload, sign(self._key, "receipt", payload))

    def _put_in_quarantine(self, folder: Path, sha256: str, code: str, *, site: str) -> None:
        target = self._quarantine / sha256
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
        self._store.quarantine_bundle(sha256, code, site=site)


class Upload:
    """Takes the objects of one bundle, chunk by chunk."""

    def __init__(self, sha256: str, folder: Path, manifest: Manifest, lock: threading.Lock) -> None:
        self.sha256 = sha256
        self._folder = folder
        self._sizes = manifest.objects()
        self._lock = lock

    def store_chunk(self, name: str, offset: int, data: bytes) -> bool:
        """Appends a chunk to an object; True when the object is complete, checked and durable."""
        size = self._sizes.get(name)
        if size is None:
            raise SynthwardError("admission.unexpected", f"bundle {self.sha256} names no such object")
        if len(data) > MAX_CHUNK_BYTES or offset + len(data) > size:
            raise SynthwardError("admission.size", f"a chunk goes beyond the {size} bytes stated for {name}")
        with self._lock:
            complete = object_path(self._folder, name)
            if complete.exists():
                return True
            partial = complete.with_suffix(".part")
            stored = partial.stat().st_size if partial.exists() else 0
            if offset != stored:
                raise SynthwardError("admission.offset", f"a chunk starts at {offset}, {stored} bytes are stored")
            with room_for(partial), partial.open("ab") as file:
                file.write(data)
            if offset + len(data) < size:
                return False
            _finish_object(partial, complete, name)
            return True


def _compare(manifest: Manifest, study: Study) -> None:
    """The manifest keeps to its study. Raises admission.study, admission.size, admission.floor, admission.epsilon."""
    stated = (
        manifest.size_px, manifest.channels, manifest.generator, manifest.preset, manifest.style, manifest.style_source,
        manifest.privacy.mode,
    )  # fmt: skip
    asked = (
        study.image.size_px, study.image.channels, study.generator.kind, study.generator.preset, study.style.kind,
        study.style.source, study.privacy.mode,
    )  # fmt: skip
    if stated != asked:
        raise SynthwardError("admission.study", f"the bundle states {stated}, the study asks for {asked}")
    if len(manifest.pairs) > study.release.max_pairs or sum(manifest.objects().values()) > MAX_BUNDLE_BYTES:
        raise SynthwardError("admission.size", f"the bundle has {len(manifest.pairs)} pairs, more than agreed")
    if manifest.training_patients < study.release.min_patients:
        raise SynthwardError("admission.floor", "the bundle comes from fewer patients than the study's floor")
    if manifest.privacy.dp is not None:
        check_claim(manifest.privacy.dp, study.privacy)


def _finish_object(partial: Path, complete: Path, name: str) -> None:
    data = partial.read_bytes()
    if sha256_hex(data) != name:
        partial.unlink()
        raise SynthwardError(
            "admission.digest", f"object {name} arrived changed", do="send it again from its first byte"
        )
    write_atomic(complete, data)  # flushed before its arrival is acknowledged
    partial.unlink()
    sync_folder(complete.parent)
