"""The encoder's first weights: taken whole from the file that the study names, or refused."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from shared.encoder_weights import encoder_tensors
from shared.errors import SynthwardError
from shared.segmenter import Segmenter, build, from_arrays, predict, to_arrays
from shared.study import Encoder, EvaluationSpec, ImageSpec
from shared.vision import import_smp
from shared.weights import digest

IMAGE = ImageSpec(size_px=32)
OWN = {
    "conv1.weight": torch.zeros(2, 3),
    "bn1.running_var": torch.ones(2),
    "bn1.num_batches_tracked": torch.tensor(0),
}


def spec_for(content: bytes, encoder: Encoder = "resnet18") -> EvaluationSpec:
    return EvaluationSpec(encoder=encoder, encoder_weights=hashlib.sha256(content).hexdigest())


def written(path: Path, tensors: Mapping[str, torch.Tensor]) -> tuple[Path, EvaluationSpec]:
    content = safetensors.torch.save(dict(tensors))
    path.write_bytes(content)
    return path, spec_for(content)


def filled(value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full_like(tensor, value) for name, tensor in OWN.items()}


def test_a_file_is_taken_by_name_and_its_classifier_is_left_out(tmp_path: Path) -> None:
    path, spec = written(tmp_path / "encoder", {**filled(3), "fc.weight": torch.ones(4, 2), "fc.bias": torch.ones(4)})
    found = encoder_tensors(spec, OWN, path)

    assert list(found) == list(OWN)
    assert all(torch.equal(found[name], tensor) for name, tensor in filled(3).items())


def test_a_file_without_counts_of_batches_is_whole(tmp_path: Path) -> None:
    path, spec = written(tmp_path / "encoder", {n: t for n, t in filled(3).items() if "num_batches" not in n})
    assert torch.equal(encoder_tensors(spec, OWN, path)["bn1.num_batches_tracked"], OWN["bn1.num_batches_tracked"])


@pytest.mark.parametrize(
    "tensors",
    [
        {n: t for n, t in OWN.items() if n != "conv1.weight"},
        {**OWN, "layer9.weight": torch.ones(2)},
        {**OWN, "conv1.weight": torch.zeros(3, 2)},
        {**OWN, "conv1.weight": torch.zeros(2, 3, dtype=torch.float64)},
        {**OWN, "conv1.weight": torch.full((2, 3), torch.nan)},
        {"encoder." + n: t for n, t in OWN.items()},
    ],
    ids=["missing", "further", "shape", "type", "nan", "renamed"],
)
def test_weights_of_another_network_are_refused(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    path, spec = written(tmp_path / "encoder", tensors)
    with pytest.raises(SynthwardError) as refusal:
        encoder_tensors(spec, OWN, path)
    assert refusal.value.code == "weights.mismatch"


def test_a_file_that_the_study_does_not_name_is_refused_and_none_at_all_too(tmp_path: Path) -> None:
    path, spec = written(tmp_path / "encoder", OWN)
    path.write_bytes(safetensors.torch.save(filled(2)))
    for file in (path, tmp_path / "absent", tmp_path, None):
        with pytest.raises(SynthwardError) as refusal:
            encoder_tensors(spec, OWN, file)
        assert refusal.value.code == "weights.mismatch"


def test_a_pickle_is_refused_even_where_the_study_names_it(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(OWN, buffer)
    path = tmp_path / "encoder"
    path.write_bytes(buffer.getvalue())
    with pytest.raises(SynthwardError) as refusal:
        encoder_tensors(spec_for(buffer.getvalue()), OWN, path)
    assert refusal.value.code == "weights.mismatch"


def encoder_of(name: str) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = import_smp().encoders.get_encoder(name, weights=None).state_dict()
    return state


def test_a_network_starts_from_the_file_and_not_from_another_encoders(tmp_path: Path) -> None:
    own = encoder_of("resnet18")
    path, spec = written(tmp_path / "resnet18", own)
    encoder = build(spec, IMAGE, path).get_submodule("network.encoder").state_dict()
    assert all(torch.equal(encoder[name], tensor) for name, tensor in own.items())

    other, named = written(tmp_path / "resnet34", encoder_of("resnet34"))
    with pytest.raises(SynthwardError) as refusal:
        build(named, IMAGE, other)
    assert refusal.value.code == "weights.mismatch"


def drawn(encoder: Encoder, seed: int) -> Segmenter:
    torch.manual_seed(seed)
    return build(EvaluationSpec(encoder=encoder, encoder_weights="none"), IMAGE).eval()


@pytest.mark.parametrize("encoder", ["resnet34", "resnet50", "se_resnext50_32x4d", "tu-tf_efficientnet_lite0"])
def test_a_network_of_every_encoder_needs_no_file_and_comes_back_from_its_arrays(encoder: Encoder) -> None:
    network = drawn(encoder, 0)
    back = from_arrays(to_arrays(network), EvaluationSpec(encoder=encoder, encoder_weights="none"), IMAGE)

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    assert np.array_equal(predict(back, pixels), predict(network, pixels))


def test_an_encoder_without_weights_is_drawn_by_chance_alone() -> None:
    first, again, other = (to_arrays(drawn("resnet18", seed)) for seed in (0, 0, 1))
    name = "network.encoder.layer1.0.conv1.weight"
    assert digest(first) == digest(again)
    assert not np.array_equal(first[name], other[name])


def test_each_encoder_gets_images_as_its_weights_were_trained_on_them() -> None:
    given: dict[str, torch.Tensor] = {}
    expected: dict[Encoder, tuple[float, float]] = {"resnet18": (0.485, 0.229), "tu-tf_efficientnet_lite0": (0.5, 0.5)}
    for encoder, (mean, deviation) in expected.items():
        model = build(EvaluationSpec(encoder=encoder, encoder_weights="none"), IMAGE).eval()
        model.network.register_forward_pre_hook(lambda _, inputs, name=encoder: given.update({name: inputs[0]}))
        with torch.no_grad():
            model(torch.full((1, 3, 32, 32), 0.75))
        assert float(given[encoder][0, 0, 0, 0]) == pytest.approx((0.75 - mean) / deviation)
        assert not [name for name in model.state_dict() if not name.startswith("network.")]
