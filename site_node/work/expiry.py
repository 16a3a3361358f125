"""The life span of generators: they hold patients, so a site keeps none for longer than its policy says."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from shared.files import sync_folder
from shared.journal import append
from site_node.cases import PrivateStore, journal

_DAY_S = 86_400.0


def delete_expired(store: PrivateStore, days: int, *, now: float | None = None) -> list[str]:
    """Deletes the generators and checkpoints of studies that were last used `days` days ago or longer; which folders.

    A folder's last use is its newest file's time. The journal has a line for each. now: seconds since 1970.
    """
    limit = (time.time() if now is None else now) - days * _DAY_S
    root = store.folder / "generators"
    gone = []
    for folder in sorted(root.iterdir()) if root.exists() else ():
        if folder.is_dir() and _last_use(folder) <= limit:
            with store.engine.begin() as connection:
                append(connection, journal, actor="trainer", action="delete-generators", subject=folder.name)
            shutil.rmtree(folder)
            sync_folder(root)
            gone.append(folder.name)
    return gone


def _last_use(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
