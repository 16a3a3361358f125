"""Networks whose features describe style: VGG-19 or SqueezeNet 1.1, from a file that the hospital names.

The architecture is told by the names and shapes of the file's tensors, as torchvision names them, and every one must
be there, fit, and be finite. Safetensors only: a pickle could run code, and is refused unread.

VGG-19: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2015.
SqueezeNet: Iandola et al., "SqueezeNet: AlexNet-level accuracy with 50x fewer parameters", 2016, version 1.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from shared.errors import SynthwardError
from shared.vision import IMAGENET_DEVIATION, IMAGENET_MEAN

Shapes = Mapping[str, tuple[int, ...]]

# torchvision's numbers of VGG-19's convolutions, with their widths; ReLUs and poolings lie between them.
_VGG_CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
    16: (256, 256), 19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512), 28: (512, 512), 30: (512, 512),
    32: (512, 512), 34: (512, 512),
}  # fmt: skip
_VGG_POOLS = (4, 9, 18, 27)
_VGG_LINEARS = {0: (4096, 25088), 3: (4096, 4096), 6: (1000, 4096)}
_VGG_STYLE = (0, 5, 10, 19, 28)  # conv1_1, conv2_1, conv3_1, conv4_1, conv5_1
# torchvision's numbers of SqueezeNet 1.1's fire modules: channels in, squeezed, and out of each of the two halves.
_FIRES = {
    3: (64, 16, 64), 4: (128, 16, 64), 6: (128, 32, 128), 7: (256, 32, 128), 9: (256, 48, 192), 10: (384, 48, 192),
    11: (384, 64, 256), 12: (512, 64, 256),
}  # fmt: skip
_SQUEEZENET_POOLS = (2, 5, 8)
_SQUEEZENET_STYLE = (0, 4, 7, 10, 12)  # the first convolution, then the last fire module but one of each resolution
DEVIATION = sum(IMAGENET_DEVIATION) / 3  # both networks were trained with ImageNet's
SMALLEST_PX = 32  # both halve four times, and the last features need a pixel or two


class Features(nn.Module):
    """The five style layers of a network, shallow to deep, with fixed weights."""

    def __init__(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.name = name
        self._walk = _vgg if name == "vgg19" else _squeezenet
        self._tensors = dict(tensors)
        self._mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
        self._deviation = torch.tensor(IMAGENET_DEVIATION).view(1, 3, 1, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """images: float32 [B, 1 or 3, H, W] in [0, 1], sides of 32 px or more -> five of [B, d, h, w], after ReLU."""
        return self._walk((images.expand(-1, 3, -1, -1) - self._mean) / self._deviation, self._tensors)


@dataclass(frozen=True)
class _Architecture:
    name: str
    trunk: Shapes  # what the features need
    classifier: Shapes  # what a whole network has besides; a file holds all of it or nothing


def load_features(path: Path, *, setting: str = "style_weights") -> Features:
    """The network in a safetensors file, in float32. setting: which one names it, for the error.

    Raises style.weights-missing when there is no such file, and style.weights-refused for anything but the whole
    weights of one of the two networks.
    """
    if not path.is_file():
        raise SynthwardError(
            "style.weights-missing",
            f"{path} is not a file",
            do=f"put the weights there, or set {setting} in settings.toml to where they are",
        )
    try:
        _refuse_pickle(path)
        with safetensors.safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            architecture = _recognised(shapes, path)
            tensors = {name: file.get_tensor(name) for name in architecture.trunk}
    except (safetensors.SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise _refused(
            f"{path} is not a safetensors file ({type(error).__name__})", "it was cut short or is another kind"
        ) from error
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise _refused(
                f"{name} in {path} holds values that are no finite numbers", "they would spread over every sample"
            )
    return Features(architecture.name, {name: tensor.float() for name, tensor in tensors.items()})


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(2)
    # torch.save writes a zip archive (PK) of a pickle, or, in its old form, a bare pickle (0x80 and its protocol).
    if head == b"PK" or head[:1] == b"\x80":
        raise _refused(f"{path} is a pickle", "loading a pickle can run any code that is in it")


def _recognised(shapes: Shapes, path: Path) -> _Architecture:
    """The architecture whose tensors these are, all of them and no other."""
    for architecture in _architectures():
        if shapes in (dict(architecture.trunk), {**architecture.trunk, **architecture.classifier}):
            return architecture
    nearest = max(_architectures(), key=lambda known: len(known.trunk.items() & shapes.items()))
    wrong = sorted(name for name in nearest.trunk if shapes.get(name) != nearest.trunk[name])
    further = sorted(shapes.keys() - nearest.trunk.keys() - nearest.classifier.keys())
    raise _refused(
        f"{path} does not hold {nearest.name}: {len(wrong)} of its tensors are missing or of another shape "
        f"(first: {wrong[0] if wrong else 'none'}), {len(further)} are none of its own",
        "features of another network, or of half of one, would be another style",
    )


def _refused(what: str, why: str) -> SynthwardError:
    return SynthwardError(
        "style.weights-refused",
        what,
        why=why,
        do="name a safetensors file of VGG-19 or SqueezeNet 1.1 with torchvision's tensor names in settings.toml",
    )


def _architectures() -> tuple[_Architecture, ...]:
    vgg = {f"features.{n}": (out, into, 3, 3) for n, (into, out) in _VGG_CONVOLUTIONS.items()}
    fires = {"features.0": (64, 3, 3, 3)}
    for n, (into, squeezed, half) in _FIRES.items():
        fires[f"features.{n}.squeeze"] = (squeezed, into, 1, 1)
        fires[f"features.{n}.expand1x1"] = (half, squeezed, 1, 1)
        fires[f"features.{n}.expand3x3"] = (half, squeezed, 3, 3)
    linears = {f"classifier.{n}": shape for n, shape in _VGG_LINEARS.items()}
    return (
        _Architecture("vgg19", _with_biases(vgg), _with_biases(linears)),
        _Architecture("squeezenet1_1", _with_biases(fires), _with_biases({"classifier.1": (1000, 512, 1, 1)})),
    )


def _with_biases(weights: Shapes) -> dict[str, tuple[int, ...]]:
    """Each layer's weight [out, ...] and bias [out]."""
    both = {f"{layer}.weight": shape for layer, shape in weights.items()}
    return both | {f"{layer}.bias": shape[:1] for layer, shape in weights.items()}


