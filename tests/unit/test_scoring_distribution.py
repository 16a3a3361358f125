"""Synthetic beside real pairs: worse ones are farther, like ones as far as two halves, and halves are by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import pytest
from PIL import Image

from shared.findings import Measure
from shared.pairs import LazyPairs, Pair
from site_node.phantoms.scenes import Look, scene
from site_node.scoring import distribution, patch_wasserstein
from site_node.scoring.distribution import measure_distribution
from site_node.style.features import Features
from tests.helpers import refused
from tests.unit.test_style_gatys import squeezenet

SIZE = 32
NEED_NOTHING = ["patch_wasserstein", "kl_intensity", "kl_masks"]
IN_FEATURES = ["frechet", "kernel", "single_image_frechet"]


@pytest.fixture(scope="module")
def features() -> Features:
    return Features("squeezenet1_1", squeezenet())


@pytest.fixture(autouse=True)
def _less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_wasserstein, "PATCHES", 512)
    monkeypatch.setattr(distribution, "MOST_SINGLE_IMAGES", 8)


@cache
def drawn(first: int, count: int = 24, look: Look = "endoscopy_warm") -> tuple[Pair, ...]:
    return tuple(scene(look, first + k, SIZE) for k in range(count))


def patients() -> dict[str, tuple[Pair, ...]]:
    """24 patients with two pairs each."""
    pairs = drawn(0, 48)
    return {f"p{k:02d}": pairs[2 * k : 2 * k + 2] for k in range(24)}


def measured(
    synthetic: Sequence[Pair], real: Mapping[str, Sequence[Pair]], features: Features | None, seed: int = 0
) -> dict[str, Measure]:
    return {measure.name: measure for measure in measure_distribution(synthetic, real, features=features, seed=seed)[1]}


def blurred(pairs: Sequence[Pair], factor: int) -> list[Pair]:
    small = SIZE // factor, SIZE // factor
    return [
        Pair(np.asarray(Image.fromarray(p.image).resize(small, Image.Resampling.BOX).resize((SIZE, SIZE))), p.mask)
        for p in pairs
    ]


def noisy(pairs: Sequence[Pair], deviation: int) -> list[Pair]:
    random = np.random.default_rng(0)
    noise = random.normal(0.0, deviation, (len(pairs), SIZE, SIZE, 3))
    return [
        Pair(np.clip(pair.image + one, 0, 255).astype(np.uint8), pair.mask)
        for pair, one in zip(pairs, noise, strict=True)
    ]


def reddened(pairs: Sequence[Pair], step: int) -> list[Pair]:
    return [Pair(np.clip(p.image + np.array([step, -step, -step]), 0, 255).astype(np.uint8), p.mask) for p in pairs]


def test_all_measures_have_a_value_and_a_yardstick(features: Features) -> None:
    images, measures = measure_distribution(drawn(100), patients(), features=features, seed=0)
    assert images == 24
    assert [measure.name for measure in measures] == ["patch_wasserstein", *IN_FEATURES, "kl_intensity", "kl_masks"]
    assert sorted(measured(drawn(100), patients(), None)) == sorted(NEED_NOTHING)


def test_pairs_of_the_same_source_are_about_as_far_as_the_other_half(features: Features) -> None:
    """Over several splits; the kernel distance is about 0 on both sides, in units of what another source gives."""
    found = [measured(drawn(100), patients(), features, seed) for seed in range(3)]
    elsewhere = measured(drawn(0, look="fundus"), patients(), features)
    for name in [*NEED_NOTHING, *IN_FEATURES]:
        value, yardstick = (np.mean([getattr(one[name], side) for one in found]) for side in ("value", "yardstick"))
        assert abs(value - yardstick) < 0.35 * (elsewhere[name].value - yardstick), name


@pytest.mark.parametrize("spoilt", [blurred, noisy, reddened])
def test_the_more_pairs_are_spoilt_the_farther_they_are(spoilt: object, features: Features) -> None:
    steps = {blurred: (2, 8), noisy: (12, 48), reddened: (15, 60)}[spoilt]  # type: ignore[index]
    found = [measured(drawn(100), patients(), features)]
    found += [measured(spoilt(drawn(100), step), patients(), features) for step in steps]  # type: ignore[operator]
    for name in ("patch_wasserstein", "frechet", "kernel"):
        values = [one[name].value for one in found]
        assert values == sorted(values), name
        assert values[2] > 2 * found[0][name].yardstick, name
    # Colours as such are the histograms' part, textures that of single images.
    name = "single_image_frechet" if spoilt is not reddened else "kl_intensity"
    assert found[0][name].value < found[2][name].value


def test_wrong_masks_are_seen_without_a_network() -> None:
    moved = [Pair(pair.image, np.roll(pair.mask, SIZE // 2, axis=1)) for pair in drawn(100)]
    right, wrong = (measured(pairs, patients(), None) for pairs in (drawn(100), moved))
    assert wrong["kl_masks"].value > 2 * right["kl_masks"].value
    assert wrong["patch_wasserstein"].value > right["patch_wasserstein"].value
    assert wrong["kl_intensity"] == right["kl_intensity"]


def flat(level: int) -> Pair:
    return Pair(np.full((SIZE, SIZE, 3), level, np.uint8), np.zeros((SIZE, SIZE), np.uint8))


def test_the_halves_are_of_patients_not_of_images() -> None:
    """Frames of one patient are alike: were they on both sides, two halves would look equal."""
    real = {name: [flat(level)] * 20 for name, level in zip("abcd", (10, 80, 150, 220), strict=True)}
    for seed in range(4):
        assert measured([flat(10)] * 20, real, None, seed)["kl_intensity"].yardstick > 1.0


def test_a_patient_with_many_frames_does_not_crowd_the_others_out() -> None:
    few = {f"few-{level}": [flat(level)] * 2 for level in (20, 60, 100, 140, 180)}
    images, measures = measure_distribution(
        [flat(20), flat(60)], {"many": [flat(250)] * 500, **few}, features=None, seed=0
    )
    assert images == 2
    crowd = measure_distribution([flat(250)] * 2, {"many": [flat(250)] * 500, **few}, features=None, seed=0)[1]
    # Two images of two patients stand on each side: at most one of them is the crowd's.
    assert crowd[1].value > 0.3
    assert measures[1].name == crowd[1].name == "kl_intensity"


def test_the_order_of_patients_changes_nothing_and_the_seed_does() -> None:
    real = patients()
    turned = dict(reversed(real.items()))
    assert measured(drawn(100), turned, None) == measured(drawn(100), real, None)
    assert measured(drawn(100), real, None, seed=1) != measured(drawn(100), real, None)


def test_no_more_pairs_are_read_than_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "MOST_IMAGES", 5)
    read: list[str] = []

    def load(name: str) -> Pair:
        read.append(name)
        return flat(len(read))

    real = {f"p{k}": LazyPairs([f"p{k}-{n}" for n in range(50)], load) for k in range(6)}
    synthetic = LazyPairs([f"s-{n}" for n in range(50)], load)
    images, _ = measure_distribution(synthetic, real, features=None, seed=0)
    assert images == 5
    assert len(read) == len(set(read)) == 15


@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_patients_have_no_yardstick(count: int) -> None:
    real = {f"p{k}": [flat(10), flat(20)] for k in range(count)} | {"none": []}
    with refused("screening.inconclusive"):
        measure_distribution(drawn(100), real, features=None, seed=0)


def test_what_is_no_distribution_is_refused() -> None:
    with pytest.raises(ValueError, match="no distribution"):
        measure_distribution(drawn(100)[:1], patients(), features=None, seed=0)
    larger = [scene("endoscopy_warm", k, 64) for k in range(4)]
    with pytest.raises(ValueError, match="size"):
        measure_distribution([*larger, *drawn(100)[:4]], patients(), features=None, seed=0)
