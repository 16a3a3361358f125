"""A bundle: a sealed release as it lies in an outbox and goes over the wire.

    manifest.json    canonical JSON, names every object by its SHA-256
    manifest.sig     the site's Ed25519 signature over it
    objects/HEX.png  canonical PNGs, each once

There is no archive to unpack and no name to choose: a bundle can hold nothing but PNGs that its manifest names. Pairs
are sorted by digest, so their order says nothing about cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from shared.documents import canonical
from shared.errors import SynthwardError
from shared.pairs import Pair, check_mask, sha256_hex
from shared.png import MAX_PNG_BYTES, decode_png, encode_png
from shared.privacy import PrivacyStatement
from shared.study import Document, Sha256, Slug, StyleKind, StyleSource

Count = Annotated[int, Field(ge=0, le=10_000_000)]
ObjectBytes = Annotated[int, Field(ge=33, le=MAX_PNG_BYTES)]
RejectionReason = Literal[
    "copy", "part-copy", "mask-copy", "text", "implausible", "mask-empty", "mask-full", "duplicate"
]  # fmt: skip
Verdict = Literal["passed", "inconclusive", "blocked"]


class PairEntry(Document):
    """One pair, by the digests and sizes of its two PNGs."""

    image: Sha256
    mask: Sha256
    image_bytes: ObjectBytes
    mask_bytes: ObjectBytes


class AuditSummary(Document):
    """What the screening did, in counts and its verdict; the full report stays at the site.

    membership_auc: upper end (95 %) of the area under the curve of an attack that tells from the samples who was
    trained on; None where that may not leave.
    """

    verdict: Verdict
    sampled: Count
    accepted: Count
    rejected: dict[RejectionReason, Count]
    planted: Count
    planted_found: Count
    membership_auc: float | None = Field(default=None, ge=0.0, le=1.0)

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A summary keeps the bytes that it had before an attack's figure could stand in it."""
        fields: dict[str, Any] = serialize(self)
        if self.membership_auc is None:
            fields.pop("membership_auc", None)
        return fields


class Manifest(Document):
    """Everything that a bundle says of itself. No free text: names are slugs, the rest digests, counts and choices."""

    format: Literal["synthward.bundle/1"] = "synthward.bundle/1"
    synthetic: Literal[True] = True
    study_sha256: Sha256
    site: Slug
    release_id: Slug
    made_on: date
    size_px: int = Field(ge=32, le=512)
    channels: Literal[1, 3]
    generator: Literal["per_case", "cohort"]
    preset: Literal["demo", "fast", "faithful"]
    style: StyleKind
    style_source: StyleSource
    training_patients: Count
    policy_sha256: Sha256
    software: str = Field(pattern=r"^synthward/[0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}$")
    privacy: PrivacyStatement
    audit: AuditSummary
    # fail_fast: of a hundred thousand entries, the first that is wrong is enough.
    pairs: tuple[PairEntry, ...] = Field(min_length=1, max_length=100_000, fail_fast=True)

    @model_validator(mode="after")
    def _sorted_and_once(self) -> Manifest:
        images = [pair.image for pair in self.pairs]
        if images != sorted(set(images)):
            raise ValueError("pairs must be sorted by the image's digest, each image once")
        if set(images) & {pair.mask for pair in self.pairs}:
            raise ValueError("one object cannot be an image and a mask")
        return self

    def objects(self) -> dict[str, int]:
        """Digest -> bytes of every object, each once. Raises document.malformed when sizes contradict each other."""
        sizes: dict[str, int] = {}
        for pair in self.pairs:
            for name, size in ((pair.image, pair.image_bytes), (pair.mask, pair.mask_bytes)):
                if sizes.setdefault(name, size) != size:
                    raise SynthwardError("document.malformed", "a manifest gives one object two sizes")
        return sizes


class Receipt(Document):
    """The coordinator's word that a bundle is stored, durably and once."""

    format: Literal["synthward.receipt/1"] = "synthward.receipt/1"
    bundle_sha256: Sha256
    study_sha256: Sha256
    site: Slug
    pairs: Count
    bytes: int = Field(ge=0)
    accepted_at: datetime


def entry(pair: Pair) -> tuple[PairEntry, dict[str, bytes]]:
    """The manifest's entry for a pair, and its two objects by digest."""
    image, mask = encode_png(pair.image), encode_png(pair.mask)
    line = PairEntry(image=sha256_hex(image), mask=sha256_hex(mask), image_bytes=len(image), mask_bytes=len(mask))
    return line, {line.image: image, line.mask: mask}


def sorted_entries(lines: Iterable[PairEntry]) -> tuple[PairEntry, ...]:
    """Entries in the order in which a manifest lists them; two equal images are one."""
    return tuple(line for _, line in sorted({line.image: line for line in lines}.items()))


def check_object(data: bytes, manifest: Manifest, *, as_mask: bool) -> None:
    """Decodes one object and compares it with what the manifest states. Raises pairs.* errors."""
    pixels = decode_png(data, max_side_px=manifest.size_px)
    side = manifest.size_px
    expected = (side, side) if as_mask or manifest.channels == 1 else (side, side, manifest.channels)
    if pixels.shape != expected:
        raise SynthwardError("pairs.shape", f"an object has shape {pixels.shape}, the manifest states {expected}")
    if as_mask:
        check_mask(pixels)
        if pixels.min() == pixels.max():  # screening lets none of these out: whoever sends one has not screened
            raise SynthwardError("pairs.mask-constant", "a mask marks nothing, or everything")


def bundle_sha256(manifest: Manifest) -> str:
    """The bundle's name: SHA-256 of its manifest, which names everything else."""
    return sha256_hex(canonical(manifest))


def object_path(folder: Path, name: str) -> Path:
    """Where an object lies in a bundle's folder. name is a digest that a validated manifest holds."""
    return folder / "objects" / f"{name}.png"


def read_pairs(folder: Path, manifest: Manifest) -> Iterator[Pair]:
    """The pairs of a bundle's folder, decoded one at a time."""
    for line in manifest.pairs:
        yield Pair(
            decode_png(object_path(folder, line.image).read_bytes()),
            decode_png(object_path(folder, line.mask).read_bytes()),
        )
