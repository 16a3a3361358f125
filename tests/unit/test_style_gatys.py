"""Style by a network's features: it lowers its own loss, batches change nothing, and only the right file will do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels
from shared.study import ImageSpec, StyleSource, StyleSpec
from site_node.style.features import Features, load_features
from site_node.style.gatys import GatysTransfer
from site_node.style.interface import Style, prepare
from tests.helpers import refused

Tensors = dict[str, Tensor]


def squeezenet() -> Tensors:
    """SqueezeNet 1.1 as torchvision names and shapes it, written out by hand, with random weights."""
    shapes = {"features.0": (64, 3, 3, 3), "classifier.1": (1000, 512, 1, 1)}
    for index, into, squeezed, half in (
        (3, 64, 16, 64), (4, 128, 16, 64), (6, 128, 32, 128), (7, 256, 32, 128),
        (9, 256, 48, 192), (10, 384, 48, 192), (11, 384, 64, 256), (12, 512, 64, 256),
    ):  # fmt: skip
        shapes[f"features.{index}.squeeze"] = (squeezed, into, 1, 1)
        shapes[f"features.{index}.expand1x1"] = (half, squeezed, 1, 1)
        shapes[f"features.{index}.expand3x3"] = (half, squeezed, 3, 3)
    return _random(shapes, torch.float32)


def vgg19() -> Tensors:
    """VGG-19's features as torchvision names and shapes them, in half precision, with random weights."""
    widths = [3, 64, 64, 128, 128, *[256] * 4, *[512] * 8]
    places = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    shapes = {
        f"features.{place}": (out, into, 3, 3) for place, into, out in zip(places, widths[:-1], widths[1:], strict=True)
    }
    return _random(shapes, torch.float16)


def _random(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> Tensors:
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, shape in shapes.items():
        deviation = (2.0 / (shape[1] * shape[2] * shape[3])) ** 0.5  # He et al. 2015: layers keep their scale
        tensors[f"{name}.weight"] = (torch.randn(shape, generator=generator) * deviation).to(dtype)
        tensors[f"{name}.bias"] = torch.zeros(shape[0], dtype=dtype)
    return tensors


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "squeezenet.safetensors"
    safetensors.torch.save_file(squeezenet(), path)
    return path


@pytest.fixture(scope="module")
def features(weights: Path) -> Features:
    return load_features(weights)


def picture(seed: int, height: int = 40, width: int = 33, channels: int = 3) -> Pixels:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (height // 8 + 1, width // 8 + 1, channels)).repeat(8, 0).repeat(8, 1)
    image = (coarse[:height, :width] + rng.normal(0.0, 10.0, (height, width, channels))).clip(0, 255).astype(np.uint8)
    return image[:, :, 0] if channels == 1 else image


def pair_of(image: Pixels) -> Pair:
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[:20] = 255
    return Pair(image, mask)


def style(weights: Path | None, *, source: StyleSource = "own", strength: float = 1.0, steps: int = 6) -> Style:
    spec = StyleSpec(kind="gatys", source=source, strength=strength, steps=steps)
    return prepare(spec, ImageSpec(size_px=32), weights=weights, public=None, stored=None, seed=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_comes_out_with_a_lower_loss_than_it_began_with(features: Features, channels: int) -> None:
    gatys = GatysTransfer(features, steps=8, content_to_style=0.001)
    samples = [picture(seed, channels=channels) for seed in (1, 2)]
    looks = [gatys.look(picture(seed, 50, 36, channels)) for seed in (3, 4)]
    before = gatys.losses([sample.astype(float) for sample in samples], samples, looks)
    after = gatys.losses(gatys.move(samples, looks, 0), samples, looks)
    assert all(now < 0.8 * then for now, then in zip(after, before, strict=True))


def test_an_image_in_its_own_style_has_nothing_to_lose(features: Features) -> None:
    gatys = GatysTransfer(features, steps=3, content_to_style=0.001)
    image = picture(1)
    assert gatys.losses([image.astype(float)], [image], [gatys.look(image)]) == pytest.approx([0.0], abs=1e-6)


def test_the_more_the_content_weighs_the_less_a_sample_changes(features: Features) -> None:
    def deep(image: NDArray[np.floating] | Pixels) -> Tensor:
        with torch.no_grad():
            return features(torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32) / 255))[-1]

    moved = []
    for content_to_style in (1e-6, 1e3):
        gatys = GatysTransfer(features, steps=12, content_to_style=content_to_style)
        (after,) = gatys.move([picture(1)], [gatys.look(picture(2))], 0)
        moved.append(float((deep(after) - deep(picture(1))).square().mean()))
    assert moved[1] < 0.5 * moved[0]


def test_a_samples_result_does_not_depend_on_its_batch(weights: Path) -> None:
    samples = [pair_of(picture(seed)) for seed in range(10)]  # more than one batch
    references = [picture(seed + 20, 32, 32) for seed in range(10)]
    together = style(weights, steps=2).apply(samples, references, 0)
    for place in (0, 7, 9):
        (alone,) = style(weights, steps=2).apply([samples[place]], [references[place]], 0)
        assert np.abs(alone.image.astype(int) - together[place].image.astype(int)).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_odd_sizes_and_grey_keep_shape_and_mask(weights: Path, channels: int) -> None:
    sample = pair_of(picture(1, 45, 37, channels))
    (after,) = style(weights, steps=2, strength=0.5).apply([sample], [picture(2, 33, 61)], 0)
    assert after.image.shape == sample.image.shape
    assert np.array_equal(after.mask, sample.mask)
    assert not np.array_equal(after.image, sample.image)


def test_an_image_too_small_for_the_network_is_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match="smaller than"):
        style(weights).apply([pair_of(picture(1))], [picture(2, 31, 40)], 0)


