"""The object store: accepted PNGs by their SHA-256, in a folder (the default) or in S3, by fsspec.

S3's credentials, region and endpoint come from AWS's own variables or files; the bucket is there before the first put.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from shared.errors import SynthwardError
from shared.files import durable_folder, linked, room_for, sync_folder, write_atomic
from shared.pairs import sha256_hex


class ObjectStore:
    """Content-addressed objects. Putting one twice is putting it once."""

    def __init__(self, url: str) -> None:
        """url: an fsspec URL, for example file:///srv/synthward/objects or s3://bucket/prefix."""
        self._fs: Any
        # Each store asks the service itself: a listing that somebody remembers may name what is gone since.
        self._fs, self._root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        self._folders: set[Path] = set()  # those that a power cut leaves

    def put(self, name: str, data: bytes | Path) -> None:
        """Stores data under its digest, durably. Raises admission.digest if name is not it.

        data: the bytes, or a flushed file of them that nobody writes to afterwards: it is linked where it can be.
        """
        content = data if isinstance(data, bytes) else data.read_bytes()
        if sha256_hex(content) != name:
            raise SynthwardError("admission.digest", f"an object of {len(content)} bytes is not what its name says")
        path = self._path(name)
        if "file" not in self._fs.protocol:
            if not self._fs.exists(path):
                self._fs.pipe_file(path, content)  # object stores put an object whole or not at all
            return
        # fsspec neither flushes a local file nor moves it into place: a power cut could leave half of one.
        place = Path(path)
        with room_for(place):
            self._make_folder(place.parent)
        if (isinstance(data, bytes) or not _link(data, place)) and not place.exists():
            write_atomic(place, content)
        else:
            sync_folder(place.parent)  # also where it was there: whoever put it may have been killed before this

    def get(self, name: str) -> bytes:
        """The object's bytes. Raises storage.damaged when they are gone or changed."""
        try:
            data: bytes = self._fs.cat_file(self._path(name))
        except FileNotFoundError as error:
            raise SynthwardError("storage.damaged", f"object {name} is not in the store") from error
        if sha256_hex(data) != name:
            raise SynthwardError(
                "storage.damaged", f"object {name} has changed in the store", do="restore it from the last backup"
            )
        return data

    def _make_folder(self, folder: Path) -> None:
        # Once each: there are 256 of them, and a bundle may have 200,000 objects.
        if folder not in self._folders:
            durable_folder(durable_folder(folder.parent) / folder.name)
            self._folders.add(folder)

    def _path(self, name: str) -> str:
        # Two levels, so that no folder gets a million entries.
        return f"{self._root}/{name[:2]}/{name}.png"


def _link(file: Path, place: Path) -> bool:
    """Makes place another name of the file, or finds it taken; False where the disk is another, or has no links."""
    try:
        return linked(file, place)
    except FileExistsError:
        return True
