"""Importing segmentation-models-pytorch beside a PyTorch whose torchvision has no compiled operators.

The package index has no CPU build of torchvision. The ordinary wheel installs beside a CPU build of PyTorch, but its
import fails: it describes two operators (non-maximum suppression of boxes) that its compiled part, which cannot be
loaded there, would have declared. Nothing here detects boxes, so declaring their names is enough.

Promise: where torchvision imports as it is, nothing is declared. This is the only place that declares.
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType

import torch

# Mean and deviation by channel of ImageNet's images in [0, 1], with which most networks were trained.
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@functools.cache
def import_smp() -> ModuleType:
    """The module segmentation_models_pytorch. Raises what its import raises, where the reason is another one."""
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        _declare_operators()
        importlib.import_module("torchvision")
    return importlib.import_module("segmentation_models_pytorch")


@functools.cache
def _declare_operators() -> torch.library.Library:
    """Declares the operators without an implementation. Cached: they vanish with the object that declared them."""
    # The failed import took the package back, but not the submodules that had been imported by then.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for operator in _OPERATORS:
        library.define(operator + _SIGNATURE)  # type: ignore[no-untyped-call]
    return library
