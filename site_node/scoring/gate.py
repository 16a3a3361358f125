"""The metric gate: what holds before any figure is made from real hold-outs."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import SynthwardError
from shared.study import Study
from site_node.cases import Case, PrivateStore
from site_node.cohort import Split, check_size
from site_node.policy import Policy, Terms, terms


@dataclass(frozen=True)
class Admitted:
    """A cohort that figures may be made of."""

    cases: list[Case]
    split: Split
    limits: Terms


def admit(store: PrivateStore, study: Study, policy: Policy, *, noised: bool = False) -> Admitted:
    """The cohort, if the hospital lets metrics out and enough patients are held out.

    noised: whether the figures will be, as mode dp wants. Raises policy.metrics, policy.dp-unaccounted, cohort.*.
    """
    limits = terms(policy, study)
    if not policy.metrics_may_leave:
        raise SynthwardError(
            "policy.metrics",
            "this hospital's policy lets no metrics out",
            do="change metrics_may_leave in policy.toml if the hospital agrees",
        )
    if study.privacy.mode == "dp" and not noised:
        raise SynthwardError(
            "policy.dp-unaccounted",
            "figures of real cases were asked for without noise, for a study in mode dp",
            why="nothing would bound what leaves",
            do="ask the study's lead for the arms synthetic_own and synthetic_pooled",
        )
    cases = store.cases()
    split = store.split(cases, policy.holdout_fraction)
    if len(split.holdout) < limits.min_holdout_patients:
        raise SynthwardError(
            "cohort.no-holdout",
            f"{len(split.holdout)} hold-out patients; the policy lets metrics out from {limits.min_holdout_patients}",
            do="import more patients, or change min_holdout_patients in policy.toml if the hospital agrees",
        )
    check_size(((case.height, case.width) for case in cases), study.image.size_px)
    return Admitted(cases, split, limits)
