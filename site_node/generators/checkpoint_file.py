"""The file of a training's state between two steps: whose it is, when it is due, and how it is written.

A file of another training, preset or version is ignored, and the log says so: the training starts anew. It is patient
data, as every generator is, and is removed when its training ends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog
from torch import Tensor

from site_node.generators.tensor_file import UNREADABLE, read_tensors, write_tensors

EVERY_S = 60.0
_log = structlog.get_logger("generators")


class CheckpointFile:
    """One training's checkpoint, or none where path is None.

    fingerprint: of all that the training depends on; a file with another one is somebody else's.
    """

    def __init__(self, path: Path | None, fingerprint: str, every_s: float = EVERY_S) -> None:
        """every_s: seconds between two writings."""
        self._path, self._fingerprint, self._every_s = path, fingerprint, every_s
        self._written = time.monotonic()

    def read(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """What was saved last, description and tensors; None where there is nothing to go on from."""
        if self._path is None or not self._path.exists():
            return None
        try:
            description, tensors = read_tensors(self._path)
            if description["fingerprint"] == self._fingerprint:
                return description, tensors
            _log.warning("a checkpoint of another case, preset or version is ignored: training starts anew")
        except UNREADABLE:
            _log.warning("a damaged checkpoint is ignored: training starts anew")
        return None

    def due(self) -> bool:
        """Whether it is time to write again."""
        return self._path is not None and time.monotonic() - self._written >= self._every_s

    def write(self, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Replaces what was saved, whole or not at all. Raises SynthwardError storage.full."""
        if self._path is None:
            return
        write_tensors(self._path, {**description, "fingerprint": self._fingerprint}, tensors)
        self._written = time.monotonic()

    def remove(self) -> None:
        """Once nothing is to be gone on from."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
