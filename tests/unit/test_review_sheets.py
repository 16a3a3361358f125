"""What a steward sees: every pair of a release, and nothing left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from shared.sheets import GAP_PX
from site_node.airlock import sheets
from site_node.airlock.workflow import Airlock, release_folder
from site_node.cases import PrivateStore
from tests.helpers import manifest_of, noise_pair, png_objects, small_study


def test_every_pair_of_a_release_is_on_a_page(tmp_path: Path) -> None:
    a_page = sheets.COLUMNS * sheets.ROWS
    store = PrivateStore(tmp_path)
    entries, objects = png_objects([noise_pair(seed) for seed in range(a_page + 3)])
    manifest = manifest_of(small_study(), "north", entries)
    folder = release_folder(store, manifest.release_id) / "objects"
    folder.mkdir(parents=True)
    for name, data in objects.items():
        (folder / f"{name}.png").write_bytes(data)
    release = Airlock(store).draft(manifest, {}, made_by="trainer")

    pages = sheets.write_sheets(release, tmp_path / "sheets")

    assert [page.name for page in pages] == ["page-001.png", "page-002.png"]
    stride = sheets.CELL_PX + GAP_PX
    sizes = [np.asarray(Image.open(page)).shape[:2] for page in pages]
    assert sizes == [
        (sheets.ROWS * stride - GAP_PX, sheets.COLUMNS * stride - GAP_PX),
        (stride - GAP_PX, 3 * stride - GAP_PX),
    ]
    assert {page.stat().st_mode & 0o777 for page in pages} == {0o600}
