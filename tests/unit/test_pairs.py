"""A pair's two halves fit one another, at every size and in every number of channels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shared.pairs import Pair, Pixels, check_mask, resize_pair, with_channels
from tests.helpers import refused

unhurried = settings(deadline=None, max_examples=60)
sides = st.integers(1, 19)
grey = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint8, shape))
colour = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint8, (*shape, 3)))
RGB: Pixels = np.random.default_rng(1).integers(0, 256, (24, 18, 3), np.uint8)


@unhurried
@given(grey)
def test_a_mask_is_refused_exactly_when_it_has_a_third_value(mask: Pixels) -> None:
    check_mask(np.where(mask > 100, 255, 0).astype(np.uint8))
    if set(np.unique(mask)) - {0, 255}:
        with refused("pairs.mask-not-binary"):
            check_mask(mask)


def test_a_mask_with_colours_is_refused() -> None:
    with refused("pairs.mask-not-binary"):
        check_mask(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint8)),
    ],
)
def test_what_makes_no_pair_cannot_be_one(image: Pixels, mask: Pixels) -> None:
    with pytest.raises(ValueError, match=r"pair|image|uint8"):
        Pair(image, mask)


@unhurried
@given(colour, st.sampled_from([8, 32]))
def test_a_resized_mask_is_still_nothing_but_0_and_255(image: Pixels, size_px: int) -> None:
    pair = resize_pair(Pair(image, np.where(image[..., 0] > 127, 255, 0).astype(np.uint8)), size_px)
    assert pair.image.shape == (size_px, size_px, 3)
    check_mask(pair.mask)


def test_grey_and_colour_turn_into_one_another() -> None:
    assert with_channels(RGB, 1).shape == (24, 18)
    back = with_channels(with_channels(RGB, 1), 3)
    assert (back[..., 0] == back[..., 2]).all()
