"""Augmentation: a mask goes wherever its image goes, and nowhere else."""

from __future__ import annotations

import pytest
import torch

from shared.augment import augment, blur, shift, turn


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(count: int = 8, channels: int = 3, side: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.rand((count, channels, side, side), generator=rng(1))
    masks = (torch.rand((count, 1, side, side), generator=rng(2)) > 0.7).float()
    return images, masks


def test_a_mask_follows_every_turn_and_shift_exactly() -> None:
    masks = batch()[1]
    turned_images, turned_masks = turn(masks.expand(-1, 3, -1, -1), masks, torch.arange(8))
    assert torch.equal(turned_images, turned_masks.expand(-1, 3, -1, -1))
    by = torch.tensor([[0, 0], [4, -4], [-4, 4], [1, 2], [-3, 0], [0, 3], [4, 4], [-4, -4]])
    moved_images, moved_masks = shift(turned_images, turned_masks, by)
    assert torch.equal(moved_images, moved_masks.expand(-1, 3, -1, -1))


def test_the_eight_turns_are_the_symmetries_of_a_square_and_lose_nothing() -> None:
    corner = torch.zeros(8, 1, 4, 4)
    corner[:, :, 0, 1] = 1.0
    turned = turn(corner, corner, torch.arange(8))[0]
    assert len({tuple(image.flatten().tolist()) for image in turned}) == 8
    assert turned.sum((1, 2, 3)).tolist() == [1.0] * 8


def test_a_shift_moves_down_and_right_and_reflects_the_border() -> None:
    rows = torch.arange(8.0).view(1, 1, 8, 1).expand(1, 1, 8, 8)
    moved = shift(rows, rows, torch.tensor([[2, 0]]))[0]
    assert moved[0, 0, :, 0].tolist() == [2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("channels", [1, 3])
def test_masks_stay_binary_and_images_stay_in_range(channels: int) -> None:
    images, masks = batch(channels=channels)
    for seed in range(10):
        out_images, out_masks = augment(images, masks, rng(seed))
        assert out_images.shape == images.shape
        assert out_masks.shape == masks.shape
        assert set(out_masks.unique().tolist()) <= {0.0, 1.0}
        assert float(out_images.min()) >= 0.0
        assert float(out_images.max()) <= 1.0


def test_all_chance_comes_from_the_generator_and_the_batch_is_left_as_it_was() -> None:
    images, masks = batch()
    kept = images.clone(), masks.clone()
    state = torch.get_rng_state()
    first, again, other = (augment(images, masks, rng(seed))[0] for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, kept[0])
    assert torch.equal(masks, kept[1])


def test_images_of_one_batch_are_augmented_each_in_its_own_way() -> None:
    images, masks = (part[:1].expand(16, -1, -1, -1) for part in batch())
    out = augment(images, masks, rng())[0]
    assert len({tuple(image.flatten().tolist()) for image in out}) == 16


def test_a_blur_keeps_the_mean_and_takes_away_detail_by_its_width() -> None:
    images = batch(count=2)[0]
    narrow, wide = blur(images[:1].expand(2, -1, -1, -1), torch.tensor([0.5, 2.0]))
    assert float(wide.std()) < float(narrow.std()) < float(images[0].std())
    assert float(blur(torch.full((1, 3, 32, 32), 0.25), torch.tensor([3.0])).std()) < 1e-6


def test_what_is_not_square_is_refused() -> None:
    with pytest.raises(ValueError, match="squares"):
        augment(torch.zeros(2, 3, 32, 64), torch.zeros(2, 1, 32, 64), rng())
