"""The segmenter: ImageNet's encoder, equal steps in every arm, and weights that are refused unless they fit."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from shared.encoder_weights import imagenet_tensors
from shared.errors import SynthwardError
from shared.pairs import Pair
from shared.segmenter import Segmenter, build, from_arrays, predict, score, to_arrays
from shared.segmenter_training import rate, segmentation_loss, shuffled, train
from shared.study import EvaluationSpec, ImageSpec
from shared.weights import digest

IMAGE = ImageSpec(size_px=32)
SPEC = EvaluationSpec(steps=40, batch_size=8, learning_rate=4e-3)
BRIEF = EvaluationSpec(steps=2, batch_size=2)
Arrays = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def disc(seed: int, channels: int = 3) -> Pair:
    """A bright disc on a dark, noisy ground."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:32, :32]
    (row, column), radius = draw.integers(9, 23, 2), draw.integers(5, 9)
    mask = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    grey = np.where(mask, 200, 60)[..., None] + draw.normal(0, 12, (32, 32, channels))
    image = np.clip(grey, 0, 255).astype(np.uint8)
    return Pair(image if channels == 3 else image[..., 0], np.where(mask, 255, 0).astype(np.uint8))


@pytest.fixture(scope="module")
def trained() -> Segmenter:
    torch.set_num_threads(1)
    return train([disc(seed) for seed in range(24)], SPEC, IMAGE, seed=0)


@pytest.fixture(scope="module")
def arrays(trained: Segmenter) -> Arrays:
    return to_arrays(trained)


def test_a_segmenter_trained_on_bright_discs_finds_bright_discs(trained: Segmenter) -> None:
    metrics = score(trained, ((f"patient-{seed}", disc(seed)) for seed in range(100, 120)))
    assert metrics.iou > 0.75


def test_a_prediction_is_a_probability_for_each_pixel(trained: Segmenter) -> None:
    probability = predict(trained, disc(3).image)
    assert probability.shape == (32, 32)
    assert probability.dtype == np.float32
    assert 0.0 <= probability.min() < 0.5 < probability.max() <= 1.0


