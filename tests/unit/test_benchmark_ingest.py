"""What the ingest benchmark sends: pairs that differ, are canonical, and are made once."""

from __future__ import annotations

from pathlib import Path

from shared.bundle import object_path
from shared.pairs import check_mask, sha256_hex
from shared.png import decode_png
from tests.benchmarks.ingest_drive import Beats
from tests.benchmarks.ingest_pairs import prepare, variant


def test_every_number_is_another_pair() -> None:
    pairs = [variant(number, 64) for number in range(130)]  # over two pictures
    assert len({pair.image.tobytes() for pair in pairs}) == len(pairs)
    assert all(pair.image.shape == (64, 64, 3) and pair.mask.any() for pair in pairs)


def test_pairs_are_made_once_and_more_are_added_to_them(tmp_path: Path) -> None:
    first = prepare(tmp_path, 8, 32)
    images = [object_path(tmp_path, line.image) for line in first]
    made = {path: path.stat().st_mtime_ns for path in images}
    more = prepare(tmp_path, 40, 32)
    assert more[:8] == first
    assert all(path.stat().st_mtime_ns == at for path, at in made.items())
    for line in more:
        for name, size in ((line.image, line.image_bytes), (line.mask, line.mask_bytes)):
            data = object_path(tmp_path, name).read_bytes()
            assert (sha256_hex(data), len(data)) == (name, size)
        check_mask(decode_png(object_path(tmp_path, line.mask).read_bytes()))


def test_a_percentile_is_a_time_that_was_measured() -> None:
    beats = Beats([number / 1000 for number in range(100, 0, -1)])
    assert (beats.percentile_ms(0.5), beats.percentile_ms(0.99), beats.percentile_ms(1.0)) == (51, 100, 100)
