"""A bundle on its way in: its objects chunk by chunk, and what is not there yet.

incoming/<bundle>/objects/<sha256>.part    the first bytes of an object
incoming/<bundle>/objects/<sha256>.png     all of it, with the digest that its name says, flushed to the disk
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.limits import Limits
from shared.bundle import Manifest, object_path
from shared.errors import SynthwardError
from shared.files import room_for, sync_file, sync_folder
from shared.pairs import sha256_hex

MAX_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Missing:
    """An object of which bytes up to offset are stored."""

    sha256: str
    offset: int


class Upload:
    """Takes the objects of one bundle, chunk by chunk."""

    def __init__(self, sha256: str, folder: Path, manifest: Manifest, lock: threading.Lock, limits: Limits) -> None:
        self.sha256 = sha256
        self._folder = folder
        self._sizes = manifest.objects()
        self._lock = lock
        self._limits = limits

    def store_chunk(self, name: str, offset: int, data: bytes) -> bool:
        """Appends a chunk to an object; True when the object is complete and checked, its bytes flushed to the disk."""
        size = self._sizes.get(name)
        if size is None:
            raise SynthwardError("admission.unexpected", f"bundle {self.sha256} names no such object")
        if not data:  # a stream of these would never end
            raise SynthwardError("admission.size", "a chunk holds nothing")
        if len(data) > MAX_CHUNK_BYTES or offset + len(data) > size:
            raise SynthwardError("admission.size", f"a chunk goes beyond the {size} bytes stated for {name}")
        with self._lock:
            complete = object_path(self._folder, name)
            if complete.exists():
                return True
            if not complete.parent.exists():  # admitted, refused or taken back by another connection meanwhile
                raise SynthwardError("admission.incomplete", f"bundle {self.sha256} is not coming in any more")
            part = complete.with_suffix(".part")
            stored = part.stat().st_size if part.exists() else 0
            if offset != stored:
                raise SynthwardError("admission.offset", f"a chunk starts at {offset}, {stored} bytes are stored")
            # Asked again at each chunk: at Begin nobody knows how much others are about to send.
            self._limits.check_room(self._folder, len(data))
            with room_for(part), part.open("ab") as file:
                file.write(data)
            if offset + len(data) < size:
                return False
            _finish_object(part, complete, name)
            return True

    def settle(self) -> None:
        """Flushes the folder's list of objects: from now on those that are complete survive a power cut."""
        with self._lock:
            if self._folder.exists():  # taken back meanwhile
                sync_folder(self._folder / "objects")


def missing_of(folder: Path, manifest: Manifest) -> Iterator[Missing]:
    """What is not there yet of a bundle that is coming in, by name."""
    sizes, objects = manifest.objects(), folder / "objects"
    # Listed once: a bundle may have 200,000 objects, and to ask the kernel for each of them takes seconds.
    found = {entry.name: entry for entry in os.scandir(objects)} if objects.is_dir() else {}
    for name in sorted(sizes):
        if f"{name}.png" not in found:
            part = found.get(f"{name}.part")
            stored = part.stat().st_size if part is not None else 0
            if part is not None and stored == sizes[name]:
                # We were killed between its last byte and its check: no byte is left to send that would lead there.
                Path(part).unlink()
                stored = 0
            yield Missing(name, stored)


def _finish_object(part: Path, complete: Path, name: str) -> None:
    if sha256_hex(part.read_bytes()) != name:
        part.unlink()
        raise SynthwardError(
            "admission.digest", f"object {name} arrived changed", do="send it again from its first byte"
        )
    sync_file(part)  # before it has the name of a complete one, which is not looked at again until Finish
    part.rename(complete)
