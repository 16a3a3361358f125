"""A study: the signed, declarative document by which a coordinator proposes work. Never code.

It crosses the wire as canonical JSON (RFC 8785) with an Ed25519 signature (shared.identity.SignedDocument). A site
reads it, checks it against its own policy, and may refuse; nothing in it can loosen what the hospital allows.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Names that become file names or keys somewhere: short, lower case, no separators, no dots.
Slug = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Channels = Annotated[int, Field(ge=1, le=1024)]
StyleKind = Literal["none", "moments", "sliced", "gatys"]
Encoder = Literal["tu-tf_efficientnet_lite0", "resnet18", "resnet34", "resnet50", "se_resnext50_32x4d"]
StyleSource = Literal["none", "own", "cohort", "public", "stored"]
Arm = Literal[
    "real_own", "real_plain", "real_classical", "synthetic_own", "synthetic_pooled", "real_and_others", "refined",
    "few_real", "few_synthetic",
]  # fmt: skip
DEFAULT_ARMS: tuple[Arm, ...] = ("real_own", "synthetic_own", "synthetic_pooled", "real_and_others")
# Networks that are trained where the dataset is, so that their weights travel to the sites.
WEIGHTS_ARMS: tuple[Arm, ...] = ("synthetic_own", "synthetic_pooled", "refined")
# Trained at a site with pairs that others released, so that pairs travel.
PAIRS_ARMS: tuple[Arm, ...] = ("real_and_others",)
# Trained at a site on its real training cases, or on what a generator drew from a few of them: weights stay there.
REAL_ARMS: tuple[Arm, ...] = (
    "real_own", "real_plain", "real_classical", "real_and_others", "refined", "few_real", "few_synthetic",
)  # fmt: skip
FEW_ARMS: tuple[Arm, ...] = ("few_real", "few_synthetic")


class Document(BaseModel):
    """Base of everything that crosses a boundary: frozen, and no field beyond the schema."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSpec(Document):
    """What every pair of the study looks like: size_px x size_px, grey or RGB, one lesion class."""

    size_px: int = Field(default=64, ge=32, le=512, multiple_of=32)
    channels: Literal[1, 3] = 3


class GeneratorSpec(Document):
    """Which generator, by name, and how many pairs to draw for each training case.

    `cohort` is one generator for all training cases of a site. `per_case` is SinGAN-Seg as published, one for each
    case: such a generator holds its patient's image. `faithful` is its authors' schedule, and for per_case alone.
    """

    kind: Literal["cohort", "per_case"] = "cohort"
    preset: Literal["demo", "fast", "faithful"] = "fast"
    samples_per_case: int = Field(default=3, ge=1, le=100)

    @model_validator(mode="after")
    def _preset_of_kind(self) -> GeneratorSpec:
        if self.preset == "faithful" and self.kind != "per_case":
            raise ValueError(
                "preset faithful is the schedule of a generator a case: use kind per_case, or another preset"
            )
        return self


class StyleSpec(Document):
    """Style transfer after sampling: how, and from which images.

    kind: `moments` (mean and covariance of colour), `sliced` (optimal transport of colours and patches), `gatys`
    (a network's features; needs weights at the site).
    source: `own` (the case's own image), `cohort` (another training case), `public` (images that the site names),
    `stored` (moments averaged over patients; `moments` only), and `none` where kind is `none`.
    strength: 0 keeps the sample, 1 takes the whole style. content_to_style and steps (of Adam): `gatys` only.
    The default reads no pixel: with a generator of the cohort, no style was measured to help.
    """

    kind: StyleKind = "none"
    source: StyleSource = "none"
    strength: float = Field(default=0.7, ge=0.0, le=1.0)
    content_to_style: float = Field(default=0.001, ge=1e-6, le=1e3)
    steps: int = Field(default=100, ge=1, le=2_000)

    @model_validator(mode="after")
    def _makes_sense(self) -> StyleSpec:
        if (self.kind == "none") != (self.source == "none"):
            raise ValueError("style none has no source, and every other kind has one")
        if self.source == "stored" and self.kind != "moments":
            raise ValueError("stored moments are enough for the kind moments only")
        return self


class PrivacySpec(Document):
    """`audited` carries no formal guarantee. `dp` needs epsilon and delta, and is refused where it would be empty."""

    mode: Literal["audited", "dp"] = "audited"
    epsilon: float | None = Field(default=None, gt=0.0, allow_inf_nan=False)
    delta: float | None = Field(default=None, gt=0.0, lt=1.0)

    @model_validator(mode="after")
    def _complete(self) -> PrivacySpec:
        stated = (self.epsilon is not None, self.delta is not None)
        if self.mode == "dp" and not all(stated):
            raise ValueError("privacy mode dp needs epsilon and delta")
        if self.mode == "audited" and any(stated):
            raise ValueError("privacy mode audited has no epsilon: stating one would claim what is not there")
        return self


