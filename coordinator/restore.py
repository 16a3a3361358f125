"""Puts a backup in the place of a coordinator that was lost: copied, checked as a copy, and only then put in place.

The checks find damage: a file, an object, an entry of the journal or a signature that is not what it was. They do not
find that somebody who holds the coordinator's key has written a backup, nor that there was a newer one; for the latter
each site has its own note of our journal and says so at its next call.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, select
from sqlalchemy.exc import DatabaseError

from coordinator.backup import BACKUP_FILE, DATABASE_FILE, Backup, Report, named_objects, opened, put_object
from coordinator.datasets.build import Dataset
from coordinator.settings import COMMENTS, Home
from coordinator.store import schema
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared import checkpoint, journal
from shared.bundle import Receipt
from shared.checkpoint import Head
from shared.documents import parse, verify
from shared.errors import SynthwardError
from shared.files import private_folder, whole_folder, write_atomic, write_private
from shared.identity import public_key
from shared.pairs import sha256_hex
from shared.settings_files import to_toml

_PLACES = frozenset({"keys", "flower", "quarantine"})


@dataclass(frozen=True)
class Restored:
    """What was put in place. age: since the backup was made; moved: settings that named another place are emptied."""

    backup: Backup
    age: timedelta
    moved: tuple[str, ...]


def restore(source: Path, home: Home, *, report: Report) -> Restored:
    """Restores a backup into a home that is empty or not there; on any failure nothing is there.

    Raises backup.exists, storage.damaged, trust.journal, trust.signature, document.malformed, storage.full.
    """
    if home.path.exists() and (not home.path.is_dir() or any(home.path.iterdir())):
        raise SynthwardError(
            "backup.exists",
            f"{home.path} is not empty",
            why="a restored coordinator must not be mixed with another, and what is there may be the newer one",
            do="move it away, or restore into a new folder",
        )
    backup = read_backup(source)
    with whole_folder(home.path.resolve()) as folder:
        place = Home(folder)
        for part in (folder, place.keys, place.incoming, place.quarantine, place.flower, place.logs):
            private_folder(part)
        for path, sha256 in backup.files.items():
            _copy(source / path, folder / _checked(path), sha256)
        moved = _bring_home(place) if backup.with_keys else ()
        try:
            with opened(folder / DATABASE_FILE) as store:
                _check_records(store, backup)
                _copy_objects(source, folder, store, report)
                store.record("operator", "restore", backup.name, backup.made_at.isoformat())
        except DatabaseError as error:
            raise SynthwardError(
                "storage.damaged", "the backup's database cannot be read", do="take an older backup"
            ) from error
    return Restored(backup, datetime.now(UTC) - backup.made_at, moved)


def read_backup(source: Path) -> Backup:
    """What a backup says of itself. Raises storage.damaged where there is none, document.malformed."""
    try:
        return parse(Backup, (source / BACKUP_FILE).read_bytes())
    except OSError as error:
        raise SynthwardError("storage.damaged", f"{source} holds no whole backup", do="name its folder") from error


def _checked(path: str) -> PurePosixPath:
    """A path that leads where a backup has files, and nowhere else."""
    parts = PurePosixPath(path).parts
    known = path in (DATABASE_FILE, "settings.toml") or (len(parts) > 1 and parts[0] in _PLACES)
    if not known or ".." in parts or str(PurePosixPath(path)) != path:
        raise SynthwardError("storage.damaged", f"the backup names a file where none of ours lies: {path!r}")
    return PurePosixPath(path)


def _copy(source: Path, target: Path, sha256: str) -> None:
    try:
        data = source.read_bytes()
    except OSError as error:
        raise SynthwardError("storage.damaged", f"{source} cannot be read", do="take another backup") from error
    if sha256_hex(data) != sha256:
        raise SynthwardError("storage.damaged", f"{source} has changed", do="take another backup")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_private(target, data)


def _copy_objects(source: Path, folder: Path, store: Store, report: Report) -> None:
    names, objects = named_objects(store), ObjectStore(f"file://{source.resolve() / 'objects'}")
    for done, name in enumerate(names, start=1):
        put_object(folder, name, objects.get(name))
        report("objects", done, len(names))


def _bring_home(place: Home) -> tuple[str, ...]:
    """Settings that named a database or objects in another folder: what is restored lies in this one."""
    settings = place.settings()
    moved = tuple(key for key in ("database_url", "objects_url") if getattr(settings, key))
    if moved:
        values = settings.model_dump(mode="json") | dict.fromkeys(moved, "")
        write_atomic(place.settings_file, to_toml(values, comments=COMMENTS).encode(), mode=0o600)
    return moved


def _check_records(store: Store, backup: Backup) -> None:
    """Whether the database is whole in itself, and the one of which the backup speaks."""
    key = public_key(bytes.fromhex(backup.coordinator_key))
    with store.reading.begin() as connection:
        if connection.exec_driver_sql("PRAGMA integrity_check").scalar() != "ok":
            raise _differs("database")
        chain = journal.entries(connection, schema.journal)
        if Head(entries=len(chain), sha256=journal.verify(chain)) != backup.journal:
            raise _differs("journal")
        _check_signed(connection, key)
        _check_datasets(connection, set(named_objects(store)))
        _check_checkpoints(connection, chain)


def _check_signed(connection: Connection, key: Ed25519PublicKey) -> None:
    for study in connection.execute(select(schema.studies)):
        _same("study", bytes(study.payload), study.sha256)
        verify(key, "study", bytes(study.payload), bytes(study.signature))
    for bundle in connection.execute(select(schema.bundles)):
        _same("manifest", bytes(bundle.manifest), bundle.sha256)
        if bundle.receipt is not None:
            verify(key, "receipt", bytes(bundle.receipt), bytes(bundle.receipt_signature))
            if parse(Receipt, bytes(bundle.receipt)).bundle_sha256 != bundle.sha256:
                raise _differs("receipt")
    for revoked in connection.execute(select(schema.revocations)):
        verify(key, "revocation-receipt", bytes(revoked.receipt), bytes(revoked.receipt_signature))


def _check_datasets(connection: Connection, names: set[str]) -> None:
    for row in connection.execute(select(schema.datasets)):
        _same("dataset", bytes(row.payload), row.sha256)
        if not {name for pair in parse(Dataset, bytes(row.payload)).pairs for name in (pair.image, pair.mask)} <= names:
            raise _differs("dataset")


def _check_checkpoints(connection: Connection, chain: list[journal.Entry]) -> None:
    """What we hold of the sites' journals is what our own journal says that we took in."""
    taken_in = {(entry.subject, entry.detail) for entry in chain if entry.action == "checkpoint"}
    for row in connection.execute(select(schema.checkpoints)):
        heads = (row.link_entries, row.link_sha256), (row.trainer_entries, row.trainer_sha256)
        detail = " ".join(checkpoint.finding(Head(entries=entries, sha256=sha256)) for entries, sha256 in heads)
        if (row.site, detail) not in taken_in:
            raise _differs("checkpoint")


def _same(what: str, payload: bytes, sha256: str) -> None:
    if sha256_hex(payload) != sha256:
        raise _differs(what)


def _differs(what: str) -> SynthwardError:
    return SynthwardError(
        "storage.damaged",
        f"a {what} in the backup's database is not what was stored",
        why="it was damaged or changed after the backup was made",
        do="take an older backup, and keep this one to compare",
    )