def test_what_it_reads_depends_on_the_source_not_on_the_kind(weights: Path) -> None:
    assert style(weights).reads == "own case"
    assert style(weights, source="cohort").reads == "other training cases"


# The file of weights


def test_squeezenet_is_recognised_and_walked_as_torchvision_walks_it(features: Features) -> None:
    assert features.name == "squeezenet1_1"
    layers = features(torch.rand(2, 3, 64, 96))
    assert [tuple(layer.shape[1:]) for layer in layers] == [
        (64, 31, 47), (128, 15, 23), (256, 7, 11), (384, 3, 5), (512, 3, 5),
    ]  # fmt: skip
    from shared.vision import import_smp

    import_smp()  # lets torchvision import beside a CPU torch
    from torchvision.models import squeezenet1_1

    reference = squeezenet1_1(weights=None)
    reference.load_state_dict(squeezenet())
    image = torch.rand(1, 3, 64, 64)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = reference.features.eval()((image - mean[:, None, None]) / deviation[:, None, None])
    assert torch.allclose(features(image)[-1], wanted, atol=1e-5, rtol=1e-4)


def test_vgg_19_is_recognised_without_its_classifier(tmp_path: Path) -> None:
    safetensors.torch.save_file(vgg19(), tmp_path / "vgg.safetensors")
    found = load_features(tmp_path / "vgg.safetensors")
    assert found.name == "vgg19"
    with torch.no_grad():
        shapes = [tuple(layer.shape[1:]) for layer in found(torch.rand(1, 1, 32, 48))]
    assert shapes == [(64, 32, 48), (128, 16, 24), (256, 8, 12), (512, 4, 6), (512, 2, 3)]


def without(name: str) -> Callable[[Tensors], None]:
    return lambda tensors: tensors.__delitem__(name)


@pytest.mark.parametrize(
    "spoil",
    [
        without("features.12.expand3x3.bias"),
        without("classifier.1.bias"),  # half a classifier: the file was cut or mixed
        lambda tensors: tensors.update({"features.99.weight": torch.zeros(1)}),
        lambda tensors: tensors.update({"features.0.weight": torch.zeros(64, 3, 7, 7)}),
        lambda tensors: tensors.update({"features.0.bias": torch.full((64,), float("nan"))}),
        lambda tensors: tensors.update({"features.0.bias": torch.zeros(64, dtype=torch.int64)}),
        lambda tensors: tensors.clear(),
    ],
    ids=["missing", "half a classifier", "further", "shape", "not finite", "integers", "empty"],
)
def test_weights_that_are_not_the_whole_network_are_refused(tmp_path: Path, spoil: Callable[[Tensors], None]) -> None:
    tensors = squeezenet()
    spoil(tensors)
    safetensors.torch.save_file(tensors, tmp_path / "w.safetensors")
    with refused("style.weights-refused"):
        style(tmp_path / "w.safetensors")


def test_a_pickle_is_refused_and_never_loaded(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "it-ran"),))  # type: ignore[return-value]

    path = tmp_path / "weights.safetensors"
    for old_form in (False, True):
        torch.save({"features.0.weight": Bomb()}, path, _use_new_zipfile_serialization=not old_form)
        with pytest.raises(SynthwardError) as caught:
            style(path)
        assert caught.value.code == "style.weights-refused"
        assert "pickle" in caught.value.what
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize("content", [b"", b"\x10", b"\xff" * 64, b"\x40\x00\x00\x00\x00\x00\x00\x00{" + b" " * 80])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w").write_bytes(content)
    with refused("style.weights-refused"):
        style(tmp_path / "w")


def test_weights_that_are_not_there_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    for missing in (None, tmp_path / "nowhere", tmp_path):
        with refused("style.weights-missing"):
            style(missing)
