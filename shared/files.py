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
    with _beside(path, data, mode) as partial:
        partial.replace(path)


def write_private(path: Path, data: bytes, *, exclusive: bool = False) -> None:
    """Writes data likewise, for its owner only (0600). exclusive: raises FileExistsError rather than overwrite."""
    if exclusive:
        with _beside(path, data, 0o600) as partial:
            if not linked(partial, path):  # a file system without links: the second best
                if path.exists():
                    raise FileExistsError(path)
                partial.replace(path)
    else:
        write_atomic(path, data, mode=0o600)


@contextlib.contextmanager
def _beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """Yields a flushed file of the data, to be given its name; then flushes the folder."""
    # One for each writer: of two that write the same file at once, either may be last, and neither sees half of it.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_native_id()}.partial")
    with room_for(path):
        try:
            _write(partial, data, mode)
            yield partial
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(path.parent)


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def linked(file: Path, path: Path) -> bool:
    """Makes path another name of the file; False where the disk is another, or has no links.

    Raises FileExistsError where the name is taken.
    """
    try:
        path.hardlink_to(file)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


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


def sync_tree(folder: Path) -> None:
    """Flushes a folder with all that lies in it."""
    for member in folder.rglob("*"):
        sync_folder(member) if member.is_dir() else sync_file(member)
    sync_folder(folder)


def durable_folder(path: Path) -> Path:
    """Makes a folder, and those above it, so that a power cut leaves them; returns it."""
    missing = [folder for folder in path.parents if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    # Its own name also where it was there: whoever made it may have been killed before this.
    for folder in [*reversed(missing), path]:
        try:
            sync_folder(folder.parent)
        except OSError as error:
            # Not ours to read, or where nothing can be written: its owner's care.
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL, errno.EROFS):
                raise
    return path


def delete_folder(folder: Path) -> bool:
    """Deletes a folder, so that no power cut brings it back; False where something of it could not be deleted."""
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        sync_folder(folder.parent)
    return not folder.exists()


def private_folder(path: Path) -> Path:
    """Makes a folder that only its owner can enter (0700), and returns it."""
    durable_folder(path)
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
            durable_folder(path.parent)
            partial.mkdir()
            yield partial
            sync_tree(partial)
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
