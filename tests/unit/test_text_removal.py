"""What painting over promises: nothing is left to read, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from site_node.phantoms.scenes import scene
from site_node.text.reader import TextLine, TextReader
from site_node.text.removal import paint_over, region, share_of_lesion
from tests.writing import written

SHAPE = (60, 90)


def box(left: float, top: float, right: float, bottom: float) -> TextLine:
    return TextLine(((left, top), (right, top), (right, bottom), (left, bottom)), "x", 1.0)


boxes = st.builds(
    lambda x, y, w, h: box(x, y, min(SHAPE[1], x + w), min(SHAPE[0], y + h)),
    st.floats(0, 85), st.floats(0, 55), st.floats(2, 60), st.floats(2, 20),
)  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_is_read_after_painting(channels: int) -> None:
    clean = scene("endoscopy_warm", 4, 128).image
    clean = clean if channels == 3 else clean[..., 1].copy()
    image, _ = written(clean, "15/03/2012", at=(0.15, 0.2), font_px=14)
    reader = TextReader()
    lines = reader.lines(image)
    assert lines
    painted = paint_over(image, lines)
    assert reader.lines(painted.image) == []
    assert not reader.has_text(painted.image)
    assert 0 < painted.share < 0.2
    # Where the letters were, it comes nearer to the image without them.
    off = [np.abs(one.astype(float) - clean) for one in (painted.image, image)]
    letters = off[1] > 60
    assert off[0][letters].mean() < off[1][letters].mean() / 2


@settings(max_examples=40, deadline=None)
@given(st.lists(boxes, max_size=3), st.integers(0, 9))
def test_only_the_region_changes_and_it_covers_the_lines(lines: list[TextLine], seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*SHAPE, 3), np.uint8)
    before = image.copy()
    painted, under = paint_over(image, lines), region(lines, image.shape)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(painted.image[~under], image[~under])
    assert painted.share == pytest.approx(under.mean())
    assert painted.image.dtype == np.uint8
    for line in lines:
        left, top, right, bottom = (int(edge) for edge in line.bounds)
        assert under[top:bottom, left:right].all()


@given(st.lists(boxes, min_size=1, max_size=3), boxes)
def test_another_line_never_shrinks_the_region(lines: list[TextLine], more: TextLine) -> None:
    assert not (region(lines, SHAPE) & ~region([*lines, more], SHAPE)).any()


def test_the_share_of_the_lesion_is_of_the_lesion() -> None:
    mask = np.zeros(SHAPE, np.uint8)
    mask[20:40, 20:60] = 255
    assert share_of_lesion([], mask) == 0
    assert share_of_lesion([box(0, 0, 90, 60)], mask) == 1
    assert share_of_lesion([box(0, 0, 10, 8)], mask) == 0
    assert 0.5 <= share_of_lesion([box(20, 20, 40, 40)], mask) < 0.8
