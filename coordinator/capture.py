"""A copy of everything that sites send, for an audit: the answer to "show me what came out of that hospital".

Off unless the settings name a folder. One file a site and kind, bodies appended as they came, after TLS.
"""

from __future__ import annotations

import threading
from pathlib import Path


class Capture:
    """Appends bodies to folder/SITE.KIND.bin; with no folder it keeps nothing."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def keep(self, kind: str, site: str, body: bytes) -> None:
        """Appends one body. site and kind are our own names, never text that came over the wire."""
        if self._folder is not None:
            with self._lock, (self._folder / f"{site}.{kind}.bin").open("ab") as file:
                file.write(body)
