"""The object store: accepted PNGs by their SHA-256, on any fsspec file system (a folder by default)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec

from shared.errors import SynthwardError
from shared.files import write_atomic
from shared.pairs import sha256_hex


class ObjectStore:
    """Content-addressed objects. Putting one twice is putting it once."""

    def __init__(self, url: str) -> None:
        """url: an fsspec URL, for example file:///srv/synthward/objects or s3://bucket/prefix."""
        self._fs: Any
        self._fs, self._root = fsspec.core.url_to_fs(url, auto_mkdir=True)

    def put(self, name: str, data: bytes) -> None:
        """Stores data under its digest. Raises admission.digest if name is not it."""
        if sha256_hex(data) != name:
            raise SynthwardError("admission.digest", f"an object of {len(data)} bytes is not what its name says")
        path = self._path(name)
        if self._fs.exists(path):
            return
        if "file" in self._fs.protocol:
            # fsspec neither flushes a local file nor moves it into place: a power cut could leave half of one.
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            write_atomic(Path(path), data)
        else:
            self._fs.pipe_file(path, data)  # object stores put an object whole or not at all

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

    def _path(self, name: str) -> str:
        # Two levels, so that no folder gets a million entries.
        return f"{self._root}/{name[:2]}/{name}.png"