def _vgg(x: Tensor, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    found = []
    for n in range(_VGG_STYLE[-1] + 1):
        if n in _VGG_POOLS:
            x = F.max_pool2d(x, 2)  # [B, d, h, w] -> [B, d, h / 2, w / 2]
        elif n in _VGG_CONVOLUTIONS:
            x = _convolved(x, tensors, f"features.{n}", padding=1)
            if n in _VGG_STYLE:
                found.append(x)
    return found


def _squeezenet(x: Tensor, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    x = _convolved(x, tensors, "features.0", stride=2)  # [B, 3, H, W] -> [B, 64, (H - 1) / 2, (W - 1) / 2]
    found = [x]
    for n in range(1, _SQUEEZENET_STYLE[-1] + 1):
        if n in _SQUEEZENET_POOLS:
            x = F.max_pool2d(x, 3, stride=2, ceil_mode=True)
        elif n in _FIRES:
            squeezed = _convolved(x, tensors, f"features.{n}.squeeze")
            halves = [
                _convolved(squeezed, tensors, f"features.{n}.expand1x1"),
                _convolved(squeezed, tensors, f"features.{n}.expand3x3", padding=1),
            ]
            x = torch.cat(halves, dim=1)  # 2 of [B, d, h, w] -> [B, 2 d, h, w]
            if n in _SQUEEZENET_STYLE:
                found.append(x)
    return found


def _convolved(x: Tensor, tensors: Mapping[str, Tensor], layer: str, *, stride: int = 1, padding: int = 0) -> Tensor:
    weight, bias = tensors[f"{layer}.weight"], tensors[f"{layer}.bias"]
    return F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))
