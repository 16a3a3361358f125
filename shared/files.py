"""Files that are whole or not there: written beside their place, flushed to the disk, then renamed into it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from shared.errors import SynthwardError


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Writes data so that path holds all of it or what it held before. Raises storage.full when there is no room."""
    # One for each writer: of two that write the same file at once, either may be last, and neither sees half of it.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.partial")
    with room_for(path):
        try:
            _write(partial, data, mode, os.O_TRUNC)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_private(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Writes data for its owner only (0600). exclusive: raises FileExistsError rather than overwrite."""
    if exclusive:
        with room_for(path):
            _write(path, data, 0o600, os.O_EXCL)
            sync_folder(path.parent)
    else:
        write_atomic(path, data, mode=0o600)


def _write(path: Path, data: bytes, mode: int, flag: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Flushes a folder, so that a rename inside it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Flushes a file's bytes."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def private_folder(path: Path) -> Path:
    """Makes a folder that only its owner can enter (0700), and returns it."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder that becomes path at the end; on any failure nothing is left and path is not there.

    Raises storage.full when the disk has no room.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with room_for(path):
            partial.mkdir(parents=True)
            yield partial
            for member in partial.rglob("*"):
                sync_folder(member) if member.is_dir() else sync_file(member)
            sync_folder(partial)
            partial.rename(path)
            sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def room_for(path: Path) -> Iterator[None]:
    """Turns a full disk or quota into storage.full, which says what to do."""
    try:
        yield
    except OSError as error:
        # EFBIG: the limit on a process's files (ulimit -f, LimitFSIZE=) is a quota too.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise SynthwardError(
                "storage.full",
                f"no room to write {path}",
                why="the file would be incomplete, so nothing was kept of it",
                do="free some space, then run the same command again",
            ) from error
        raise
