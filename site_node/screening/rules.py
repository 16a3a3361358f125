"""What a screening holds samples to. Plain values: the policy makes them without loading what screens."""

from __future__ import annotations

from dataclasses import dataclass

from shared.study import MaskLimits


@dataclass(frozen=True)
class Rules:
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
