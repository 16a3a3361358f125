"""Style transfer behind one interface: how samples are moved towards a reference, and which pixels that reads.

A Style comes from `prepare`, which reads weights and public images and refuses what is wrong with them: call it
before anything is trained. `reads` says what the style rests on, so that the ledger can record it.

Promise: the mask is never touched, strength 0 gives the sample back exactly, and equal samples, references and seeds
give equal pixels. A style opens no private file: a reference that is private comes from the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np

from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels, with_channels
from shared.privacy import AccessKind
from shared.study import ImageSpec, StyleSpec
from site_node.style.features import load_features
from site_node.style.gatys import GatysTransfer
from site_node.style.lab import Floats
from site_node.style.moments import MomentTransfer
from site_node.style.public import read_public
from site_node.style.sliced import SlicedTransfer
from site_node.style.stored import StoredMoments

Reads = Literal["nothing", "own case", "other training cases", "public images", "stored moments"]
# What the ledger says of it; None: no private pixel is behind it.
ACCESS: dict[Reads, AccessKind | None] = {
    "nothing": None,
    "own case": "style",
    "other training cases": "style",
    "public images": None,
    "stored moments": "moments",
}
LookT = TypeVar("LookT")


class Style(Protocol):
    """What the release job needs of a style."""

    @property
    def reads(self) -> Reads:
        """What the style rests on. "own case" and "other training cases" want references; nothing else takes any."""

    def apply(self, pairs: Sequence[Pair], references: Sequence[Pixels] | None, seed: int) -> list[Pair]:
        """The samples in style, in their order; all of the study's size and channels.

        references: one for each pair, uint8 [h, w] or [h, w, 3] of any size (`gatys`: 32 px or more), where `reads`
        wants them, else None. seed: draws directions and public images. Raises ValueError where references are
        missing, too many, or not wanted.
        """


def prepare(
    spec: StyleSpec,
    image: ImageSpec,
    *,
    weights: Path | None,
    public: Path | None,
    stored: StoredMoments | None,
    seed: int,
) -> Style:
    """The style that a study asks for.

    weights, public: as the hospital's settings name them, None where they name nothing; only what the style needs is
    read. seed: which public images are used where there are very many.
    Raises style.weights-missing, style.weights-refused, style.images-missing, style.images-refused, style.moments.
    """
    if spec.kind == "none" or spec.strength == 0.0:
        return _Unstyled()
    if spec.kind == "gatys":
        features = load_features(_named(weights, "style.weights-missing", "weights", "style_weights"))
        gatys = GatysTransfer(features, steps=spec.steps, content_to_style=spec.content_to_style)
        return _styled(gatys, spec, image, public, seed)
    if spec.kind == "sliced":
        return _styled(SlicedTransfer(), spec, image, public, seed)
    if spec.source == "stored":
        look = _fitting(stored, image).moments()
        return _Styled(MomentTransfer(), "stored moments", spec.strength, lambda count, _seed: [look] * count)
    return _styled(MomentTransfer(), spec, image, public, seed)


def another(count: int, own: int | None, seed: int) -> int:
    """Which of `count` training cases lends its style to a sample: drawn by the sample's seed, never its own case.

    own: the place of the case that the sample came from; None where it came from them all. A single case lends to
    itself. Raises ValueError where there is none.
    """
    if count < 1:
        raise ValueError("there is no case to take a style from")
    if own is None or count == 1:
        return int(np.random.default_rng(seed).integers(count))
    drawn = int(np.random.default_rng(seed).integers(count - 1))
    return drawn + (drawn >= own)


class _Method(Protocol[LookT]):
    """A kind of style: what it takes of a reference, and how images get it."""

    def look(self, reference: Pixels) -> LookT: ...

    def move(self, images: Sequence[Pixels], looks: Sequence[LookT], seed: int) -> list[Floats]: ...


@dataclass(frozen=True)
class _Unstyled:
    reads: Reads = "nothing"

    def apply(self, pairs: Sequence[Pair], references: Sequence[Pixels] | None, seed: int) -> list[Pair]:  # noqa: ARG002
        _check_references(self.reads, pairs, references)
        return list(pairs)


@dataclass(frozen=True)
class _Styled(Generic[LookT]):
    method: _Method[LookT]
    reads: Reads
    strength: float
    # (count, seed) -> looks that need no reference of the caller's; None: the caller brings references
    looks: Callable[[int, int], list[LookT]] | None

    def apply(self, pairs: Sequence[Pair], references: Sequence[Pixels] | None, seed: int) -> list[Pair]:
        _check_references(self.reads, pairs, references)
        if not pairs:
            return []
        if self.looks is not None:
            looks = self.looks(len(pairs), seed)
        else:
            channels = pairs[0].channels
            looks = [self.method.look(with_channels(reference, channels)) for reference in references or ()]
        moved = self.method.move([pair.image for pair in pairs], looks, seed)
        return [_blended(pair, styled, self.strength) for pair, styled in zip(pairs, moved, strict=True)]


def _styled(
    method: _Method[LookT], spec: StyleSpec, image: ImageSpec, public: Path | None, seed: int
) -> _Styled[LookT]:
    """The method with references from where the study says; `stored` is not among them."""
    if spec.source != "public":
        reads: Reads = "own case" if spec.source == "own" else "other training cases"
        return _Styled(method, reads, spec.strength, None)
    folder = _named(public, "style.images-missing", "public images", "style_images")
    images = read_public(folder, image, seed)

    def drawn(count: int, seed: int) -> list[LookT]:
        return [method.look(images[index]) for index in np.random.default_rng(seed).integers(len(images), size=count)]

    return _Styled(method, "public images", spec.strength, drawn)


def _blended(sample: Pair, styled: Floats, strength: float) -> Pair:
    """The sample with its image moved by `strength` of the way to styled, float64 of its shape in [0, 255]."""
    blended = (1.0 - strength) * sample.image + strength * styled
    return Pair(np.rint(blended.clip(0.0, 255.0)).astype(np.uint8), sample.mask)


def _check_references(reads: Reads, pairs: Sequence[Pair], references: Sequence[Pixels] | None) -> None:
    if reads not in ("own case", "other training cases"):
        if references is not None:
            raise ValueError(f"a style that reads {reads} takes no references")
    elif references is None or len(references) != len(pairs):
        raise ValueError(f"a style that reads {reads} needs a reference for each pair")


def _named(path: Path | None, code: str, what: str, key: str) -> Path:
    """A path that the settings should name."""
    if path is None:
        raise SynthwardError(
            code,
            f"the study's style needs {what}, and settings.toml names none",
            why="nothing is downloaded: what a hospital uses, its administrator has put there",
            do=f"set {key} in settings.toml, or ask the study's lead for another style",
        )
    return path


def _fitting(stored: StoredMoments | None, image: ImageSpec) -> StoredMoments:
    if stored is None or stored.channels != image.channels:
        found = "none are stored" if stored is None else f"those stored have {stored.channels}"
        raise SynthwardError(
            "style.moments",
            f"the study's style needs moments of {image.channels} channels, and {found}",
            do="take them with site_node.style.stored.take from the training cases, and save them",
        )
    return stored
