"""A release as a steward sees it: every pair, its mask as an outline, in pages. Nothing is left out of a review."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from shared.bundle import read_pairs
from shared.files import private_folder, write_private
from shared.sheets import contact_sheet
from site_node.airlock.workflow import Release

COLUMNS, ROWS, CELL_PX = 12, 10, 112


def write_sheets(release: Release, folder: Path) -> list[Path]:
    """Writes page-001.png and so on, readable by their owner only; their paths. A page of pairs is in memory."""
    private_folder(folder)
    remaining = read_pairs(release.folder, release.manifest)
    pages: list[Path] = []
    while pairs := list(islice(remaining, COLUMNS * ROWS)):
        pages.append(folder / f"page-{len(pages) + 1:03d}.png")
        write_private(pages[-1], contact_sheet(pairs, columns=COLUMNS, cell_px=CELL_PX))
    return pages
