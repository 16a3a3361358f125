"""The privacy statement: what is claimed of a release, in words that a data protection officer can read.

Promise: nothing says "anonymous", and nothing says "differentially private" without unit, relation, mechanism, epsilon
and delta. Any access to private data that no mechanism accounts for stands in the statement and in its label.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.study import Document

AccessKind = Literal["training", "training_each", "style", "moments", "screening", "metrics"]
NotCovered = Literal["singling-out", "steward-choice", "timing-and-size", "metrics"]

# A statement travels as codes and is put into words where it is read: a site has no free text to send.
ACCESS_WORDS: dict[AccessKind, str] = {
    "training": "a generator, and a segmenter that draws its masks, were fitted to all of the site's training cases",
    "training_each": "a generator was fitted to each training case alone, and so holds that patient's image",
    "style": "colours or textures of samples were moved towards those of training cases",
    "moments": "mean and spread of colour were averaged over training patients, and samples were moved towards them",
    "screening": "samples were compared with the site's training and hold-out cases, and those too near were dropped",
    "metrics": "networks were scored on the site's hold-out cases, and averages left the site",
}
NOT_COVERED_WORDS: dict[NotCovered, str] = {
    "singling-out": "whether a patient can be singled out, linked or inferred by means that the screening does not try",
    "steward-choice": "the steward's choice of which release to let out",
    "timing-and-size": "the time at which something was sent, and its size",
    "metrics": "the metrics, which were computed on real hold-out images",
}


class Access(Document):
    """One kind of reading of real pixels, and what bounds it: epsilon None means that nothing does (infinite)."""

    kind: AccessKind
    mechanism: Literal["none"] = "none"
    epsilon: None = None


class PrivacyStatement(Document):
    """What a release claims. In audited mode: no formal guarantee, and the list of what read real pixels."""

    format: Literal["synthward.privacy/1"] = "synthward.privacy/1"
    mode: Literal["audited"] = "audited"
    unit: Literal["patient at one site"] = "patient at one site"
    accesses: tuple[Access, ...] = Field(min_length=1, max_length=len(ACCESS_WORDS))
    not_covered: tuple[NotCovered, ...] = Field(default=tuple(NOT_COVERED_WORDS), max_length=len(NOT_COVERED_WORDS))

    @model_validator(mode="after")
    def _reads_something(self) -> PrivacyStatement:
        if not any(access.kind in ("training", "training_each") for access in self.accesses):
            raise ValueError("an audited release comes from generators that read real images, and must say so")
        return self

    def label(self) -> str:
        """One line for a report or a page."""
        each = any(access.kind == "training_each" for access in self.accesses)
        learned = "each generator holds one patient's image" if each else "the generator learned from real patients"
        return (
            f"Audited, without a formal guarantee: {learned}; samples were screened for copies; passing the screening "
            "does not make them anonymous."
        )

    def sentences(self) -> list[str]:
        """The statement in plain words, one fact a sentence."""
        lines = [f"Unit of protection that was considered: a {self.unit}."]
        lines += [
            f"Real pixels were read: {ACCESS_WORDS[access.kind]}. No mechanism bounds what this reveals."
            for access in self.accesses
        ]
        lines += [f"Not covered: {NOT_COVERED_WORDS[item]}." for item in self.not_covered]
        return lines
