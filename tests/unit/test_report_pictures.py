"""The report's pictures: contact sheets, outlines, and the pairs on which a network fails."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from coordinator.evaluation.failures import PREDICTED, Judged, drawn, failure_sheet, worst_pairs
from shared.pairs import Pair
from shared.segmenter import Segmenter
from shared.sheets import GAP_PX, HALO, LINE, contact_sheet, outlined
from shared.study import ImageSpec
from tests.invented_report import pair

SIDE = 32


class Bright(torch.nn.Module):
    """Marks what is brighter than the middle of the range, in place of a network that was trained."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 100.0 * images.mean(1, keepdim=True)


def segmenter() -> Segmenter:
    return Segmenter(Bright(), ImageSpec(size_px=SIDE))


def lit(rows: int, *, marked: int = 16) -> Pair:
    """A pair whose first `rows` rows are bright, and whose first `marked` rows are lesion."""
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[:rows] = 255
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[:marked] = 255
    return Pair(image, mask)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, SIDE - 1), min_size=1, max_size=8), st.integers(1, 8))
def test_the_worst_pairs_are_those_with_the_smallest_overlap_worst_first(rows: list[int], count: int) -> None:
    found = worst_pairs(segmenter(), [lit(n) for n in rows], count)
    expected = sorted(min(n, 16) / max(n, 16) for n in rows)[:count]
    assert [iou for _, _, iou in found] == pytest.approx(expected)
    for judged, predicted, iou in found:
        true = judged.mask >= 128
        assert iou == pytest.approx((predicted & true).sum() / (predicted | true).sum())


def test_a_sheet_has_a_row_of_the_worst_and_one_around_the_median() -> None:
    pairs = [lit(n) for n in range(2, 30)]
    png = failure_sheet(segmenter(), pairs)
    assert png == failure_sheet(segmenter(), pairs)
    with Image.open(io.BytesIO(png)) as sheet:
        assert sheet.size == (6 * 144 + 5 * GAP_PX, 2 * 164 + GAP_PX)
        worst = np.asarray(sheet)[:144, :144]
    first = worst_pairs(segmenter(), pairs, 1)[0]
    assert (worst == drawn(Judged(*first))).all()


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (6, 1), (11, 1), (12, 2)])
def test_of_few_pairs_no_pair_is_shown_twice(count: int, rows: int) -> None:
    with Image.open(io.BytesIO(failure_sheet(segmenter(), [lit(n + 1) for n in range(count)]))) as sheet:
        assert sheet.height == rows * (164 + GAP_PX) - GAP_PX
        assert sheet.width == min(count, 6) * (144 + GAP_PX) - GAP_PX


def test_a_sheet_of_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a pair"):
        failure_sheet(segmenter(), [])


def test_the_networks_outline_is_dotted_and_in_another_colour_than_the_true_one() -> None:
    found = Judged(lit(24), np.arange(SIDE)[:, None].repeat(SIDE, 1) < 24, 16 / 24)
    image = drawn(found)
    true, predicted = (image == LINE).all(2), (image == PREDICTED).all(2)
    assert true.any()
    assert predicted.any()
    # Along the true outline every column is marked, along the network's one in two at most.
    assert true[64:80].any(0).mean() > 0.9
    row = predicted[100:110].any(1).nonzero()[0][0] + 100
    assert 0.2 < predicted[row].mean() < 0.8


def test_a_contact_sheet_has_a_cell_for_each_pair_and_equal_bytes_twice() -> None:
    pairs = [pair(seed) for seed in range(5)]
    png = contact_sheet(pairs, columns=3, cell_px=48)
    assert png == contact_sheet(pairs, columns=3, cell_px=48)
    with Image.open(io.BytesIO(png)) as sheet:
        assert sheet.size == (3 * 48 + 2 * GAP_PX, 2 * 48 + GAP_PX)
        assert sheet.getpixel((3 * 48 + 2 * GAP_PX - 1, 2 * 48)) == (255, 255, 255)
    with pytest.raises(ValueError, match="a pair"):
        contact_sheet([], columns=3, cell_px=48)


def test_an_outline_runs_along_the_mask_and_leaves_both_sides_free() -> None:
    grey = Pair(np.full((32, 32), 128, np.uint8), pair().mask)
    image = outlined(grey, 64)
    line, halo = (image == LINE).all(2), (image == HALO).all(2)
    assert line.any()
    assert halo.any()
    assert (image[26:32, 30:36] == 128).all()  # inside
    assert (image[:12] == 128).all()  # outside
    assert not (line & halo).any()
