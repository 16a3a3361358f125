"""The screening: copies of real images are found, whatever was done to them; where it is blind, nothing leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter

from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels
from site_node.screening.controls import PLANTED
from site_node.screening.copies import Bank
from site_node.screening.screen import Screening
from tests.helpers import refused

SIZE = 64
LIMIT = 0.95
MASK = np.zeros((SIZE, SIZE), np.uint8)
MASK[10:30, 10:30] = 255


def scene(seed: int, size_px: int = SIZE) -> Pixels:
    """An image of nobody with smooth structure, as an organ has: noise, blurred and stretched."""
    noise = np.random.default_rng(seed).integers(0, 256, (size_px, size_px, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(noise).filter(ImageFilter.GaussianBlur(size_px / 16)), dtype=np.float64)
    low, high = smooth.min(), smooth.max()
    return ((smooth - low) / (high - low) * 255).astype(np.uint8)


REAL = [scene(seed) for seed in range(12)]
STRANGERS = [scene(seed) for seed in range(100, 140)]
BANK = Bank(REAL)


def written_out(kind: str) -> Callable[[Pixels], Pixels]:
    """The copies again, made here by other means than the ones that the screening plants for itself."""

    def recoloured(image: Pixels) -> Pixels:
        return (image * 0.6 + 70).astype(np.uint8)

    def blurred(image: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(image).filter(ImageFilter.BoxBlur(1)))

    def coarse(image: Pixels) -> Pixels:
        return (image // 16 * 16).astype(np.uint8)

    def grainy(image: Pixels) -> Pixels:
        grain = np.random.default_rng(5).normal(0, 12, image.shape)
        return np.clip(image + grain, 0, 255).astype(np.uint8)

    def grey(image: Pixels) -> Pixels:
        return np.asarray(Image.fromarray(image).convert("L").convert("RGB"))

    return {
        "exact": lambda image: image.copy(),
        "upside-down": lambda image: image[::-1].copy(),
        "mirrored": lambda image: image[:, ::-1].copy(),
        "turned-90": lambda image: np.rot90(image).copy(),
        "turned-180": lambda image: np.rot90(image, 2).copy(),
        "turned-270": lambda image: np.rot90(image, 3).copy(),
        "transposed": lambda image: image.transpose(1, 0, 2).copy(),
        "recoloured": recoloured,
        "darker": lambda image: (image // 2).astype(np.uint8),
        "blurred": blurred,
        "coarse": coarse,
        "grainy": grainy,
        "grey": grey,
        "larger": lambda image: np.asarray(Image.fromarray(image).resize((128, 128))),
    }[kind]


COPIES = [
    "exact", "upside-down", "mirrored", "turned-90", "turned-180", "turned-270", "transposed", "recoloured", "darker",
    "blurred", "coarse", "grainy", "grey", "larger",
]  # fmt: skip


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_a_real_image_is_found(kind: str) -> None:
    copies = [written_out(kind)(image) for image in REAL]
    assert min(BANK.nearest(copy) for copy in copies) > LIMIT


@pytest.mark.parametrize("kind", PLANTED)
def test_every_kind_that_the_screening_plants_is_found(kind: str) -> None:
    assert all(BANK.nearest(PLANTED[kind](image)) > LIMIT for image in REAL)


def test_images_of_others_are_not_taken_for_copies() -> None:
    assert max(BANK.nearest(image) for image in STRANGERS) < LIMIT


def test_each_planted_kind_but_the_exact_one_changes_the_image() -> None:
    for kind, make in PLANTED.items():
        assert (make(REAL[0]) == REAL[0]).all() == (kind == "exact")


def test_a_flat_sample_is_near_to_nothing_and_an_empty_bank_finds_nothing() -> None:
    assert BANK.nearest(np.full((SIZE, SIZE, 3), 90, np.uint8)) == 0.0
    assert Bank([]).nearest(REAL[0]) == -1.0


def test_grey_images_are_compared_as_colour_images_are() -> None:
    greys = [np.asarray(Image.fromarray(image).convert("L")) for image in REAL]
    assert Bank(greys).nearest(REAL[3]) > LIMIT
    assert Bank(greys).nearest(STRANGERS[0]) < LIMIT


# Sample by sample


@pytest.fixture
def screening() -> Screening:
    return Screening(BANK, LIMIT)


def test_samples_are_accepted_or_rejected_for_their_reason(screening: Screening) -> None:
    full, empty = np.full_like(MASK, 255), np.zeros_like(MASK)
    assert screening.judge(Pair(STRANGERS[0], MASK)) is None
    assert screening.judge(Pair(STRANGERS[1], empty)) == "mask-empty"
    assert screening.judge(Pair(STRANGERS[1], full)) == "mask-full"
    assert screening.judge(Pair(REAL[0], MASK)) == "copy"
    assert screening.judge(Pair(STRANGERS[0], MASK)) == "duplicate"
    assert screening.judge(Pair(STRANGERS[1], MASK)) is None  # what was rejected for its mask was not yet seen
    report = screening.report(screening.controls(REAL), [0.1, 0.2], {}, {})
    assert (report.sampled, report.accepted) == (6, 2)
    assert report.rejected == {"mask-empty": 1, "mask-full": 1, "copy": 1, "duplicate": 1}
    assert report.samples.high < LIMIT


def test_one_pixel_is_neither_an_empty_nor_a_full_mask(screening: Screening) -> None:
    one, all_but_one = np.zeros_like(MASK), np.full_like(MASK, 255)
    one[0, 0], all_but_one[0, 0] = 255, 0
    assert screening.judge(Pair(STRANGERS[0], one)) is None
    assert screening.judge(Pair(STRANGERS[1], all_but_one)) is None


def test_a_mask_that_is_not_binary_is_our_own_mistake_and_stops_the_job(screening: Screening) -> None:
    with refused("pairs.mask-not-binary"):
        screening.judge(Pair(STRANGERS[0], MASK // 2))


def test_a_stricter_limit_rejects_more() -> None:
    near = (REAL[0] * 0.6 + STRANGERS[0] * 0.4).astype(np.uint8)
    nearest = BANK.nearest(near)
    assert Screening(BANK, nearest + 0.01).judge(Pair(near, MASK)) is None
    assert Screening(BANK, nearest - 0.01).judge(Pair(near, MASK)) == "copy"


# The positive control


def test_the_summary_that_leaves_counts_what_was_planted_and_found(screening: Screening) -> None:
    screening.judge(Pair(STRANGERS[0], MASK))
    summary = screening.report(screening.controls(REAL), [], {}, {}).summary()
    assert summary.planted == summary.planted_found == len(PLANTED) * len(REAL)
    assert (summary.sampled, summary.accepted, summary.max_correlation) == (1, 1, LIMIT)


@pytest.mark.parametrize("bank", [Bank([]), Bank(STRANGERS[:4])], ids=["empty", "of-others"])
def test_a_bank_that_cannot_see_its_planted_copies_blocks_the_release(bank: Bank) -> None:
    blind = Screening(bank, LIMIT)
    blind.judge(Pair(STRANGERS[20], MASK))
    with pytest.raises(SynthwardError, match="exact, mirrored, turned") as caught:
        blind.report(blind.controls(REAL), [], {}, {})
    assert caught.value.code == "screening.control-missed"


def test_one_blind_spot_is_enough_to_block_and_is_named(screening: Screening) -> None:
    class Unturned(Bank):
        """Does not look at images that are turned by a quarter."""

        def nearest(self, image: Pixels) -> float:
            found = super().nearest(image)
            return 0.0 if any((image == np.rot90(real)).all() for real in REAL) else found

    blind = Screening(Unturned(REAL), LIMIT)
    blind.judge(Pair(STRANGERS[0], MASK))
    with pytest.raises(SynthwardError, match=r"not found: turned \[") as caught:
        blind.report(blind.controls(REAL), [], {}, {})
    assert caught.value.code == "screening.control-missed"


def test_a_control_that_planted_nothing_vouches_for_nothing(screening: Screening) -> None:
    screening.judge(Pair(STRANGERS[0], MASK))
    with refused("screening.control-missed"):
        screening.report(screening.controls([]), [], {}, {})


def test_images_that_are_nearly_flat_cannot_vouch_for_the_screening(screening: Screening) -> None:
    flat = np.full((SIZE, SIZE, 3), 90, np.uint8)
    own = Screening(Bank([flat, *REAL]), LIMIT)
    own.judge(Pair(STRANGERS[0], MASK))
    with refused("screening.control-missed"):
        own.report(own.controls([flat]), [], {}, {})


def test_a_release_without_one_accepted_sample_is_blocked(screening: Screening) -> None:
    for image in REAL:
        assert screening.judge(Pair(image, MASK)) == "copy"
    with refused("screening.too-few-accepted"):
        screening.report(screening.controls(REAL), [], {}, {})
