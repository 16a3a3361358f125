"""How bundles and receipts lie on a medium that people carry between a site and its coordinator.

    bundles/HEX/      a sealed bundle as in an outbox: manifest.json, manifest.sig, objects/HEX.png
    receipts/HEX.json, receipts/HEX.sig     the coordinator's signed word that the bundle HEX is stored

A medium is anybody's: what is read from it is a plain file of a known name and a bounded size, or it is refused. No
link on it is followed, and no other file on it is opened. Nothing on it says who wrote it but the signatures.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import BinaryIO

from shared.errors import SynthwardError

BUNDLES = "bundles"
RECEIPTS = "receipts"
MOST_SIGNATURE_BYTES = 64
_DIGEST = re.compile(r"[0-9a-f]{64}")


def names_in(folder: Path, ending: str = "") -> list[str]:
    """The digests by which entries of a folder are named, in order; whatever has another name is passed over."""
    check_folder(folder)
    found = (entry.name.removesuffix(ending) for entry in folder.iterdir() if entry.name.endswith(ending))
    return sorted(name for name in found if _DIGEST.fullmatch(name))


def check_folder(folder: Path) -> None:
    """Raises portable.file unless this is a folder, and not a link to one."""
    if folder.is_symlink() or not folder.is_dir():
        raise SynthwardError(
            "portable.file", f"there is no folder {folder}", do="name the folder that the export wrote, or copy it anew"
        )


def open_plain(path: Path) -> BinaryIO:
    """A plain file, opened to be read. Raises portable.file for a link, a pipe or a device, and where there is none."""
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _not_plain(path) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_plain(path)
    return os.fdopen(descriptor, "rb")


def read_plain(path: Path, *, most_bytes: int) -> bytes:
    """The bytes of a plain file. Raises portable.file, also where it has more bytes than that."""
    with open_plain(path) as file:
        data = file.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise _not_plain(path)
    return data


def _not_plain(path: Path) -> SynthwardError:
    return SynthwardError(
        "portable.file",
        f"{path} is missing, too large, or no plain file",
        why="the medium was not copied to its end, or somebody else has written to it",
        do="export again, and copy the whole folder",
    )
