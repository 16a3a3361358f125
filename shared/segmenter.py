"""The network that judges pairs: UNet++ with the encoder that the study names, the same in every arm, at every site.

The architecture is built here, by name; weights arrive as arrays and are checked one by one. The encoder's first
weights come from an installed Python package, from a file that an administrator points to, or from chance
(shared.encoder_weights): nothing is ever downloaded.

Promise: equal pairs, specification and seed give equal weights, bit for bit, on one thread of one kind of machine.
Every arm takes the same number of optimiser steps on batches of the same size, however many pairs it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shared.encoder_weights import encoder_tensors
from shared.errors import SynthwardError
from shared.metrics import Metrics, case_metrics, patient_mean
from shared.pairs import Pair, Pixels
from shared.study import Encoder, EvaluationSpec, ImageSpec
from shared.vision import IMAGENET_DEVIATION, IMAGENET_MEAN, import_smp
from shared.weights import unpack

# What EfficientNet-Lite's ImageNet weights were trained on, in place of ImageNet's own mean and deviation.
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Segmenter(nn.Module):
    """UNet++ that takes images as they are: it normalises them, and repeats grey to the encoder's three channels."""

    def __init__(self, network: nn.Module, image: ImageSpec, encoder: Encoder = "tu-tf_efficientnet_lite0") -> None:
        super().__init__()
        # Channels last takes a third off a training step on a CPU.
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.image = image
        mean, deviation = _HALF if encoder.startswith("tu-") else (IMAGENET_MEAN, IMAGENET_DEVIATION)
        # Constants of the architecture, so they are no weights and travel with none.
        self.register_buffer("_mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """images: float32 [B, C, H, W] in [0, 1], sides multiples of 32. Returns logits: float32 [B, 1, H, W]."""
        normalised = (images.expand(-1, 3, -1, -1) - self.get_buffer("_mean")) / self.get_buffer("_deviation")
        logits: Tensor = self.network(normalised.contiguous(memory_format=torch.channels_last))
        return logits


def build(spec: EvaluationSpec, image: ImageSpec, weights: Path | None = None) -> Segmenter:
    """A new segmenter in training mode: its encoder as the study names it, the rest from PyTorch's global chance.

    weights: the file whose SHA-256 the study names. Raises weights.mismatch when the encoder's weights are not those
    that it names, or not those of its architecture.
    """
    model = _architecture(spec, image)
    if spec.encoder_weights == "none":
        return model
    # timm's encoders are wrapped once more than the library's own, and a file has the names of what is wrapped.
    encoder = model.get_submodule("network.encoder.model" if spec.encoder.startswith("tu-") else "network.encoder")
    encoder.load_state_dict(encoder_tensors(spec, encoder.state_dict(), weights))
    return model


def _architecture(spec: EvaluationSpec, image: ImageSpec) -> Segmenter:
    network = import_smp().UnetPlusPlus(
        encoder_name=spec.encoder,
        encoder_weights=None,  # a name here would ask a hub
        decoder_channels=spec.decoder_channels,
        in_channels=3,
        classes=1,
    )
    return Segmenter(network, image, spec.encoder)


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
