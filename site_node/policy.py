"""The hospital's policy, and what holds when a study meets it: always the stricter of the two.

A study can ask for more protection and never for less. What it may not ask for at all is refused by `check`, with a
code that may go back to the coordinator; where both name a limit, `terms` takes the stricter one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field

from shared.documents import digest
from shared.errors import SynthwardError
from shared.files import write_atomic
from shared.settings_files import read_toml, to_toml
from shared.study import Document, Slug, Study


class Policy(Document):
    """policy.toml. Defaults are the careful ones; the file is the administrator's."""

    privacy_modes: tuple[Literal["audited", "dp"], ...] = ("audited",)
    generators: tuple[Literal["cohort", "per_case"], ...] = ("cohort",)
    min_patients: int = Field(default=20, ge=1)
    min_holdout_patients: int = Field(default=10, ge=1)
    holdout_fraction: float = Field(default=0.3, gt=0.0, lt=1.0)
    max_image_size_px: int = Field(default=512, ge=32, le=512)
    keep_generators_days: int = Field(default=30, ge=0, le=3650)
    max_samples_per_case: int = Field(default=10, ge=1, le=100)
    max_evaluation_steps: int = Field(default=5_000, ge=1)
    max_measurements: int = Field(default=40, ge=1, le=10_000)
    max_correlation: float = Field(default=0.95, gt=0.0, le=1.0)
    metric_decimals: int = Field(default=3, ge=1, le=6)
    style_from_real: bool = True
    stewards: tuple[Slug, ...] = ()
    required_approvals: int = Field(default=1, ge=1, le=5)


COMMENTS = {
    "privacy_modes": "Modes this hospital takes part in. audited carries no formal guarantee.",
    "generators": "Generators that may be trained here. Each of per_case holds one patient's image.",
    "min_patients": "The release floor: fewest training patients behind a release.",
    "min_holdout_patients": "Fewest hold-out patients behind a metric that leaves.",
    "holdout_fraction": "Share of patients that no generator ever sees.",
    "max_image_size_px": "Largest image side that a study may ask for.",
    "keep_generators_days": "Days after its last use until a study's generators and checkpoints are deleted.",
    "max_samples_per_case": "Most pairs that a study may draw for each training case.",
    "max_evaluation_steps": "Most optimiser steps that a study may run here on real cases.",
    "max_measurements": "Most networks that may be scored on the hold-out for one study; each reads it once more.",
    "max_correlation": "A sample whose correlation with any real image (flips included) is above this is dropped.",
    "metric_decimals": "Metrics are rounded to this many decimals before they leave.",
    "style_from_real": "Whether style may be taken from training cases. Public images are allowed either way.",
    "stewards": "Who may review and approve releases. Nobody, until you name somebody.",
    "required_approvals": "Approvals by different stewards that a release needs.",
}


@dataclass(frozen=True)
class Terms:
    """What holds at this site for one study."""

    min_patients: int
    min_holdout_patients: int
    max_correlation: float
    metric_decimals: int


def read_policy(path: Path) -> Policy:
    """The policy in a file. Raises settings.missing or policy.file."""
    return read_toml(Policy, path, code="policy.file")


def write_policy(path: Path, policy: Policy) -> None:
    """Writes a policy with its comments."""
    write_atomic(path, to_toml(policy.model_dump(mode="json"), comments=COMMENTS).encode())


def policy_sha256(policy: Policy) -> str:
    """The digest that stands in every manifest."""
    return digest(policy)


def check(policy: Policy, study: Study, *, now: datetime | None = None) -> None:
    """Raises policy.* when the study asks for something that this hospital does not allow."""
    ask = "talk to the study's lead, or change policy.toml if the hospital agrees"
    if (now or datetime.now(UTC)) >= study.closes:
        raise SynthwardError("policy.expired", f"study {study.study_id} closed at {study.closes.isoformat()}")
    if study.privacy.mode not in policy.privacy_modes:
        raise SynthwardError("policy.privacy-mode", f"the study's mode is {study.privacy.mode}", do=ask)
    if study.privacy.mode == "dp":
        each = "one generator for one image has a training set of one: no epsilon means anything there"
        cohort = "this version trains the cohort's generator without noise, so that it has no epsilon to state"
        raise SynthwardError(
            "policy.dp-unavailable",
            f"the study asks for differential privacy with the generator {study.generator.kind}",
            why=each if study.generator.kind == "per_case" else cohort,
            do="ask the study's lead for a study in mode audited, if the hospital takes part in those",
        )
    if study.generator.kind not in policy.generators:
        raise SynthwardError("policy.generator", f"the study's generator is {study.generator.kind}", do=ask)
    if study.style.source not in ("none", "public") and not policy.style_from_real:
        raise SynthwardError("policy.style", f"the study takes style from real images ({study.style.source})", do=ask)
    if study.image.size_px > policy.max_image_size_px:
        raise SynthwardError("policy.image-size", f"the study asks for {study.image.size_px} px", do=ask)
    if study.generator.samples_per_case > policy.max_samples_per_case:
        asked = study.generator.samples_per_case
        raise SynthwardError("policy.samples", f"the study asks for {asked} samples a case", do=ask)
    if study.evaluation.steps > policy.max_evaluation_steps:
        raise SynthwardError("policy.steps", f"the study asks for {study.evaluation.steps} optimiser steps", do=ask)


def terms(policy: Policy, study: Study) -> Terms:
    """The stricter of policy and study, limit by limit."""
    return Terms(
        min_patients=max(policy.min_patients, study.release.min_patients),
        min_holdout_patients=policy.min_holdout_patients,
        max_correlation=min(policy.max_correlation, study.release.max_correlation),
        metric_decimals=policy.metric_decimals,
    )
