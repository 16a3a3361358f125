"""Admission: what must be true of a bundle before the coordinator keeps it.

A site is not trusted: its certificate says who it is, its manifest is parsed strictly and compared with the study, and
every object is decoded and encoded again before it reaches the object store. What fails is quarantined as it came and
never admitted; what is accepted is accepted once, by digest, and answered with a signed receipt.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from PIL import Image
from sqlalchemy import Row

from coordinator.doubts import LOOKED_AT, masks_are_doubtful
from coordinator.limits import DEFAULT, Limits
from coordinator.revoking import check_not_revoked, read_revocation, take_back
from coordinator.store.objects import ObjectStore
from coordinator.store.shares import Stated, begin_bundle, coming_in, count_older, free
from coordinator.store.store import Store
from coordinator.terms import check_terms
from coordinator.upload import Missing, Upload, missing_of
from shared.bundle import Manifest, PairEntry, Receipt, check_object, object_path
from shared.documents import canonical, parse, sign, verify
from shared.errors import ExitCode, SynthwardError
from shared.files import delete_folder, durable_folder, room_for, sync_folder, write_atomic
from shared.identity import public_key
from shared.pairs import Pair, sha256_hex
from shared.study import Study

LARGE_BYTES = 1024 * 1024  # of a manifest
_DECODED_TOGETHER = 4 * (os.cpu_count() or 1)
CLEARED_AFTER = timedelta(days=1)  # of a study's end, so that nobody is at work on what is deleted
DOUBT = "doubt-masks"  # the journal's word for a bundle whose masks do not seem to be its images'


@dataclass(frozen=True)
class SignedReceipt:
    """A receipt's canonical JSON and the coordinator's signature."""

    payload: bytes
    signature: bytes


class Admission:
    """Takes bundles in. `incoming` and `quarantine` are folders of the coordinator's own."""

    def __init__(
        self,
        store: Store,
        objects: ObjectStore,
        key: Ed25519PrivateKey,
        incoming: Path,
        quarantine: Path,
        limits: Limits = DEFAULT,
    ) -> None:
        count_older(store)
        self._store = store
        self._objects = objects
        self._key = key
        self._incoming = incoming
        self._quarantine = quarantine
        self._limits = limits
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._large = threading.Lock()  # a large manifest takes ten times its bytes while it is parsed: one at a time
        # Decoding costs more than all the rest together, outside of the interpreter's lock: every core takes part, and
        # however many sites finish at once, no more threads than cores are at it.
        self._decoders = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="decode")

    def begin(self, site: str, payload: bytes, signature: bytes) -> SignedReceipt | list[Missing]:
        """Checks a manifest; answers with what is missing, or with the receipt of a bundle that is in already.

        Raises admission.share or storage.full, with nothing kept, where there is no place for a further bundle.
        """
        with self._large if len(payload) > LARGE_BYTES else nullcontext():
            manifest = parse(Manifest, payload)
        sha256 = sha256_hex(payload)  # which is in canonical form, or would not have been parsed
        if manifest.site != site:
            raise SynthwardError("admission.site", f"site {site} sent a bundle that says it is {manifest.site}'s")
        verify(public_key(self._store.site(site).signing_key), "manifest", payload, signature)
        with self._locks[sha256]:  # so that no admission, refusal or revocation comes in between
            row = self._store.bundle(sha256)
            if row is not None and row.state == "accepted":
                return self._receipt_again(row)
            if row is not None and row.state == "quarantined":
                raise SynthwardError("admission.quarantined", f"bundle {sha256} was refused before: {row.code}")
            check_terms(manifest, self._open_study(manifest))
            check_not_revoked(self._store, site, sha256)
            folder, sizes = self._incoming / sha256, manifest.objects()
            missing = list(missing_of(folder, manifest))
            if missing:
                self._limits.check_room(self._incoming, sum(sizes[lacks.sha256] - lacks.offset for lacks in missing))
            # Counted before anything lies there: nothing ever does that is not counted.
            stated = Stated(sha256, manifest.study_sha256, site, payload, signature, sum(sizes.values()))
            begin_bundle(self._store, stated, self._limits)
            with room_for(folder):
                durable_folder(durable_folder(folder) / "objects")
            write_atomic(folder / "manifest.json", payload)
            write_atomic(folder / "manifest.sig", signature)
            return missing

    def upload(self, site: str, sha256: str) -> Upload:
        """Where the chunks of a begun bundle go. Raises admission.incomplete when this site has begun no such one."""
        manifest = self._manifest(site, sha256)
        return Upload(sha256, self._incoming / sha256, manifest, self._locks[sha256], self._limits)

    def finish(self, site: str, sha256: str) -> SignedReceipt:
        """Admits the whole bundle, or quarantines it. Safe to repeat: an accepted bundle gives its receipt again."""
        manifest = self._manifest(site, sha256)
        with self._locks[sha256]:
            row = self._store.bundle(sha256)
            if row is not None and row.state == "accepted":
                return self._receipt_again(row)
            self._open_study(manifest)
            folder = self._incoming / sha256
            missing = list(missing_of(folder, manifest))
            if missing:
                raise SynthwardError("admission.incomplete", f"{len(missing)} objects of {sha256} are missing")
            try:
                self._admit(folder, manifest)
            except SynthwardError as error:
                # Only what is wrong with the bundle: a full disk here is not the site's fault, and Finish comes again.
                if error.exit_code is ExitCode.INPUT:
                    self._put_in_quarantine(folder, sha256, error.code, site=site)
                raise
            # Before the bundle is accepted, so that none is without the entry that it deserves.
            if masks_are_doubtful([_look(folder, line) for line in manifest.pairs[:LOOKED_AT]]):
                self._store.record("coordinator", DOUBT, sha256, site)
            receipt = self._receipt(sha256, manifest)
            stands = self._store.accept_bundle(sha256, receipt.payload, receipt.signature, site=site)
            delete_folder(folder)  # the objects are in the store, the manifest in the database
            return SignedReceipt(*stands)

    def revoke(self, site: str, payload: bytes, signature: bytes) -> SignedReceipt:
        """Takes back one of the site's bundles, wherever it stands; what of it has arrived halfway is deleted."""
        revoked = read_revocation(self._store, site, payload, signature)
        sha256 = revoked.bundle_sha256
        with self._locks[sha256]:
            receipt = SignedReceipt(*take_back(self._store, self._key, revoked, payload, signature))
            # What was refused before stays in quarantine, and counted, until the operator discards it.
            if delete_folder(self._incoming / sha256) and not (self._quarantine / sha256).exists():
                free(self._store, sha256, actor=f"site:{site}", action="delete-bundle", detail="taken back")
            return receipt

    def clear_closed(self) -> None:
        """Deletes what came in halfway for studies that closed a day ago: it can be finished no more.

        Should the clock have been wrong, such a bundle begins again from its first byte.
        """
        for published in self._store.studies():
            if datetime.now(UTC) < published.study.closes + CLEARED_AFTER:
                continue
            for sha256 in coming_in(self._store, published.sha256):
                with self._locks[sha256]:
                    # In quarantine too: a kill after it was moved there has left it coming in by the books.
                    if delete_folder(self._incoming / sha256) and delete_folder(self._quarantine / sha256):
                        free(self._store, sha256, actor="coordinator", action="delete-bundle", detail="study closed")

    def _open_study(self, manifest: Manifest) -> Study:
        """The study to which a bundle says that it belongs. Raises admission.study, or policy.expired."""
        try:
            study = self._store.study(manifest.study_sha256).study
        except SynthwardError as error:
            if error.code != "study.unknown":
                raise  # a database that cannot be read now says nothing about the bundle
            raise SynthwardError("admission.study", "the bundle names a study that was never published") from error
        if datetime.now(UTC) >= study.closes:
            raise SynthwardError("policy.expired", f"study {study.study_id} closed at {study.closes.isoformat()}")
        return study

    def _manifest(self, site: str, sha256: str) -> Manifest:
        row = self._store.bundle(sha256)
        # Somebody else's bundle and one that never began get the same answer.
        if row is None or row.site != site:
            raise SynthwardError("admission.incomplete", f"site {site} has begun no bundle {sha256}")
        if row.state == "quarantined":
            raise SynthwardError("admission.quarantined", f"bundle {sha256} was refused before: {row.code}")
        check_not_revoked(self._store, site, sha256)
        return parse(Manifest, bytes(row.manifest))

    def _admit(self, folder: Path, manifest: Manifest) -> None:
        masks = {pair.mask for pair in manifest.pairs}
        files = {name: object_path(folder, name) for name in sorted(manifest.objects())}

        def check(name: str) -> None:
            check_object(files[name].read_bytes(), manifest, as_mask=name in masks)

        names = list(files)
        for start in range(0, len(names), _DECODED_TOGETHER):
            # A few at a time, so that a large bundle takes turns with those of other sites; in their order, so that
            # the first that is wrong is the one that is told.
            for _ in self._decoders.map(check, names[start : start + _DECODED_TOGETHER]):
                pass
        # Only now: a bundle that is refused at its last object must leave nothing in the store.
        for name, file in files.items():
            self._objects.put(name, file)

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

    def _receipt_again(self, row: Row[Any]) -> SignedReceipt:
        """The receipt of a bundle that is in; what a kill after its admission left lying is deleted."""
        delete_folder(self._incoming / row.sha256)
        return SignedReceipt(bytes(row.receipt), bytes(row.receipt_signature))

    def _put_in_quarantine(self, folder: Path, sha256: str, code: str, *, site: str) -> None:
        target = self._quarantine / sha256
        shutil.rmtree(target, ignore_errors=True)
        with room_for(target):
            folder.rename(target)
            sync_folder(self._quarantine)
        self._store.quarantine_bundle(sha256, code, site=site)


def _look(folder: Path, line: PairEntry) -> Pair:
    """A pair that was checked, without checking it again."""
    with Image.open(object_path(folder, line.image)) as image, Image.open(object_path(folder, line.mask)) as mask:
        return Pair(np.asarray(image), np.asarray(mask))
