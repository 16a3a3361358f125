"""A segmenter's weights as arrays: their digest, and the file in which they lie.

Weights travel as named arrays, never as code: no pickle, safetensors on the disk. A measurement request binds them by
their digest, so the process that has the network can check what arrived. It has no PyTorch, and this file needs none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from shared.errors import SynthwardError
from shared.files import write_atomic

MAX_WEIGHTS_BYTES = 512 * 1024 * 1024

Arrays = Mapping[str, NDArray[Any]]


def digest(arrays: Arrays) -> str:
    """SHA-256, in hexadecimal, over names, element types, shapes and bytes (little-endian, C order), sorted by name.

    Equal exactly where everything is equal, on every machine. Raises weights.mismatch for arrays that are not of plain
    numbers: they may have come from anywhere.
    """
    state = hashlib.sha256(b"synthward/weights/1\x00")
    for name in sorted(arrays):
        array = arrays[name]
        if array.dtype.kind not in "biuf":
            raise SynthwardError("weights.mismatch", f"{name} holds {array.dtype}, which is not a plain number")
        plain = array.astype(array.dtype.newbyteorder("<"), copy=False)
        # JSON marks where a name or a shape ends, so no two sets of arrays can be spelled alike.
        state.update(json.dumps([name, plain.dtype.str, plain.shape]).encode() + b"\n")
        state.update(plain.tobytes(order="C"))
    return state.hexdigest()


def pack(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """One flat array for each element type, by its name, the arrays in the order of their names.

    Flower sends every array as an object of its own: a network's 470 take a minute, two flat ones a second.
    """
    kinds = sorted({array.dtype.name for array in arrays.values()})
    return {
        kind: np.concatenate([arrays[name].ravel() for name in sorted(arrays) if arrays[name].dtype.name == kind])
        for kind in kinds
    }


def unpack(packed: Arrays, layout: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, NDArray[Any]]:
    """The named arrays of `pack`. layout: name -> (element type, shape), of the receiver's own network.

    Raises weights.mismatch when what came is not exactly what the layout takes.
    """
    kinds = {kind for kind, _ in layout.values()}
    if packed.keys() != kinds or any(array.ndim != 1 or array.dtype.name != kind for kind, array in packed.items()):
        raise SynthwardError("weights.mismatch", f"the weights are of {sorted(packed)}, the network of {sorted(kinds)}")
    arrays: dict[str, NDArray[Any]] = {}
    used = dict.fromkeys(kinds, 0)
    for name in sorted(layout):
        kind, shape = layout[name]
        start, size = used[kind], math.prod(shape)
        if start + size > packed[kind].size:
            raise SynthwardError("weights.mismatch", f"the {kind} weights end before {name}")
        arrays[name] = packed[kind][start : start + size].reshape(shape)
        used[kind] += size
    if any(used[kind] != packed[kind].size for kind in kinds):
        raise SynthwardError("weights.mismatch", "there are more weights than the network takes")
    return arrays


def save_arrays(path: Path, arrays: Arrays) -> None:
    """Writes a safetensors file that is whole or not there. Raises storage.full."""
    # safetensors writes the memory as it lies, so a transposed view would come back scrambled. `ascontiguousarray`
    # would turn the shape [] of a counter into [1].
    write_atomic(path, save({name: array.copy(order="C") for name, array in arrays.items()}))


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a safetensors file. Raises storage.damaged when it is none, and OSError when it is not there.

    Nothing is said about whether they fit a network: `shared.segmenter.from_arrays` does that.
    """
    size = path.stat().st_size
    if size > MAX_WEIGHTS_BYTES:
        raise SynthwardError("storage.damaged", f"{path} has {size} bytes; weights have at most {MAX_WEIGHTS_BYTES}")
    try:
        return dict(load(path.read_bytes()))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:  # KeyError: an element type unknown to numpy
        raise SynthwardError(
            "storage.damaged",
            f"{path} is not a safetensors file of plain numbers ({type(error).__name__})",
            why="it was cut short, changed, or written by something else",
            do="delete it and run the same step again: it will be written anew",
        ) from error
