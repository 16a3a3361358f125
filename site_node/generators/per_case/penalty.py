"""The gradient penalty of WGAN-GP, and its short way for critics without a norm.

Such a critic is linear between the kinks of its LeakyReLUs, so the gradient of its scores with respect to the image is
a product of transposed convolutions and slopes that do not change with the weights. Written out like that it is an
ordinary function of the weights, and the penalty's own gradient takes one backward pass instead of two nested ones.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from site_node.generators.per_case.pyramid import Critic, convolutions

_SLOPE = 0.2  # of the trunk's LeakyReLUs below zero


def gradient_penalty(critic: Critic, between: Tensor) -> Tensor:
    """Mean over pixels of (|d sum(critic) / d pixel| - 1)^2, the norm taken over channels: [N, C, H, W] -> scalar.

    between: points on the lines from real to fake images (Gulrajani et al. 2017, eq. 3). Theirs is the norm over the
    whole image; SinGAN's, kept here, is over the channels at each pixel.
    """
    way = plain_gradient if critic.config.norm == "none" else nested_gradient
    gradient = way(critic, between)  # [N, C, H, W]
    norms = gradient.norm(2, dim=1)  # [N, C, H, W] -> [N, H, W]
    penalty: Tensor = (norms - 1.0).square().mean()
    return penalty


def nested_gradient(critic: Critic, between: Tensor) -> Tensor:
    """d sum(critic) / d pixel by automatic differentiation, differentiable itself: [N, C, H, W] -> [N, C, H, W]."""
    points = between.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(points).sum(), points, create_graph=True)
    return gradient


def plain_gradient(critic: Critic, between: Tensor) -> Tensor:
    """The same for a critic without a norm, written out: [N, C, H, W] -> [N, C, H, W]."""
    *hidden, last = convolutions(critic.trunk)
    slopes: list[Tensor] = []
    steep, flat = between.new_tensor(1.0), between.new_tensor(_SLOPE)
    with torch.no_grad():
        out = between
        for conv in hidden:
            out = conv(out)  # [N, c, h, w] -> [N, width, h - 2, w - 2]
            slopes.append(torch.where(out > 0, steep, flat))
            out = F.leaky_relu_(out, _SLOPE)
    gradient = between.new_ones(out.shape[0], 1, out.shape[2] - 2, out.shape[3] - 2)  # of the sum by each score
    gradient = _transposed(gradient, last)  # [N, 1, h - 2, w - 2] -> [N, width, h, w]
    for conv, slope in zip(reversed(hidden), reversed(slopes), strict=True):
        gradient = _transposed(gradient * slope, conv)  # [N, width, h - 2, w - 2] -> [N, c, h, w]
    return gradient


def _transposed(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """conv's transpose, as a padded convolution with the kernel turned: on CPUs faster than conv_transpose2d."""
    return F.conv2d(x, conv.weight.transpose(0, 1).flip(2, 3), padding=2)
