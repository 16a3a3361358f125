"""The privacy statement: what is claimed of a release, in words that a data protection officer can read.

Promise: nothing that this file writes calls a release anonymous, and nothing calls it differentially private without
unit, relation, mechanism, sigma, sampling rate, steps, clip norm, delta, and epsilon by both accountants. Any access to
private data that no mechanism accounts for stands in the statement and in its label: a release with one of its own is
`audited`, whatever else was noised.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from shared.study import Document

Unit = Literal["patient at one site"]
Relation = Literal["add or remove one patient"]
NoisedMechanism = Literal["gaussian", "poisson-sampled-gaussian"]
AccessKind = Literal[
    "training", "training_each", "style", "moments", "outlines", "votes", "screening", "findings", "metrics",
    "distances",
]  # fmt: skip
NotCovered = Literal[
    "singling-out", "steward-choice", "timing-and-size", "metrics",
    "random-source", "patient-count", "other-readings", "other-sites", "findings",
]  # fmt: skip

# A statement travels as codes and is put into words where it is read: a site has no free text to send.
ACCESS_WORDS: dict[AccessKind, str] = {
    "training": "a generator, and a segmenter that draws its masks, were fitted to all of the site's training cases",
    "training_each": "a generator was fitted to each training case alone, and so holds that patient's image",
    "style": "colours or textures of samples were moved towards those of training cases",
    "moments": "mean and spread of colour were averaged over training patients, and samples were moved towards them",
    "outlines": "mask outlines and coarse colours of training patients were averaged, and layouts drawn from that",
    "votes": "training patients' images voted on which kinds of drawn images are drawn more often",
    "screening": "samples were compared with the site's training and hold-out cases, and those too near were dropped",
    "findings": "samples were compared with the site's cases, for the steward's eyes alone",
    "metrics": "networks were scored on the site's hold-out cases, and averages left the site",
    "distances": "sets of synthetic pairs were compared with the site's cases, and distances of sets left the site",
}
NOT_COVERED_WORDS: dict[NotCovered, str] = {
    "singling-out": "whether a patient can be singled out, linked or inferred by means that the screening does not try",
    "steward-choice": "the steward's choice of which release to let out",
    "timing-and-size": "the time at which something was sent, and its size",
    "metrics": "the metrics, which were computed on real hold-out images",
    "random-source": "weak noise: it comes from a stream cipher keyed by the operating system, the key is not "
    "kept, and the arithmetic is that of ordinary floating-point numbers",
    "patient-count": "the number of training patients, which the manifest names and the number of pairs follows from, "
    "and that of hold-out patients, of which a site needs enough",
    "other-readings": "readings of the same patients without noise, for other releases or measurements of this site, "
    "and every reading after this was written",
    "other-sites": "what other sites read of the same person: who was a patient at two is two patients here",
    "findings": "whether pairs resemble real images: that was compared for the steward alone, and the manifest's audit "
    "has no verdict and no planted copies, only counts of checks that read no real image",
}
# Where noise makes it another reading: with noise, masks come out of the same generator, and nothing else is fitted.
NOISED_WORDS: dict[AccessKind, str] = ACCESS_WORDS | {
    "training": "a generator was fitted to all of the site's training cases",
}
# The audited list is part of the bytes of every statement that was ever signed: it never grows.
AUDITED_NOT_COVERED: tuple[NotCovered, ...] = ("singling-out", "steward-choice", "timing-and-size", "metrics")
# What a statement in mode dp has to say that it leaves out.
DP_NOT_COVERED: tuple[NotCovered, ...] = (
    "steward-choice", "timing-and-size", "random-source", "patient-count", "other-readings", "other-sites", "findings",
)  # fmt: skip
# Readings that change nothing in what leaves, so that they need no noise; the steward's choice is named apart.
STAYS_INSIDE: tuple[AccessKind, ...] = ("findings",)

Positive = Annotated[float, Field(gt=0.0, le=1e9, allow_inf_nan=False)]


class Access(Document):
    """One kind of reading of real pixels in an audited release: epsilon None means that nothing bounds it (infinite).

    mechanism "noised": this reading had a mechanism, but others of the release had none, so nothing is claimed of it.
    """

    kind: AccessKind
    mechanism: Literal["none", "noised"] = "none"
    epsilon: None = None


class NoisedAccess(Document):
    """One kind of reading, with its noise. sigma: standard deviation over clip; q: sampling rate, 1 for `gaussian`."""

    kind: AccessKind
    mechanism: NoisedMechanism
    sigma: Positive
    q: float = Field(gt=0.0, le=1.0)
    steps: int = Field(ge=1, le=2**53 - 1)
    clip: Positive

    @model_validator(mode="after")
    def _samples_or_not(self) -> NoisedAccess:
        if self.mechanism == "gaussian" and self.q != 1.0:
            raise ValueError("a gaussian release reads every patient: its q is 1")
        return self

    def words(self) -> str:
        """The reading in plain words."""
        how = (
            f"{_often(self.steps)} over all patients" if self.mechanism == "gaussian"
            else f"in {self.steps} steps, each over a sample that takes each patient with probability {self.q:.6g}"
        )  # fmt: skip
        return (
            f"{NOISED_WORDS[self.kind]}; {how}, each patient's part was clipped to the L2 norm {self.clip:.6g}, and "
            f"Gaussian noise with a standard deviation of {self.sigma:.6g} times that was added"
        )

    def brief(self) -> str:
        """The same in a few words, for a label."""
        return f"{self.mechanism}, σ = {self.sigma:.4g}, q = {self.q:.4g}, steps {self.steps}, clip {self.clip:.4g}"


class DpClaim(Document):
    """What mode dp claims, at one delta, by two accountants.

    epsilon_*: this release alone. site_epsilon_*: all noised readings of the site up to and with this release, also
    those that were reserved and may not have happened. other_noised: how many of them were for something else.
    other_unaccounted: kinds of readings without noise, for something else: not covered.
    """

    relation: Relation = "add or remove one patient"
    delta: float = Field(gt=0.0, lt=1.0)
    epsilon_prv: Positive
    epsilon_rdp: Positive
    site_epsilon_prv: Positive
    site_epsilon_rdp: Positive
    noised: tuple[NoisedAccess, ...] = Field(min_length=1, max_length=1_000)
    other_noised: int = Field(default=0, ge=0, le=10_000_000)
    other_unaccounted: tuple[AccessKind, ...] = Field(default=(), max_length=len(ACCESS_WORDS))

    @model_validator(mode="after")
    def _the_site_spent_no_less(self) -> DpClaim:
        # A per mille of slack: the accountants' own tolerance depends on what they are given.
        if self.site_epsilon_prv < 0.999 * self.epsilon_prv or self.site_epsilon_rdp < 0.999 * self.epsilon_rdp:
            raise ValueError("the site as a whole cannot have spent less than this release alone")
        return self


class PrivacyStatement(Document):
    """What a release claims: the list of what read real pixels, and in mode dp, what bounds it.

    In mode dp, `accesses` holds only readings that change nothing in what leaves, and `dp` the noised ones.
    """

    format: Literal["synthward.privacy/1"] = "synthward.privacy/1"
    mode: Literal["audited", "dp"] = "audited"
    unit: Unit = "patient at one site"
    accesses: tuple[Access, ...] = Field(default=(), max_length=len(ACCESS_WORDS))
    not_covered: tuple[NotCovered, ...] = Field(default=AUDITED_NOT_COVERED, max_length=len(NOT_COVERED_WORDS))
    dp: DpClaim | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_not_claimed(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """An audited statement keeps the bytes that it had before there was a mode dp."""
        fields: dict[str, Any] = serialize(self)
        if self.dp is None:
            fields.pop("dp", None)
        return fields

    @model_validator(mode="after")
    def _claims_no_more_than_holds(self) -> PrivacyStatement:
        if self.mode == "audited":
            if self.dp is not None:
                raise ValueError("an audited release claims no epsilon")
            if not any(access.kind in ("training", "training_each") for access in self.accesses):
                raise ValueError("an audited release comes from generators that read real images, and must say so")
        elif self.dp is None:
            raise ValueError("a release in mode dp needs its mechanism, epsilon and delta")
        elif any(access.kind not in STAYS_INSIDE for access in self.accesses):
            raise ValueError("a release with a reading that nothing bounds is audited, not dp")
        elif not set(DP_NOT_COVERED) <= set(self.not_covered):
            raise ValueError("a statement in mode dp has to name all that it does not cover")
        return self

    def label(self) -> str:
        """One line for a report or a page."""
        if self.dp is not None:
            return _dp_label(self.unit, self.dp)
        each = any(access.kind == "training_each" for access in self.accesses)
        learned = "each generator holds one patient's image" if each else "the generator learned from real patients"
        return (
            f"Audited, without a formal guarantee: {learned}; samples were screened for copies; passing the screening "
            "does not make them anonymous."
        )

    def sentences(self) -> list[str]:
        """The statement in plain words, one fact a sentence."""
        if self.dp is not None:
            lines = [f"Unit of protection: a {self.unit}, whatever the number of images.", *_dp_sentences(self.dp)]
            lines += [
                f"Real pixels were also read without noise: {ACCESS_WORDS[access.kind]}. It changed nothing that left."
                for access in self.accesses
            ]
        else:
            lines = [f"Unit of protection that was considered: a {self.unit}."]
            lines += [
                f"Real pixels were read: {ACCESS_WORDS[access.kind]}. {_BOUND[access.mechanism]}"
                for access in self.accesses
            ]
        lines += [f"Not covered: {NOT_COVERED_WORDS[item]}." for item in self.not_covered]
        return lines


_BOUND = {
    "none": "No mechanism bounds what this reveals.",
    "noised": "This had noise, but other readings for this release had none, so nothing is claimed of it.",
}


def _dp_label(unit: str, claim: DpClaim) -> str:
    mechanisms = "; ".join(f"{access.kind}: {access.brief()}" for access in claim.noised)
    besides = (
        "; readings of the same patients without noise, for something else, are not covered"
        if claim.other_unaccounted else ""
    )  # fmt: skip
    return (
        f"Differentially private for a {unit} ({claim.relation}): ε = {_up(claim.epsilon_prv)} by PRV and "
        f"{_up(claim.epsilon_rdp)} by RDP accounting at δ = {claim.delta:.3g}, for this release; "
        f"{_up(claim.site_epsilon_prv)} and {_up(claim.site_epsilon_rdp)} with all noised readings of the site so far"
        f"{besides} ({mechanisms})."
    )


def _dp_sentences(claim: DpClaim) -> list[str]:
    lines = [
        f"Two data sets are neighbours here when they differ by this: {claim.relation}, with all images.",
        *(f"Real pixels were read with noise: {access.words()}." for access in claim.noised),
        f"This release alone is differentially private with ε = {_up(claim.epsilon_prv)} (PRV accounting; "
        f"{_up(claim.epsilon_rdp)} by RDP) at δ = {claim.delta:.3g}.",
        f"Together with all other noised readings at this site until then ({claim.other_noised}), done or reserved: "
        f"ε = {_up(claim.site_epsilon_prv)} (PRV; {_up(claim.site_epsilon_rdp)} by RDP) at the same δ.",
        "What that means: whoever sees all of this can change the odds that a given patient was among those read by a "
        f"factor of at most e^ε = {_up(math.exp(min(claim.site_epsilon_prv, 700.0)))}, "
        f"but for a chance of about {claim.delta:.3g}.",
    ]
    if claim.other_unaccounted:
        lines += [
            f"The same patients were read without noise for something else: {ACCESS_WORDS[kind]}. This statement does "
            "not cover that, and nothing bounds both together."
            for kind in claim.other_unaccounted
        ]
    else:
        lines.append("No reading of the same patients without noise stood in the site's ledger when this was written.")
    return lines


def _often(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _up(value: float) -> str:
    """Three digits, never rounded down: a smaller epsilon would claim more than holds."""
    if value == 0.0:
        return "0"
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / step - 1e-9) * step:.12g}"