class MaskLimits(Document):
    """What a plausible mask is in this study. Areas are shares of the image; parts are separate lesions."""

    min_area: float = Field(default=0.0, ge=0.0, le=1.0)
    max_area: float = Field(default=1.0, ge=0.0, le=1.0)
    max_parts: int = Field(default=20, ge=1, le=10_000)
    may_touch_border: bool = True

    @model_validator(mode="after")
    def _not_empty(self) -> MaskLimits:
        if self.min_area >= self.max_area:
            raise ValueError("min_area is not below max_area: no mask could pass")
        return self


class ReleaseSpec(Document):
    """What the study asks of a release. A site's policy may ask for more, and then that holds."""

    min_patients: int = Field(default=5, ge=1)
    max_pairs: int = Field(default=10_000, ge=1, le=100_000)
    max_correlation: float = Field(default=0.95, gt=0.0, le=1.0)
    masks: MaskLimits = MaskLimits()


class EvaluationSpec(Document):
    """How UNet++ is trained, the same in every arm: equal optimiser steps and batches, and each arm with every seed.

    arms, by what a network is trained on, always judged on a site's real hold-out:
        real_own          the site's own real training cases, augmented as in every other arm
        real_plain        the same without augmentation
        real_classical    the same with the seven classical augmentations instead
        synthetic_own     one site's synthetic pairs; scored at every site
        synthetic_pooled  all sites' synthetic pairs
        real_and_others   half of each batch own real cases, half the other sites' synthetic pairs
        refined           half the steps on all sites' synthetic pairs, then half on own real cases (HyFree-S3)
        few_real          the first N of the site's training cases, for each N of few_cases
        few_synthetic     10 N pairs of a generator that saw those N alone
    per_case: the synthetic arms once more with this many pairs a training case. few_cases: the N of the few arms.
    max_pairs_sent: most pairs of others that travel to a site. distances: whether sites measure how far synthetic
    pairs are from their real ones (never in mode dp). encoder_weights: `package` (ImageNet's, installed with
    Synthward), `none` (drawn at random), or the SHA-256 of a file that each administrator points to.
    """

    arms: tuple[Arm, ...] = Field(default=DEFAULT_ARMS, min_length=1)
    seeds: tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...] = Field(default=(0, 1, 2), min_length=1, max_length=20)
    per_case: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(default=(), max_length=10)
    few_cases: tuple[Annotated[int, Field(ge=2, le=10_000)], ...] = Field(
        default=(5, 10, 20, 50), min_length=1, max_length=10
    )
    max_pairs_sent: int = Field(default=2_000, ge=1, le=20_000)
    distances: bool = True
    encoder: Encoder = "tu-tf_efficientnet_lite0"
    encoder_weights: Literal["package", "none"] | Sha256 = "package"
    decoder_channels: tuple[Channels, Channels, Channels, Channels, Channels] = (64, 48, 32, 16, 8)
    steps: int = Field(default=200, ge=2, le=20_000)
    batch_size: int = Field(default=16, ge=2, le=256, multiple_of=2)
    learning_rate: float = Field(default=2e-3, gt=0.0, le=0.1)

    @model_validator(mode="after")
    def _each_once(self) -> EvaluationSpec:
        for name in ("arms", "seeds", "per_case", "few_cases"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} names something twice")
        if self.encoder_weights == "package" and self.encoder != "tu-tf_efficientnet_lite0":
            raise ValueError(
                "the installed ImageNet weights are those of tu-tf_efficientnet_lite0: name a file's SHA-256"
            )
        return self


class Study(Document):
    """The whole proposal. `study_id` names it for people; its SHA-256 over canonical JSON names it for machines."""

    format: Literal["synthward.study/1"] = "synthward.study/1"
    study_id: Slug
    title: str = Field(min_length=1, max_length=200)
    purpose: str = Field(default="", max_length=2000)
    closes: datetime
    image: ImageSpec = ImageSpec()
    generator: GeneratorSpec = GeneratorSpec()
    style: StyleSpec = StyleSpec()
    privacy: PrivacySpec = PrivacySpec()
    release: ReleaseSpec = ReleaseSpec()
    evaluation: EvaluationSpec = EvaluationSpec()

    @model_validator(mode="after")
    def _style_of_generator(self) -> Study:
        if self.style.source == "own" and self.generator.kind != "per_case":
            raise ValueError("a sample of a cohort has no case of its own: use style source cohort or public")
        return self

    @model_validator(mode="after")
    def _as_many_as_are_drawn(self) -> Study:
        if any(n > self.generator.samples_per_case for n in self.evaluation.per_case):
            raise ValueError("per_case asks for more pairs a case than samples_per_case draws")
        return self

    @model_validator(mode="after")
    def _closes_with_zone(self) -> Study:
        if self.closes.tzinfo is None:
            raise ValueError("closes needs a time zone, for example 2026-12-31T00:00:00Z")
        return self
