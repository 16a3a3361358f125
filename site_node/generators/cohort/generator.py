"""One generator for all training cases of a site: layouts at the coarsest scale, detail at each finer one, then masks.

The layouts and their detail come from a pyramid that draws image and mask together; a segmenter that was trained on the
same cases then draws each sample's final mask, since a pyramid's own outlines lie beside its lesions too often
(on polyps at 64 px such masks train UNet++ to about 0.86 of what real pairs do, the pyramid's own to 0.6).

A trained generator, its segmenter included, is patient data and never leaves the site: it has learnt from every
training case at once, which dilutes each of them and protects none by any measure that could be proved here.

The pyramid after SinGAN's; the loss and the plain networks after R3GAN's (see adversarial, networks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shared.pairs import Pair
from site_node.generators.cohort.labeller import Labeller
from site_node.generators.cohort.networks import DetailGenerator, LayoutCritic, LayoutGenerator
from site_node.generators.cohort.scales import Reals
from site_node.generators.inputs import as_arrays, stream
from site_node.generators.scaling import Size, upscale
from site_node.generators.tensor_file import below, load_generator, write_tensors

_FORMAT = "synthward.cohort/1"
_DRAWN_AT_ONCE, _PIXELS_AT_ONCE = 32, 2**19  # bound the memory that sampling takes, whatever the size


@dataclass(frozen=True)
class CohortGenerator:
    """A trained generator. sizes: of the scales, coarsest first; the last is that of the pairs it draws.

    labeller: draws the masks; None: the pyramid's own masks are used. critic: of the layouts, as the training left it,
    for the site's own question of what it remembers; None in a file from before it was kept.
    """

    preset: str
    image_channels: int
    sizes: tuple[Size, ...]
    layout: LayoutGenerator
    details: tuple[DetailGenerator, ...]
    labeller: Labeller | None
    critic: LayoutCritic | None = None

    @torch.no_grad()
    def critic_scores(self, pairs: Sequence[Pair]) -> list[float]:
        """How real the layouts' critic takes each pair to be: higher for what it remembers. Empty without a critic."""
        if self.critic is None or not pairs:
            return []
        reals = Reals(pairs, self.sizes[0])
        return [float(self.critic(reals[place][None])) for place in range(len(reals))]

    @torch.no_grad()
    def sample(self, seed: int, count: int = 1) -> list[Pair]:
        """Draws pairs, the same for the same seed and count: images rounded to uint8, masks cut at one half.

        A mask may come out empty or full: the screening judges that.
        """
        random = stream("sample-cohort", seed)
        height, width = self.sizes[-1]
        at_once = max(1, min(_DRAWN_AT_ONCE, _PIXELS_AT_ONCE // (height * width)))
        pairs: list[Pair] = []
        while len(pairs) < count:
            for one in self._draw(min(at_once, count - len(pairs)), random):
                image, masks = as_arrays(one[None], self.image_channels, exclusive=False)
                pair = Pair(image[:, :, 0] if self.image_channels == 1 else image, masks[:, :, 0])
                pairs.append(pair if self.labeller is None else self.labeller.label(pair))
        return pairs

    def _draw(self, count: int, random: torch.Generator) -> Tensor:
        """[N, C, H, W] in [-1, 1]."""
        x: Tensor = self.layout(self.layout.draw_noise(count, random))
        for size, detail in zip(self.sizes[1:], self.details, strict=True):
            base = upscale(x, size)  # [N, C, h, w] -> [N, C, H, W]
            x = detail(base, detail.draw_noise(count, size, random)).clamp(-1.0, 1.0)
        return x

    def save(self, path: Path) -> None:
        """Writes the weights as safetensors, readable by the owner only; whole or not at all."""
        description = {
            "format": _FORMAT,
            "preset": self.preset,
            "image_channels": self.image_channels,
            "sizes": self.sizes,
            "layout_widths": self.layout.widths,
            "detail_widths": [detail.width for detail in self.details],
            "labeller": self.labeller is not None,
            "critic_widths": [] if self.critic is None else self.critic.widths,
        }
        tensors = {f"layout.{name}": tensor for name, tensor in self.layout.state_dict().items()}
        for index, detail in enumerate(self.details):
            tensors |= {f"detail{index}.{name}": tensor for name, tensor in detail.state_dict().items()}
        if self.labeller is not None:
            tensors |= {f"labeller.{name}": tensor for name, tensor in self.labeller.tensors().items()}
        if self.critic is not None:
            tensors |= {f"critic.{name}": tensor for name, tensor in self.critic.state_dict().items()}
        write_tensors(path, description, tensors)

    @classmethod
    def load(cls, path: Path) -> CohortGenerator:
        """The generator as it was saved. Raises SynthwardError storage.damaged, and FileNotFoundError."""
        return load_generator(path, _FORMAT, cls._restored)

    @classmethod
    def _restored(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> CohortGenerator:
        image_channels = int(description["image_channels"])
        sizes = tuple((int(height), int(width)) for height, width in description["sizes"])
        detail_widths = [int(width) for width in description["detail_widths"]]
        labeller = None
        if description["labeller"]:
            labeller = Labeller.restored(below(tensors, "labeller"), sizes[-1], image_channels)
        return cls.of(
            str(description["preset"]),
            image_channels,
            sizes,
            [int(width) for width in description["layout_widths"]],
            detail_widths,
            [below(tensors, "layout"), *(below(tensors, f"detail{index}") for index in range(len(detail_widths)))],
            labeller,
            [int(width) for width in description.get("critic_widths", [])],
            below(tensors, "critic"),
        )

    @classmethod
    def of(
        cls,
        preset: str,
        image_channels: int,
        sizes: tuple[Size, ...],
        layout_widths: Sequence[int],
        detail_widths: Sequence[int],
        weights: Sequence[Mapping[str, Tensor]],
        labeller: Labeller | None,
        critic_widths: Sequence[int] = (),
        critic_weights: Mapping[str, Tensor] | None = None,
    ) -> CohortGenerator:
        """From the weights of each scale, coarsest first, and of the critic where it has widths.

        Raises RuntimeError where they do not fit.
        """
        blank = torch.Generator()  # of starting weights that are overwritten at once
        layout = LayoutGenerator(image_channels + 1, sizes[0], layout_widths, blank)
        details = tuple(DetailGenerator(image_channels + 1, width, blank) for width in detail_widths)
        for network, trained in zip((layout, *details), weights, strict=True):
            network.load_state_dict(trained)
            network.eval().requires_grad_(False)
        critic = None
        if critic_widths:
            critic = LayoutCritic(image_channels + 1, sizes[0], critic_widths, blank)
            critic.load_state_dict(critic_weights or {})
            critic.eval().requires_grad_(False)
        return cls(preset, image_channels, sizes, layout, details, labeller, critic)
