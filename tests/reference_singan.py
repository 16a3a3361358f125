"""SinGAN-Seg's training as its authors wrote it, from the formulas, plainly and slowly.

It keeps what their loop wastes, so that what is measured or compared against it is the real thing: three generator
passes of which two are thrown away, since the optimiser's step stands outside the loop; the whole chain of coarser
generators, with their BatchNorms, drawn again for every critic step; the gradient penalty by differentiating twice. Not
kept: upscaling through uint8, the previews that change the generator, and drawing z* again in every iteration.

Nothing of the product's training is used; only the names of the weights are shared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]
CONVS, NORMS, TAIL = (0, 3, 6, 9), (1, 4, 7, 10), 12
PAD = 5


@dataclass
class Schedule:
    """The authors' numbers."""

    iterations: int = 2000
    critic_steps: int = 3
    generator_steps: int = 3
    rate: float = 5e-4
    drop_at: int = 1600
    penalty: float = 0.1
    alpha: float = 10.0
    noise_share: float = 0.1


@dataclass
class Trained:
    """weights: of each scale's generator; losses: per scale and iteration, the critic's three, adversarial, rebuilt."""

    weights: list[Weights] = field(default_factory=list)
    amplitudes: list[float] = field(default_factory=list)
    losses: list[list[tuple[float, ...]]] = field(default_factory=list)


def train(
    reals: Sequence[Tensor],
    z_star: Tensor,
    fresh: Callable[[int, torch.Generator], tuple[Weights, Weights]],
    random: torch.Generator,
    schedule: Schedule,
) -> Trained:
    """reals: [1, C, h, w] of each scale; z_star: [1, C, h + 10, w + 10]; fresh: new generator and critic of a scale."""
    done = Trained()
    critic: Weights = {}
    for scale, real in enumerate(reals):
        new_generator, new_critic = fresh(scale, random)
        if scale > 0 and new_critic["trunk.layers.0.weight"].shape == critic["trunk.layers.0.weight"].shape:
            new_generator, new_critic = copied(done.weights[-1]), copied(critic)
        generator, critic = new_generator, new_critic
        sizes = [tuple(x.shape[2:]) for x in reals[: scale + 1]]
        if scale == 0:
            previous, z_opt, amplitude = torch.zeros_like(real), z_star, 1.0
        else:
            previous = chain(done, sizes, None, z_star)
            z_opt = torch.zeros_like(pad(real))
            amplitude = schedule.noise_share * float(((previous - real) ** 2).mean().sqrt())
        done.losses.append(
            train_scale(real, generator, critic, done, sizes, (previous, z_opt, amplitude), random, schedule)
        )
        done.weights.append(generator)
        done.amplitudes.append(amplitude)
    return done


def train_scale(
    real: Tensor,
    generator: Weights,
    critic: Weights,
    done: Trained,
    sizes: Sequence[tuple[int, ...]],
    rebuilding: tuple[Tensor, Tensor, float],
    random: torch.Generator,
    schedule: Schedule,
) -> list[tuple[float, ...]]:
    z_prev, z_opt, amplitude = rebuilding
    leaves = [[w.requires_grad_(True) for n, w in net.items() if learns(n)] for net in (critic, generator)]
    optimisers = [torch.optim.Adam(of, lr=schedule.rate, betas=(0.5, 0.999)) for of in leaves]
    schedulers = [torch.optim.lr_scheduler.MultiStepLR(o, [schedule.drop_at], 0.1) for o in optimisers]
    history = []
    for _ in range(schedule.iterations):
        noise = unit_noise(real, scale=len(done.weights), random=random)
        critic_losses = []
        for _ in range(schedule.critic_steps):
            clear(leaves[0])
            loss_real = -trunk(critic, real).mean()
            loss_real.backward()
            base = chain(done, sizes, random, None) if done.weights else torch.zeros_like(real)
            fake = generate(generator, pad(base) + amplitude * noise, base)
            loss_fake = trunk(critic, fake.detach()).mean()
            loss_fake.backward()
            share = torch.rand(1, 1, 1, 1, generator=random).to(real)
            between = (share * real + (1 - share) * fake.detach()).requires_grad_(True)
            (slope,) = torch.autograd.grad(trunk(critic, between).sum(), between, create_graph=True)
            loss_penalty = schedule.penalty * ((slope.norm(2, dim=1) - 1) ** 2).mean()
            loss_penalty.backward()
            critic_losses.append((loss_real + loss_fake + loss_penalty).item())
            optimisers[0].step()
        for _ in range(schedule.generator_steps):
            clear(leaves[1])
            adversarial = -trunk(critic, fake).mean()
            adversarial.backward(retain_graph=True)
            rebuilt = ((generate(generator, amplitude * z_opt + pad(z_prev), z_prev) - real) ** 2).mean()
            (schedule.alpha * rebuilt).backward()
        optimisers[1].step()  # outside the loop: two of the three passes' gradients are gone
        for scheduler in schedulers:
            scheduler.step()
        history.append((*critic_losses, adversarial.item(), rebuilt.item()))
    for net in (critic, generator):
        for weight in net.values():
            weight.requires_grad_(False)
    return history


@torch.no_grad()
def chain(
    done: Trained, sizes: Sequence[tuple[int, ...]], random: torch.Generator | None, z_star: Tensor | None
) -> Tensor:
    """The coarser scales' output at the next scale's size: drawn at random, or rebuilt from z*. [1, C, H, W]"""
    like = done.weights[0]["trunk.layers.0.weight"]
    out = torch.zeros(1, like.shape[1], *sizes[0]).to(like)
    for scale, (weights, amplitude) in enumerate(zip(done.weights, done.amplitudes, strict=True)):
        noise = torch.zeros_like(pad(out))
        if random is not None:
            noise = unit_noise(out, scale=scale, random=random)
        elif scale == 0 and z_star is not None:
            noise = z_star
        out = generate(weights, pad(out) + amplitude * noise, out, training=False)
        out = F.interpolate(out, sizes[scale + 1], mode="bicubic", align_corners=False).clamp(-1, 1)
    return out


def unit_noise(like: Tensor, *, scale: int, random: torch.Generator) -> Tensor:
    channels, size = like.shape[1], like.shape[2:]
    noise = torch.randn(1, 1 if scale == 0 else channels, *size, generator=random)
    return pad(noise).expand(1, channels, -1, -1).to(like)


def generate(weights: Weights, noisy: Tensor, base: Tensor, *, training: bool = True) -> Tensor:
    return base + torch.tanh(trunk(weights, noisy, training=training))


def trunk(weights: Weights, x: Tensor, *, training: bool = True) -> Tensor:
    """4 x (conv, BatchNorm, LeakyReLU), conv."""
    for conv, norm in zip(CONVS, NORMS, strict=True):
        # No bias: the norm would take it away again, and Adam walk at random on its gradient's rounding errors.
        x = F.conv2d(x, weights[f"trunk.layers.{conv}.weight"])
        of = {
            part: weights[f"trunk.layers.{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")
        }
        x = F.batch_norm(x, training=training, momentum=0.1, eps=1e-5, **of)
        x = F.leaky_relu(x, 0.2)
    return F.conv2d(x, weights[f"trunk.layers.{TAIL}.weight"], weights[f"trunk.layers.{TAIL}.bias"])


def pad(x: Tensor) -> Tensor:
    return F.pad(x, (PAD,) * 4)


def clear(leaves: list[Tensor]) -> None:
    for leaf in leaves:
        leaf.grad = None


def learns(name: str) -> bool:
    return name.endswith((".weight", ".bias"))


def copied(weights: Weights) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}
