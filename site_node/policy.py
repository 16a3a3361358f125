"""The hospital's policy, and what holds when a study meets it: always the stricter of the two.

A study can ask for more protection and never for less. What it may not ask for at all is refused by `check`, with a
code that may go back to the coordinator; where both name a limit, `terms` takes the stricter one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from shared.documents import digest
from shared.errors import SynthwardError
from shared.files import write_atomic
from shared.settings_files import read_toml, to_toml
from shared.study import REAL_ARMS, Document, MaskLimits, Slug, Study


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
    control_floor: float = Field(default=0.95, ge=0.0, le=1.0)
    part_control_floor: float = Field(default=0.8, ge=0.0, le=1.0)
    min_screening_patients: int = Field(default=40, ge=2)
    inconclusive_because: str = Field(default="", max_length=500)
    max_membership_auc: float = Field(default=0.7, ge=0.5, le=1.0)
    metrics_may_leave: bool = True
    metric_decimals: int = Field(default=3, ge=1, le=6)
    style_from_real: bool = True
    max_epsilon_per_year: float = Field(default=3.0, gt=0.0, allow_inf_nan=False)
    dp_delta: Literal["auto"] | Annotated[float, Field(gt=0.0, lt=1.0)] = "auto"
    min_dp_patients: int = Field(default=100, ge=1)
    stewards: tuple[Slug, ...] = ()
    required_approvals: int = Field(default=1, ge=1, le=5)


COMMENTS = {
    "privacy_modes": "Modes this hospital takes part in. audited carries no formal guarantee. dp spends epsilon; on "
    "the polyps that were measured it bought no more than drawn scenes give, which read nobody (see the README).",
    "generators": "Generators that may be trained here. Each of per_case holds one patient's image.",
    "min_patients": "The release floor: fewest training patients behind a release.",
    "min_holdout_patients": "Fewest hold-out patients behind a metric that leaves.",
    "holdout_fraction": "Share of patients that no generator ever sees.",
    "max_image_size_px": "Largest image side that a study may ask for.",
    "keep_generators_days": "Days after its last use until a study's generators and checkpoints are deleted.",
    "max_samples_per_case": "Most pairs that a study may draw for each training case.",
    "max_evaluation_steps": "Most optimiser steps that a study may run here on real cases.",
    "max_measurements": "Most networks that may be scored on the hold-out for one study; each reads it once more.",
    "max_correlation": "A sample correlating with a training image above this is dropped; the hold-out sets less.",
    "control_floor": "Share of each kind of planted copy that the screening must find, or nothing leaves.",
    "part_control_floor": "The same for planted parts: lesions pasted elsewhere, blocks shuffled.",
    "min_screening_patients": "Fewest hold-out patients for a verdict; with fewer it is inconclusive, which blocks.",
    "inconclusive_because": "Why the hospital lets inconclusive releases go to review. Empty: it does not.",
    "max_membership_auc": "Most area under the curve of an attack that tells who was trained on (its upper end).",
    "metrics_may_leave": "Whether the eight averages of a scored network may leave at all. false: nothing is scored.",
    "metric_decimals": "Metrics are rounded to this many decimals before they leave.",
    "style_from_real": "Whether style may be taken from training cases. Public images are allowed either way.",
    "max_epsilon_per_year": "Most epsilon for a patient and calendar year (UTC), over all noised readings of the site.",
    "dp_delta": "Largest delta of a study in mode dp; auto: 1/(10 N) for N training patients, which always holds too.",
    "min_dp_patients": "Fewest training patients behind a release in mode dp.",
    "stewards": "Who may review and approve releases. Nobody, until you name somebody.",
    "required_approvals": "Approvals by different stewards that a release needs.",
}


_AUDITED = "ask the study's lead for a study in mode audited, if the hospital takes part in those"


@dataclass(frozen=True)
class ScreeningRules:
    """What a screening holds samples to: the stricter of policy and study.

    control_floor, part_control_floor: shares of planted copies that must be found, of whole images and of parts.
    min_holdout_patients: fewer, and the verdict is inconclusive, which blocks unless the policy says in writing why not
    (inconclusive_because). max_membership_auc: of the attack's upper bound.
    drops: whether a flagged sample is dropped, or only counted.
    """

    control_floor: float
    part_control_floor: float
    min_holdout_patients: int
    inconclusive_because: str
    max_membership_auc: float
    masks: MaskLimits
    drops: bool = True


@dataclass(frozen=True)
class Terms:
    """What holds at this site for one study."""

    min_patients: int
    min_holdout_patients: int
    max_correlation: float
    metric_decimals: int
    rules: ScreeningRules


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
        check_dp(policy, study)
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


def check_dp(policy: Policy, study: Study) -> None:
    """What a study in mode dp may not ask for, as far as its text and the policy tell. Raises policy.dp-*.

    The rest needs the cohort and the ledger: site_node/dp/budget.py, in the job, before it reads a pixel.
    """
    if study.generator.kind == "per_case":
        raise SynthwardError(
            "policy.dp-generator",
            "the study asks for differential privacy with one generator for each image",
            why="one generator for one image has a training set of one: no epsilon means anything there",
            do=_AUDITED,
        )
    unaccounted = [f"style from {study.style.source}"] if study.style.source not in ("none", "public") else []
    unaccounted += [f"the arm {arm}" for arm in study.evaluation.arms if arm in REAL_ARMS]
    if unaccounted:
        raise SynthwardError(
            "policy.dp-unaccounted",
            f"the study asks for differential privacy and for {' and '.join(unaccounted)}",
            why="that reads the same training patients without noise, so that nothing would bound what leaves",
            do="ask the study's lead for style none or public, and for the arms synthetic_own and synthetic_pooled",
        )
    epsilon, delta = study.privacy.epsilon, study.privacy.delta
    if epsilon is not None and epsilon > policy.max_epsilon_per_year:
        raise SynthwardError(
            "policy.dp-epsilon",
            f"the study's epsilon is {epsilon:.4g}; the policy allows {policy.max_epsilon_per_year:.4g} a year",
            do="ask the study's lead for a smaller one, or change policy.toml if the hospital agrees",
        )
    if delta is not None and policy.dp_delta != "auto" and delta > policy.dp_delta:
        raise SynthwardError(
            "policy.dp-epsilon",
            f"the study's delta is {delta:.3g}; the policy allows {policy.dp_delta:.3g}",
            do="ask the study's lead for a smaller one, or change policy.toml if the hospital agrees",
        )


def terms(policy: Policy, study: Study) -> Terms:
    """The stricter of policy and study, limit by limit."""
    return Terms(
        min_patients=max(policy.min_patients, study.release.min_patients),
        min_holdout_patients=policy.min_holdout_patients,
        max_correlation=min(policy.max_correlation, study.release.max_correlation),
        metric_decimals=policy.metric_decimals,
        rules=ScreeningRules(
            control_floor=policy.control_floor,
            part_control_floor=policy.part_control_floor,
            min_holdout_patients=policy.min_screening_patients,
            inconclusive_because=policy.inconclusive_because,
            max_membership_auc=policy.max_membership_auc,
            masks=study.release.masks,
            drops=study.privacy.mode == "audited",
        ),
    )
