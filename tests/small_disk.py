"""A disk that is full but for a few kilobytes, and has room again when a test says so."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SIZE_BYTES = 4 * 1024 * 1024
# A file's size is limited in place of the disk's room: what is written beside the test, its captured output for one,
# must still fit.
_LEAST_FILE_BYTES = 48 * 1024


class Tmpfs:
    """A file system of four megabytes in memory, filled with ballast. One side of a test alone meets its end."""

    only_one_side = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, free_bytes: int) -> None:
        """Leaves free_bytes, in whole pages."""
        state = os.statvfs(self.folder)
        self._ballast.write_bytes(bytes(max(0, state.f_bavail * state.f_frsize - free_bytes)))

    def make_room(self) -> None:
        """Takes the ballast away."""
        self._ballast.unlink(missing_ok=True)


class Quota:
    """Where nothing may be mounted: no file of this process grows over a limit, which is an error as a full disk is.

    It knows no sides: whatever the process writes meets it.
    """

    only_one_side = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(self, free_bytes: int) -> None:
        """The larger a file, the sooner there is no room for it. Python ignores SIGXFSZ."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (_LEAST_FILE_BYTES + free_bytes, self._before[1]))

    def make_room(self) -> None:
        """Lifts the limit."""
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


@contextmanager
def small_disk(folder: Path) -> Iterator[Tmpfs | Quota]:
    """A small disk at folder, which is made; a quota where this machine lets nobody mount."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_SIZE_BYTES}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    disk: Tmpfs | Quota = Tmpfs(folder) if mounted else Quota(folder)
    try:
        yield disk
    finally:
        disk.make_room()
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
