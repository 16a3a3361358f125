"""Pairs as arrays: the same pixels on the other side, and nothing else is taken for pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pair_arrays import MAX_PAIRS_BYTES, fitting, from_arrays, to_arrays
from shared.pairs import Pair
from shared.study import ImageSpec
from tests.helpers import noise_pair, refused

IMAGE = ImageSpec(size_px=32)


@given(count=st.integers(1, 5), channels=st.sampled_from([1, 3]), seed=st.integers(0, 1000))
def test_pairs_come_out_as_they_went_in(count: int, channels: int, seed: int) -> None:
    image = ImageSpec(size_px=32, channels=channels)  # type: ignore[arg-type]
    random = np.random.default_rng(seed)
    pairs = [noise_pair(seed + i, channels=channels) for i in range(count)]
    pairs = [Pair(p.image, (random.random(p.mask.shape) < 0.5).astype(np.uint8) * np.uint8(255)) for p in pairs]
    found = from_arrays(to_arrays(pairs, image), image)
    assert len(found) == count
    for pair, again in zip(pairs, found, strict=True):
        assert np.array_equal(pair.image, again.image)
        assert np.array_equal(pair.mask, again.mask)
        assert again.mask.dtype == np.uint8
    assert [p.image.tobytes() for p in found[1:]] == [p.image.tobytes() for p in pairs[1:]]


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {"images": a["images"]},
        lambda a: {**a, "more": a["masks"]},
        lambda a: {**a, "images": a["images"].astype(np.float32)},
        lambda a: {**a, "images": a["images"][:, :16]},
        lambda a: {**a, "masks": a["masks"][:1]},
        lambda a: {**a, "masks": a["masks"][:, :-1]},
        lambda a: {"images": a["images"][:0], "masks": a["masks"][:0]},
        lambda a: {**a, "images": np.uint8(3)},
    ],
)
def test_what_has_another_shape_is_no_pairs(change: object) -> None:
    arrays = to_arrays([noise_pair(1), noise_pair(2)], IMAGE)
    with refused("pairs.shape"):
        from_arrays(change(arrays), IMAGE)  # type: ignore[operator]


def test_how_many_travel_follows_from_their_size() -> None:
    assert fitting(ImageSpec(size_px=512)) * 512 * 512 * 4 <= MAX_PAIRS_BYTES
    assert fitting(ImageSpec(size_px=64)) > 5_000
