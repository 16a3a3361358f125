"""What the field of view promises: black borders go, content stays, whatever the frame's shape."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.pairs import Pixels
from site_node.phantoms.scenes import Look, scene
from site_node.text.field_of_view import Box, box_of, field_of_view
from tests.writing import written

HEIGHT, WIDTH = 120, 160


def shape(kind: str) -> NDArray[np.bool_]:
    """[H, W]: True inside a field of this kind."""
    drawn = np.zeros((HEIGHT, WIDTH), np.uint8)
    if kind == "circle":
        cv2.circle(drawn, (85, 60), 55, 1, -1)
    elif kind == "octagon":
        corners = [(30, 10), (120, 10), (150, 35), (150, 90), (120, 112), (30, 112), (10, 90), (10, 35)]
        cv2.fillPoly(drawn, [np.array(corners)], 1)
    elif kind == "rectangle":
        drawn[:, 40:] = 1
    elif kind == "fan":
        cv2.ellipse(drawn, (80, -20), (130, 130), 90, -35, 35, 1, -1)
        drawn[:8] = 0
    return drawn > 0


def tissue(seed: int, low: int = 70, high: int = 220) -> Pixels:
    """RGB [H, W, 3] of soft blobs."""
    coarse = np.random.default_rng(seed).integers(low, high, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC).clip(low, high).astype(np.uint8)


def frame(kind: str, seed: int, black: int = 4) -> Pixels:
    """Tissue in a field, a camera's noise on the black around it."""
    border = black + np.random.default_rng(seed).integers(0, 4, (HEIGHT, WIDTH, 3), np.uint8)
    return np.where(shape(kind)[..., None], tissue(seed), border).astype(np.uint8)


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("kind", ["circle", "octagon", "rectangle", "fan"])
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), black=st.integers(0, 18), grey=st.booleans())
def test_the_field_is_found_whatever_its_shape(kind: str, seed: int, black: int, grey: bool) -> None:
    image = frame(kind, seed, black)
    found = field_of_view(image[..., 0].copy() if grey else image)
    assert found.dtype == np.bool_
    assert overlap(found, shape(kind)) > 0.95


@pytest.mark.parametrize("kind", ["circle", "octagon", "rectangle"])
def test_it_survives_jpeg(kind: str) -> None:
    coded = cv2.imencode(".jpg", frame(kind, 5), [cv2.IMWRITE_JPEG_QUALITY, 60])[1]
    assert overlap(field_of_view(np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)), shape(kind)) > 0.93


def test_writing_in_the_border_is_not_field_and_is_cropped_off() -> None:
    image, bounds = written(frame("rectangle", 1), "ID 12", at=(0.01, 0.4), font_px=11)
    assert bounds[2] < 40
    found = field_of_view(image)
    assert overlap(found, shape("rectangle")) > 0.95
    assert box_of(found).left >= 38


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_a_frame_without_border_is_whole(seed: int) -> None:
    assert field_of_view(tissue(seed)).all()


def test_a_dark_lumen_at_the_edge_is_content() -> None:
    image = tissue(3)
    cv2.circle(image, (0, 60), 40, (6, 5, 5), -1)
    assert field_of_view(image).all()


def test_an_acoustic_shadow_that_fades_out_is_content() -> None:
    depth = np.linspace(200, 5, HEIGHT)[:, None].repeat(WIDTH, axis=1)
    speckle = np.random.default_rng(0).rayleigh(0.8, (HEIGHT, WIDTH))
    assert field_of_view((depth * speckle).clip(0, 255).astype(np.uint8)).all()


def test_darkness_inside_the_field_is_field() -> None:
    image = frame("circle", 2)
    cv2.circle(image, (85, 60), 20, (3, 3, 3), -1)
    assert overlap(field_of_view(image), shape("circle")) > 0.95


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_frame_of_one_value_is_whole(value: int) -> None:
    assert field_of_view(np.full((40, 50), value, np.uint8)).all()


@pytest.mark.parametrize("look", ["endoscopy_warm", "endoscopy_cool", "fundus"])
def test_phantoms_keep_their_lesion(look: Look) -> None:
    for seed in range(4):
        pair = scene(look, seed, 96)
        found = field_of_view(pair.image)
        assert 0.5 < found.mean() < 0.99
        assert (found | (pair.mask == 0)).mean() > 0.995


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30), st.integers(1, 30))
def test_a_box_is_the_smallest_that_holds_the_field(top: int, left: int, height: int, width: int) -> None:
    field = np.zeros((64, 64), np.bool_)
    field[top : top + height, left : left + width] = True
    box = box_of(field)
    assert box == Box(top, left, top + height, left + width)
    assert box.cut(field.astype(np.uint8)).all()


def test_the_box_of_nothing_is_the_frame() -> None:
    assert box_of(np.zeros((5, 7), np.bool_)) == Box(0, 0, 5, 7)
