"""An optimiser's moments as named tensors, and back: what a training that was cut short needs of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers of each parameter, as INDEX.NAME."""
    remembered = optimiser.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, of in remembered.items() for name, tensor in of.items()}


def restore_moments(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts moments back; rates stay as they are. Raises KeyError, ValueError or IndexError for another optimiser's."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, _, name = key.partition(".")
        like = parameters[int(index)]
        # A fused step takes for granted that moments lie in memory as their parameters do.
        kept = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
        state.setdefault(int(index), {})[name] = kept
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
