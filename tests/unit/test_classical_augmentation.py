"""The seven classical augmentations: a mask goes wherever its image goes, and each is really applied."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.classical_augmentation import augment_classically

SIDE = 32


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def square(count: int = 1, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright square, off the middle, on a dark ground; the mask marks it."""
    masks = torch.zeros(count, 1, SIDE, SIDE)
    masks[:, :, 6:18, 14:24] = 1.0
    return (0.2 + 0.6 * masks).expand(-1, channels, -1, -1).contiguous(), masks


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**31 - 1), channels=st.sampled_from([1, 3]))
def test_a_mask_stays_binary_and_marks_what_it_marked(seed: int, channels: int) -> None:
    images, masks = augment_classically(*square(4, channels), rng(seed))

    assert images.shape == (4, channels, SIDE, SIDE)
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert float(images.min()) >= 0.0
    assert float(images.max()) <= 1.0
    for image, mask in zip(images[:, :1], masks, strict=True):
        # Light is changed for the whole image, so half way between its darkest and brightest is the square's edge.
        middle = (image.min() + image.max()) / 2
        assert float(((image > middle).float() != mask).float().mean()) < 0.04


def test_half_of_the_images_keep_their_light_and_one_in_64_is_left_as_it_was() -> None:
    images, masks = square(4096)
    changed, moved = augment_classically(images, masks, rng())

    middle = changed[:, 0].amin((1, 2))
    assert 0.45 < float((middle - 0.2).abs().lt(1e-3).float().mean()) < 0.55
    untouched = (changed == images).all((1, 2, 3)) & (moved == masks).all((1, 2, 3))
    # Two flips, four that move, and light: each left out with probability 1/2.
    assert 0.5 / 128 < float(untouched.float().mean()) < 2.0 / 128


def test_a_batch_is_augmented_each_in_its_own_way_by_the_generator_alone() -> None:
    images, masks = square(16)
    kept, state = images.clone(), torch.get_rng_state()
    first, again, other = (augment_classically(images, masks, rng(seed))[0] for seed in (5, 5, 6))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(image.flatten().tolist()) for image in first}) >= 14
    assert torch.equal(images, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="squares"):
        augment_classically(torch.zeros(2, 3, 32, 64), torch.zeros(2, 1, 32, 64), rng())
