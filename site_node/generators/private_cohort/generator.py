"""Scenes of nobody, moved a little towards the site's own: what differential privacy lets a small hospital say.

    scene of the prior -> at the critic's size, the refiner's change of its colours -> a share of it, upscaled, added

The share is drawn anew for each sample, from none to all of the change: scenes of one look train a segmenter worse than
scenes of two do, so samples are to differ in how far they went, and noise that the refiner learnt is not in all alike.
The mask is the scene's, so an outline always lies where the drawing put it, and no patient's outline can come out. The
refiner learnt from a critic alone, which learnt from patients under the mechanism (site_node/dp/critic_step.py): with
noise, drawing from it is post-processing, as often as one likes. Starting from drawings and refining their look is
Shrivastava et al.'s ("Learning from simulated and unsupervised images through adversarial training", CVPR 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from shared.pairs import Pair
from shared.privacy import AccessKind, NoisedMechanism
from site_node.generators.cohort.networks import DetailGenerator
from site_node.generators.inputs import as_arrays, stream
from site_node.generators.private_cohort.prior import Prior, restored
from site_node.generators.tensor_file import below, load_generator, write_tensors

_FORMAT = "synthward.private-cohort/1"
_AT_ONCE = 32


@dataclass(frozen=True)
class Spent:
    """What a training read of patients, as the ledger takes it. The unit is the patient, add or remove one.

    q and steps: 1 where the mechanism does not sample; sigma: noise over clip.
    """

    kind: AccessKind
    mechanism: NoisedMechanism
    sigma: float
    q: float
    steps: int
    clip: float
    patients: int


@dataclass(frozen=True)
class PrivateCohortGenerator:
    """A trained generator; spent: all that it read of patients."""

    preset: str
    prior: Prior
    critic_px: int
    refiner: DetailGenerator
    spent: tuple[Spent, ...]

    @torch.no_grad()
    def sample(self, seed: int, count: int = 1) -> list[Pair]:
        """Draws pairs of the prior's size, the same for the same seed and count, with the scenes' own masks."""
        random = stream("sample-private-cohort", seed)
        pairs: list[Pair] = []
        while len(pairs) < count:
            scenes = self.prior.draw(min(_AT_ONCE, count - len(pairs)), random)
            share = torch.rand(len(scenes), 1, 1, 1, generator=random)
            drawn = refined(self.refiner, stacked(scenes), self.critic_px, random, share)
            for scene, one in zip(scenes, drawn, strict=True):
                image, _ = as_arrays(one[None], scene.channels, exclusive=False)
                pairs.append(Pair(image[:, :, 0] if scene.image.ndim == 2 else image, scene.mask))
        return pairs

    def save(self, path: Path) -> None:
        """Writes the weights as safetensors, readable by the owner only; whole or not at all."""
        description = {
            "format": _FORMAT,
            "preset": self.preset,
            "prior": self.prior.description(),
            "critic_px": self.critic_px,
            "channels": self.refiner.channels,
            "width": self.refiner.width,
            "spent": [asdict(one) for one in self.spent],
        }
        tensors = {f"refiner.{name}": tensor for name, tensor in self.refiner.state_dict().items()}
        tensors |= {f"prior.{name}": tensor for name, tensor in self.prior.tensors().items()}
        write_tensors(path, description, tensors)

    @classmethod
    def load(cls, path: Path) -> PrivateCohortGenerator:
        """The generator as it was saved. Raises SynthwardError storage.damaged, and FileNotFoundError."""
        return load_generator(path, _FORMAT, cls._restored)

    @classmethod
    def _restored(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> PrivateCohortGenerator:
        prior = restored(description["prior"], below(tensors, "prior"))
        refiner = refiner_of(int(description["channels"]), int(description["width"]), below(tensors, "refiner"))
        spent = tuple(Spent(**one) for one in description["spent"])
        return cls(str(description["preset"]), prior, int(description["critic_px"]), refiner, spent)


def refiner_of(channels: int, width: int, weights: Mapping[str, Tensor]) -> DetailGenerator:
    """A refiner with these weights, to draw with. Raises RuntimeError where they do not fit."""
    refiner = DetailGenerator(channels, width, torch.Generator())  # of starting weights that are overwritten at once
    refiner.load_state_dict(weights)
    return refiner.eval().requires_grad_(False)


def stacked(pairs: list[Pair]) -> Tensor:
    """float32 [N, C + 1, S, S] in [-1, 1], the mask last."""
    arrays = np.stack([np.dstack([pair.image, pair.mask]) for pair in pairs])  # [N, S, S, C + 1]
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def shrunk(x: Tensor, size_px: int) -> Tensor:
    """Area means: [N, C, S, S] -> [N, C, s, s] with s = min(S, size_px)."""
    side = min(x.shape[2], size_px)
    return x if side == x.shape[2] else F.interpolate(x, size=(side, side), mode="area")


def refined(
    refiner: DetailGenerator, scenes: Tensor, size_px: int, random: torch.Generator, share: Tensor | float = 1.0
) -> Tensor:
    """scenes [N, C, S, S] with their colours moved by at most 1; the mask, the last channel, stays as it is.

    share: of the change that is made, in [0, 1], [N, 1, 1, 1] or one for all.
    """
    base = shrunk(scenes, size_px)
    noise = refiner.draw_noise(len(base), (base.shape[2], base.shape[3]), random).to(base.device)
    change = share * (refiner(base, noise) - base)  # [N, C, s, s]
    if change.shape != scenes.shape:
        change = F.interpolate(change, size=scenes.shape[2:], mode="bilinear", align_corners=False)
    image = (scenes[:, :-1] + change[:, :-1]).clamp(-1.0, 1.0)
    return torch.cat([image, scenes[:, -1:]], dim=1)
