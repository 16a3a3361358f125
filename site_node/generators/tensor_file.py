"""One file of named tensors with a description: how generators and trainings lie on the disk.

Safetensors, written whole or not at all, and readable by its owner only: whatever is in it is patient data.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
from torch import Tensor

from shared.errors import SynthwardError
from shared.files import write_private

_KEY = "synthward"  # of the description in the file's metadata
# What reading a damaged or foreign file may raise, and putting its tensors into networks.
UNREADABLE = (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError)
Restored = TypeVar("Restored")


def write_tensors(path: Path, description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Replaces the file. description: of JSON's types. Raises SynthwardError storage.full."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_private(path, safetensors.torch.save(kept, {_KEY: json.dumps(description, sort_keys=True)}))


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors. Raises FileNotFoundError, and something of UNREADABLE for a file of another kind."""
    with safetensors.safe_open(path, framework="pt") as file:
        description = json.loads((file.metadata() or {})[_KEY])
        return description, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def load_generator(path: Path, form: str, restore: Callable[[dict[str, Any], dict[str, Tensor]], Restored]) -> Restored:
    """What `restore` makes of a generator's file, whose description says that its format is `form`.

    Raises SynthwardError storage.damaged for any other file, and FileNotFoundError.
    """
    try:
        description, tensors = read_tensors(path)
        if description["format"] != form:
            raise ValueError(f"format {description['format']!r} is not {form!r}")
        return restore(description, tensors)
    except UNREADABLE as error:
        raise SynthwardError(
            "storage.damaged",
            f"{path} is not a generator that this version can read ({error})",
            why="a generator that is not what was saved draws something else",
            do="remove the file: the generator is trained again",
        ) from error


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix.`, under the rest of their names."""
    return {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
