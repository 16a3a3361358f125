"""The privacy statement: what is claimed of a release, in words that a data protection officer can read.

Promise: nothing says "anonymous", and nothing says "differentially private" without unit, relation, mechanism, epsilon
and delta. Any access to private data that no mechanism accounts for stands in the statement and in its label.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from shared.study import Document

AccessKind = Literal["training", "style", "screening", "metrics"]


class Access(Document):
    """One kind of reading of real pixels that went into a release, and what bounds it.

    mechanism: "none" where nothing bounds it (epsilon is then infinite and is written as None).
    """

    kind: AccessKind
    what: str = Field(max_length=300)
    mechanism: Literal["none"] = "none"
    epsilon: float | None = None


class PrivacyStatement(Document):
    """What a release claims. In audited mode: no formal guarantee, and the list of what read real pixels."""

    format: Literal["synthward.privacy/1"] = "synthward.privacy/1"
    mode: Literal["audited"] = "audited"
    unit: Literal["patient at one site"] = "patient at one site"
    accesses: tuple[Access, ...] = Field(min_length=1)
    does_not_cover: tuple[str, ...] = (
        "whether a patient can be singled out, linked or inferred by means that the screening does not try",
        "the steward's choice of which release to let out",
        "timing and the size of what was sent",
        "the metrics, which were computed on real hold-out images",
    )

    @model_validator(mode="after")
    def _reads_something(self) -> PrivacyStatement:
        if not any(access.kind == "training" for access in self.accesses):
            raise ValueError("a release whose generator read no real image is not an audited release")
        return self

    def label(self) -> str:
        """One line for a report or a page."""
        return (
            "Audited, without a formal guarantee: generators learned from real patients; samples were screened for "
            "copies; this does not make them anonymous."
        )

    def sentences(self) -> list[str]:
        """The statement in plain words, one fact a sentence."""
        lines = [self.label(), f"Unit of protection that was considered: a {self.unit}."]
        lines += [
            f"Real pixels were read for {access.kind}: {access.what}. "
            f"{'No mechanism bounds what this reveals.' if access.mechanism == 'none' else access.mechanism}"
            for access in self.accesses
        ]
        lines += [f"Not covered: {item}." for item in self.does_not_cover]
        return lines
