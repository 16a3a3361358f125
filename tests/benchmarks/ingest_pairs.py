"""Pairs to send: drawn scenes, turned and moved so that no two are equal, in canonical PNGs. Made once, kept."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from shared.bundle import PairEntry, entry
from shared.pairs import Pair, Pixels
from site_node.phantoms.scenes import Look, scene

_LOOKS: tuple[Look, ...] = ("endoscopy_warm", "endoscopy_cool")
_MOVES = 16
_VIEWS = 8 * _MOVES  # turned and mirrored, times moved sideways around the edge
_TOGETHER = 32


def prepare(folder: Path, count: int, size_px: int) -> list[PairEntry]:
    """The entries of `count` pairs whose objects lie in folder/objects; what is there already is not made again."""
    (folder / "objects").mkdir(parents=True, exist_ok=True)
    kept = sorted(folder.glob("entries-*.json"))
    entries = [PairEntry.model_validate(line) for path in kept for line in json.loads(path.read_text())]
    starts = range(len(entries), count, _TOGETHER)
    if starts:
        with ProcessPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for made in pool.map(partial(_make, folder, size_px), starts):
                entries += made
    return entries[:count]


def variant(number: int, size_px: int) -> Pair:
    """The pair of a number: another one for each number."""
    picture, view = divmod(number, _VIEWS)
    moved, turned = divmod(view, 8)
    pair = _picture(picture, size_px)

    def turn(pixels: Pixels) -> Pixels:
        seen = np.rot90(np.roll(pixels, moved * size_px // _MOVES, axis=1), turned % 4)
        return np.ascontiguousarray(np.fliplr(seen) if turned >= 4 else seen)

    return Pair(turn(pair.image), turn(pair.mask))


@lru_cache(1)
def _picture(number: int, size_px: int) -> Pair:
    return scene(_LOOKS[number % 2], number, size_px)


def _make(folder: Path, size_px: int, start: int) -> list[PairEntry]:
    entries = []
    for number in range(start, start + _TOGETHER):
        line, objects = entry(variant(number, size_px))
        for name, data in objects.items():
            (folder / "objects" / f"{name}.png").write_bytes(data)
        entries.append(line)
    # After its objects: a preparation that is cut short goes on where it stood.
    lines = json.dumps([line.model_dump() for line in entries])
    (folder / f"entries-{start:08d}.json").write_text(lines, encoding="utf-8")
    return entries