def test_the_encoder_holds_imagenets_weights_tensor_for_tensor() -> None:
    encoder = build(SPEC, IMAGE).get_submodule("network.encoder.model").state_dict()
    source = list(imagenet_tensors().values())
    assert len(source) == 296
    assert len(encoder) == 288
    assert all(torch.equal(own, theirs) for own, theirs in zip(encoder.values(), source, strict=False))
    assert any(float(tensor.float().std()) > 0.1 for tensor in source)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_every_arm_takes_the_same_steps_however_many_pairs_it_has(count: int) -> None:
    told: list[tuple[int, int]] = []
    spec = EvaluationSpec(steps=3, batch_size=4)
    train([disc(seed) for seed in range(count)], spec, IMAGE, seed=0, on_step=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_an_epoch_has_each_pair_once_and_no_two_are_alike() -> None:
    order = shuffled(5, torch.Generator().manual_seed(0))
    epochs = [[next(order) for _ in range(5)] for _ in range(6)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("steps", [1, 2, 20, 200])
def test_the_learning_rate_rises_and_falls_to_nearly_nothing_in_any_number_of_steps(steps: int) -> None:
    rates = [rate(step, steps) for step in range(steps)]
    assert all(0.0 < value <= 1.0 for value in rates)
    assert max(rates) > 0.9
    assert steps < 20 or rates[-1] < 0.01


def test_training_is_the_same_twice_and_another_with_another_seed() -> None:
    pairs = [disc(seed) for seed in range(4)]
    state = torch.get_rng_state()
    first, again = (digest(to_arrays(train(pairs, BRIEF, IMAGE, seed=0))) for _ in range(2))
    assert first == again
    assert first != digest(to_arrays(train(pairs, BRIEF, IMAGE, seed=1)))
    assert torch.equal(torch.get_rng_state(), state)


def test_grey_pairs_train_a_segmenter_of_grey_images() -> None:
    grey = ImageSpec(size_px=32, channels=1)
    model = train([disc(seed, channels=1) for seed in range(3)], BRIEF, grey, seed=0)
    assert predict(model, disc(9, channels=1).image).shape == (32, 32)
    with pytest.raises(SynthwardError) as refusal:
        predict(model, disc(9).image)
    assert refusal.value.code == "pairs.shape"


def test_pairs_that_are_not_the_studys_are_refused_before_the_first_step() -> None:
    small = Pair(np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8))
    soft = Pair(disc(1).image, np.full((32, 32), 7, np.uint8))
    for pairs, code in (([], "dataset.empty"), ([disc(1), small], "pairs.shape"), ([soft], "pairs.mask-not-binary")):
        with pytest.raises(SynthwardError) as refusal:
            train(pairs, BRIEF, IMAGE, seed=0, on_step=lambda done, of: pytest.fail("a step was taken"))
        assert refusal.value.code == code


def test_weights_come_back_as_they_went(trained: Segmenter, arrays: Arrays) -> None:
    back = from_arrays(arrays, SPEC, IMAGE)
    assert digest(to_arrays(back)) == digest(arrays)
    assert np.array_equal(predict(back, disc(5).image), predict(trained, disc(5).image))


def without(arrays: Arrays, name: str) -> Arrays:
    return {key: array for key, array in arrays.items() if key != name}


WEIGHT, COUNTER = "network.segmentation_head.0.weight", "network.encoder.model.bn1.num_batches_tracked"
VARIANCE = "network.encoder.model.bn1.running_var"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda a: without(a, WEIGHT),
        lambda a: without(a, COUNTER),
        lambda a: {**a, "network.further": np.zeros(1, np.float32)},
        lambda a: {**without(a, WEIGHT), WEIGHT + "2": a[WEIGHT]},
        lambda a: {**a, WEIGHT: a[WEIGHT].reshape(-1)},
        lambda a: {**a, WEIGHT: a[WEIGHT].astype(np.float64)},
        lambda a: {**a, WEIGHT: a[WEIGHT].astype(np.float16)},
        lambda a: {**a, WEIGHT: np.full_like(a[WEIGHT], np.nan)},
        lambda a: {**a, WEIGHT: np.full_like(a[WEIGHT], -np.inf)},
        lambda a: {**a, COUNTER: a[COUNTER].reshape(1)},
        lambda a: {**a, VARIANCE: -a[VARIANCE]},
        lambda a: {},
    ],
    ids=[
        *("missing", "missing-counter", "further", "renamed", "shape", "float64", "float16", "nan", "infinite"),
        *("counter", "negative-variance", "none"),
    ],
)
def test_weights_that_do_not_fit_are_refused(arrays: Arrays, spoil: Callable[[Arrays], Arrays]) -> None:
    with pytest.raises(SynthwardError) as refusal:
        from_arrays(spoil(arrays), SPEC, IMAGE)
    assert refusal.value.code == "weights.mismatch"


def test_finite_weights_that_overflow_give_an_error_and_no_figure(arrays: Arrays) -> None:
    huge = {**arrays, WEIGHT: np.full_like(arrays[WEIGHT], 3e38)}
    huge["network.segmentation_head.0.bias"] = np.full(1, -3e38, np.float32)
    model = from_arrays({**huge, WEIGHT: huge[WEIGHT] * np.sign(arrays[WEIGHT])}, SPEC, IMAGE)
    with pytest.raises(SynthwardError) as refusal:
        score(model, [("patient", disc(1))])
    assert refusal.value.code == "metrics.range"


def test_the_loss_falls_as_a_prediction_gets_better() -> None:
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, 2:5, 2:5] = 1.0
    wrong, unsure, right = (float(segmentation_loss((mask - 0.5) * scale, mask)) for scale in (-20.0, 0.0, 20.0))
    assert right < 0.01 < unsure < wrong


def test_importing_the_network_is_quiet_and_works_in_a_fresh_process() -> None:
    code = "from shared.vision import import_smp; assert import_smp() is import_smp(); import torchvision"
    ran = subprocess.run([sys.executable, "-W", "always", "-c", code], capture_output=True, timeout=120, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
