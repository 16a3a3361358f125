"""A backup of the coordinator: one folder, whole or not there, made while the service runs.

    backup.json      what this is: when, whose, where the journal ended, the digest of every file but the objects
    store.db         the database, by SQLite's online backup: one moment of it, whatever is written meanwhile
    objects/         every object that this database names, each read again and compared with its digest
    flower/state.db  which nodes the SuperLink knows, or sites would have to enrol again
    quarantine/      refused bundles, as they came
    settings.toml, keys/   only where asked for: whoever has the keys is this coordinator

The database comes first. What it names was stored before it was named and is never changed, so nothing that is
accepted in the meantime can leave a gap. Bundles that are only halfway in are left out: their sites send them again.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field
from sqlalchemy import make_url, select

from coordinator.settings import Home
from coordinator.store import schema
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared import checkpoint
from shared.bundle import Manifest
from shared.checkpoint import Head
from shared.database import sqlite_url
from shared.documents import canonical, parse
from shared.errors import SynthwardError
from shared.files import whole_folder, write_private
from shared.identity import load_signing_key, public_bytes
from shared.pairs import sha256_hex
from shared.study import Document, Sha256, Slug

BACKUP_FILE = "backup.json"
DATABASE_FILE = "store.db"
Report = Callable[[str, int, int], None]


class Backup(Document):
    """What a backup says of itself. files: path in the folder -> SHA-256, of all files but this one and the objects."""

    format: Literal["synthward.backup/1"] = "synthward.backup/1"
    made_at: datetime
    name: Slug
    coordinator_key: Sha256  # 64 hexadecimal digits, as the key too has
    journal: Head
    objects: int = Field(ge=0)
    with_keys: bool
    files: dict[str, Sha256]


def make_backup(home: Home, target: Path, *, with_keys: bool, report: Report) -> Backup:
    """Writes a backup to target, a folder that must not be there yet.

    Raises backup.exists, backup.elsewhere (a database or objects that are not in files of this machine),
    storage.damaged (an object is not what it was), storage.full.
    """
    settings = home.settings()
    database = _database(home)
    if target.exists():
        raise SynthwardError("backup.exists", f"{target} is there already", do="name a folder that is not there yet")
    objects = _objects(home)
    with whole_folder(target.resolve()) as folder:
        folder.chmod(0o700)
        _copy_database(database, folder / DATABASE_FILE)
        if (home.flower / "state.db").exists():
            (folder / "flower").mkdir()
            _copy_database(home.flower / "state.db", folder / "flower" / "state.db")
        with opened(folder / DATABASE_FILE) as store:
            names, refused = named_objects(store), _quarantined(store)
            with store.reading.begin() as connection:
                journal = checkpoint.head(connection, schema.journal)
        _settle(folder / DATABASE_FILE)
        for sha256 in refused:
            _copy_tree(home.quarantine / sha256, folder / "quarantine" / sha256)
        if with_keys:
            _copy_tree(home.keys, folder / "keys")
            write_private(folder / "settings.toml", home.settings_file.read_bytes())
        for done, name in enumerate(names, start=1):
            put_object(folder, name, objects.get(name))
            report("objects", done, len(names))
        backup = Backup(
            made_at=datetime.now(UTC),
            name=settings.name,
            coordinator_key=public_bytes(load_signing_key(home.keys / "signing.key").public_key()).hex(),
            journal=journal,
            objects=len(names),
            with_keys=with_keys,
            files={path: sha256_hex((folder / path).read_bytes()) for path in _files(folder)},
        )
        write_private(folder / BACKUP_FILE, canonical(backup))
    return backup


@contextlib.contextmanager
def opened(database: Path) -> Iterator[Store]:
    """The store in a database file, closed at the end, so that the file is all that there is of it."""
    store = Store(sqlite_url(database))
    try:
        yield store
    finally:
        store.engine.dispose()


def named_objects(store: Store) -> list[str]:
    """Digests of all objects of bundles that were ever accepted: one that was taken back may still be in a dataset."""
    query = select(schema.bundles.c.manifest).where(schema.bundles.c.receipt.is_not(None))
    with store.reading.begin() as connection:
        manifests = [parse(Manifest, bytes(row.manifest)) for row in connection.execute(query)]
    return sorted({name for manifest in manifests for name in manifest.objects()})


def put_object(folder: Path, name: str, data: bytes) -> None:
    """Writes an object where an object store in this folder looks for it; whoever writes the folder flushes it."""
    path = folder / "objects" / name[:2] / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _database(home: Home) -> Path:
    url = make_url(home.database_url())
    if url.get_backend_name() != "sqlite":
        raise SynthwardError(
            "backup.elsewhere",
            f"the database is not a file here, but {url.get_backend_name()} at {url.host}",
            why="only its own tools copy it as it is at one moment, while it is in use",
            do=f"run: pg_dump --format=custom --file=store.dump {url.database}; then copy the objects and keys/",
        )
    path = Path(url.database or "")
    if not path.is_file():
        raise SynthwardError("storage.damaged", f"there is no database at {path}", do="correct database_url")
    return path


def _objects(home: Home) -> ObjectStore:
    if not home.objects_url().startswith("file://"):
        raise SynthwardError(
            "backup.elsewhere",
            "the objects are not files here, but in an object store of its own",
            why="a copy of it would be in the wrong place, and restoring one would overwrite it",
            do="turn on versioning there, or copy the bucket with its own tools",
        )
    return ObjectStore(home.objects_url())


def _copy_database(source: Path, target: Path) -> None:
    """One moment of a database that others may be writing to, in one plain file."""
    with contextlib.closing(sqlite3.connect(source)) as live, contextlib.closing(sqlite3.connect(target)) as copy:
        live.execute("PRAGMA busy_timeout=30000")
        live.backup(copy)
    target.chmod(0o600)
    _settle(target)


def _settle(database: Path) -> None:
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")  # no -wal beside it, from now on and after each reading


def _quarantined(store: Store) -> list[str]:
    query = select(schema.bundles.c.sha256).where(schema.bundles.c.state == "quarantined")
    with store.reading.begin() as connection:
        return [row.sha256 for row in connection.execute(query)]


def _copy_tree(source: Path, target: Path) -> None:
    """The plain files of a folder of ours, for their owner only; what else lies there is not followed."""
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.is_symlink():
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch(mode=0o600)
            place.write_bytes(path.read_bytes())


def _files(folder: Path) -> list[str]:
    paths = (PurePosixPath(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(str(path) for path in paths if path.parts[0] != "objects")
