"""Critics, optimisers and terms with which a private step would be silently wrong, and why each is refused.

A per-patient gradient means something only where a critic's score of an image depends on the weights and on that image
alone; noise protects only what goes through it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shared.errors import SynthwardError
from site_node.dp.tainted import PrivateTensor

# Layers whose per-image gradients by vmap equal a loop's in float64 to 1e-10 (tests/unit/test_dp_training_step.py).
EXACT_LAYERS: tuple[type[nn.Module], ...] = (
    nn.Conv2d, nn.Linear, nn.GroupNorm, nn.InstanceNorm2d, nn.LayerNorm, nn.LeakyReLU, nn.ReLU, nn.SiLU, nn.Tanh,
    nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity,
)  # fmt: skip
_CONTAINERS = (nn.Sequential, nn.ModuleList)
_ALONE_WITHIN = 1e-9  # relative, in float64


def check_critic(critic: nn.Module, shape: tuple[int, int, int]) -> None:
    """Raises dp.critic where per-patient gradients of the critic would be wrong. shape: (C, H, W) of an image.

    By its layers, and by trial on noise: the scores of two images together must be those of each alone.
    """
    for module in critic.modules():
        if (reason := _reason_against(module)) is not None:
            raise _refused(f"the critic has a layer {type(module).__name__}", reason)
    if next(critic.buffers(), None) is not None:
        raise _refused("the critic keeps values besides its weights", "what it keeps of an image gets no noise")
    if not _treats_images_alone(critic, shape):
        raise _refused("the critic's score of an image depends on the images beside it", _MIXES)


_MIXES = "one patient would change the gradients of others, and the clip would bound nothing"


def _reason_against(module: nn.Module) -> str | None:
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return _MIXES
    if getattr(module, "track_running_stats", False):
        return "running statistics hold private values without noise"
    if parametrize.is_parametrized(module) or module._forward_pre_hooks or module._forward_hooks:
        return "spectral norm and other hooks change between two patients of one step"
    if getattr(module, "inplace", False):
        return "overwritten activations break gradients of gradients, and the hooks of Opacus"
    if not isinstance(module, EXACT_LAYERS) and next(module.children(), None) is None:
        return "whether its per-image gradients are exact has not been tested"
    return None


def _treats_images_alone(critic: nn.Module, shape: tuple[int, int, int]) -> bool:
    like = next(critic.parameters())
    random = torch.Generator().manual_seed(0)
    images = torch.randn(3, *shape, generator=random).to(like.device, like.dtype)
    with torch.no_grad():
        together = critic(images).double()  # [3]
        alone = torch.cat([critic(image[None]) for image in images]).double()
    within = _ALONE_WITHIN if like.dtype == torch.float64 else 1e-4
    return torch.allclose(together, alone, rtol=within, atol=within)


def _refused(what: str, why: str) -> SynthwardError:
    return SynthwardError(
        "dp.critic", what, why=why, do="build it of convolutions, linear layers and GroupNorm, without in-place layers"
    )


def check_optimiser(optimiser: torch.optim.Optimizer, critic: nn.Module) -> None:
    """Raises dp.optimiser where it remembers other gradients, and ValueError where it has other weights to move."""
    own = {id(p) for group in optimiser.param_groups for p in group["params"]}
    if own != {id(p) for p in critic.parameters()}:
        raise ValueError("the optimiser moves other weights than the critic's")
    if optimiser.state:
        raise unclipped_optimiser()


def unclipped_optimiser() -> SynthwardError:
    """The refusal of an optimiser that took a step of its own."""
    return SynthwardError(
        "dp.optimiser",
        "the critic's optimiser remembers gradients that did not go through the mechanism",
        why="its momentum would carry them into the weights without noise",
        do="give each private training a new optimiser",
    )


def check_free_of_private(loss: Tensor) -> None:
    """Raises dp.private-points where a term that gets no noise was computed from private images."""
    if isinstance(loss, PrivateTensor):
        raise SynthwardError(
            "dp.private-points",
            "a term besides the mechanism was computed from private images",
            why="its gradient is neither clipped nor noised: the guarantee would be empty",
            do="take penalties between drawn images, or at public ones",
        )
