"""What the utility benchmark has done so far, as files, so that a killed one goes on and an option more costs no more.

A part is named by what it is and by a digest of the settings that it rests on: a part that was made with other settings
is never taken for it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.files import write_atomic
from shared.pairs import Pair

Settings = Mapping[str, object]


@dataclass(frozen=True)
class Parts:
    """The parts in one folder."""

    folder: Path

    def path(self, name: str, settings: Settings, ending: str) -> Path:
        """Where a part lies, made or not."""
        text = json.dumps(settings, sort_keys=True, default=str)
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.{ending}"

    def json(self, name: str, settings: Settings, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The part, made where it is not there yet."""
        path = self.path(name, settings, "json")
        if not path.exists():
            write_atomic(path, json.dumps({"settings": settings, "found": make()}, default=str).encode())
        return self.read(path)

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """A part that was made."""
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["found"]
        return found

    def pairs(self, name: str, settings: Settings, make: Callable[[], Sequence[Pair]]) -> list[Pair]:
        """The same for pairs of one size, RGB."""
        path = self.path(name, settings, "npz")
        if not path.exists():
            made = make()
            unfinished = path.with_suffix(".part.npz")
            np.savez(unfinished, images=np.stack([p.image for p in made]), masks=np.stack([p.mask for p in made]))
            unfinished.replace(path)
        with np.load(path, allow_pickle=False) as content:
            images, masks = content["images"], content["masks"]  # uint8 [N, S, S, 3] and [N, S, S]
        return [Pair(image, mask) for image, mask in zip(images, masks, strict=True)]
