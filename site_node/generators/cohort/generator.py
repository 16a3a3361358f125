"""One generator for all training cases of a site: layouts at the coarsest scale, detail at each finer one, then masks.

The layouts and their detail come from a pyramid that draws image and mask together; a segmenter that was trained on the
same cases then draws each sample's final mask, since a pyramid's own outlines lie beside its lesions too often
(on polyps at 64 px such masks train UNet++ to about 0.86 of what real pairs do, the pyramid's own to 0.6).

A trained generator, its segmenter included, is patient data and never leaves the site: it has learnt from every
training case at once, which dilutes each of them and protects none by any measure that could be proved here.

The pyramid after SinGAN's; the loss and the plain networks after R3GAN's (see adversarial, networks).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from shared.errors import SynthwardError
from shared.files import write_private
from shared.pairs import Pair
from site_node.generators.cohort.labeller import Labeller
from site_node.generators.cohort.networks import DetailGenerator, LayoutGenerator
from site_node.generators.inputs import as_arrays, stream
from site_node.generators.scaling import Size, upscale

_FORMAT = "synthward.cohort/1"
_DRAWN_AT_ONCE, _PIXELS_AT_ONCE = 32, 2**19  # bound the memory that sampling takes, whatever the size


@dataclass(frozen=True)
class CohortGenerator:
    """A trained generator. sizes: of the scales, coarsest first; the last is that of the pairs it draws.

    labeller: draws the masks; None: the pyramid's own masks are used.
    """

    preset: str
    image_channels: int
    sizes: tuple[Size, ...]
    layout: LayoutGenerator
    details: tuple[DetailGenerator, ...]
    labeller: Labeller | None

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
        }
        parts: dict[str, nn.Module] = {"layout": self.layout}
        parts |= {f"detail{index}": detail for index, detail in enumerate(self.details)}
        tensors = {f"{part}.{k}": v.contiguous() for part, net in parts.items() for k, v in net.state_dict().items()}
        if self.labeller is not None:
            tensors |= {f"labeller.{name}": tensor for name, tensor in self.labeller.tensors().items()}
        write_private(path, safetensors.torch.save(tensors, {"synthward": json.dumps(description, sort_keys=True)}))

    @classmethod
    def load(cls, path: Path) -> CohortGenerator:
        """The generator as it was saved. Raises SynthwardError storage.damaged, and FileNotFoundError."""
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                description = json.loads((file.metadata() or {})["synthward"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if description["format"] != _FORMAT:
                raise ValueError(f"format {description['format']!r} is not {_FORMAT!r}")
            return cls._restored(description, tensors)
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise SynthwardError(
                "storage.damaged",
                f"{path} is not a generator that this version can read ({error})",
                why="a generator that is not what was saved draws something else",
                do="remove the file and train the generator again",
            ) from error

    @classmethod
    def _restored(cls, description: dict[str, Any], tensors: dict[str, Tensor]) -> CohortGenerator:
        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

        image_channels = int(description["image_channels"])
        sizes = tuple((int(height), int(width)) for height, width in description["sizes"])
        blank = torch.Generator()
        layout = LayoutGenerator(image_channels + 1, sizes[0], description["layout_widths"], blank)
        details = [DetailGenerator(image_channels + 1, int(width), blank) for width in description["detail_widths"]]
        for name, network in (("layout", layout), *((f"detail{i}", d) for i, d in enumerate(details))):
            network.load_state_dict(part(name))
            network.eval().requires_grad_(False)
        labeller = Labeller.restored(part("labeller"), sizes[-1], image_channels) if description["labeller"] else None
        return cls(str(description["preset"]), image_channels, sizes, layout, tuple(details), labeller)
