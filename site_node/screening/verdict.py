"""The verdict on a release, and the error with which a job ends where nothing may leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.bundle import Verdict
from shared.errors import SynthwardError
from site_node.policy import ScreeningRules
from site_node.screening.membership import critic_attack
from site_node.screening.reference import Reference
from site_node.screening.report import Attack, AuditReport, Control
from site_node.screening.screen import Screening


def audit(
    screening: Screening, reference: Reference, rules: ScreeningRules, controls: tuple[Control, ...], *,
    seconds: Mapping[str, float], set_aside: Mapping[str, str], critic_scores: Sequence[float] = (),
) -> tuple[AuditReport, SynthwardError | None]:  # fmt: skip
    """The report of a screening, and the error that blocks the release, or None.

    critic_scores: of training and then hold-out cases, by the generator's critic; empty where it has none.
    """
    holdout_patients = reference.holdout_patients
    too_few = is_too_few(holdout_patients, rules)
    attack = screening.attack(None if too_few else rules.max_membership_auc)
    nearer = screening.nearer_to_training()
    samples_masks, holdout_masks = screening.mask_copies()
    error = blocked(screening, rules, controls, attack, holdout_patients)
    verdict: Verdict = "blocked" if error else "inconclusive" if too_few else "passed"
    why = []
    if error:
        why.append(error.what)
    if too_few:
        asked = rules.min_holdout_patients
        why.append(f"{holdout_patients} hold-out patients are too few to set limits by; {asked} are asked for")
    if too_few and rules.inconclusive_because:
        why.append(f"the hospital's policy lets it pass all the same: {rules.inconclusive_because}")
    if nearer.low > 0.5:
        why.append(
            f"{nearer.k} of {nearer.n} samples are nearer to training cases than to hold-out cases: look for copies"
        )
    if samples_masks.low > holdout_masks.high:
        why.append("more samples have a training case's outline than hold-out cases do: look at the masks")
    report = AuditReport(
        verdict=verdict,
        why=tuple(why),
        sampled=screening.sampled,
        accepted=screening.accepted,
        rejected=dict(screening.rejected),
        training_patients=reference.training_patients,
        holdout_patients=holdout_patients,
        checks=screening.checks(),
        false_alarms=reference.false_alarms,
        controls=controls,
        membership=(attack, *_by_critic(reference, critic_scores)),
        copying_z=screening.copying_z(),
        nearer_to_training=nearer,
        mask_copies={"samples": samples_masks, "between_patients": holdout_masks},
        seconds=dict(seconds),
        set_aside=dict(set_aside),
    )
    return report, error


def _by_critic(reference: Reference, scores: Sequence[float]) -> list[Attack]:
    if not scores:
        return []
    patients = [case.patient for case in (*reference.training, *reference.holdout)]
    return [critic_attack(scores, len(reference.training), patients)]


def missed(controls: tuple[Control, ...]) -> SynthwardError | None:
    """The error for planted copies that were not found, or None."""
    kinds = [c.kind for c in controls if not c.found.n or c.found.k < c.floor * c.found.n]
    if not kinds:
        return None
    return SynthwardError(
        "screening.control-missed",
        f"too few of the planted copies were found: {', '.join(kinds)}",
        why="a screening that misses what it planted cannot vouch for what it did not",
        do="look for hold-out images that are nearly training images (one patient under two keys raises every limit), "
        "exclude images that are nearly flat, or ask for larger images",
    )


def blocked(
    screening: Screening, rules: ScreeningRules, controls: tuple[Control, ...], attack: Attack, holdout_patients: int
) -> SynthwardError | None:
    """Why the release may not leave, or None."""
    if error := missed(controls):
        return error
    if not screening.accepted:
        return SynthwardError(
            "screening.too-few-accepted",
            f"none of {screening.sampled} samples passed: {dict(screening.rejected)}",
            do="choose a preset that trains longer, or more samples a case",
        )
    if is_too_few(holdout_patients, rules):
        return inconclusive(holdout_patients, rules)  # or None: no interval means much, so the attack decides nothing
    if attack.auc.high > rules.max_membership_auc:
        return SynthwardError(
            "screening.membership",
            f"training patients can be told from others by the samples: area under the curve {attack.auc.value:.2f}, "
            f"at most {attack.auc.high:.2f} with 95 % confidence; the policy allows {rules.max_membership_auc:.2f}",
            why="somebody who has a patient's image could find out that the patient was trained on",
            do="draw fewer samples, train a shorter preset, or import more patients",
        )
    return None


def check_holdout(holdout_patients: int, rules: ScreeningRules) -> None:
    """Raises screening.inconclusive where no verdict is possible and the policy does not let that pass."""
    if error := inconclusive(holdout_patients, rules):
        raise error


def is_too_few(holdout_patients: int, rules: ScreeningRules) -> bool:
    """Whether the hold-out is too small for any limit to rest on."""
    return holdout_patients < rules.min_holdout_patients


def inconclusive(holdout_patients: int, rules: ScreeningRules) -> SynthwardError | None:
    """The error for a hold-out that is too small; None where it is not, or the policy lets that pass."""
    if not is_too_few(holdout_patients, rules) or rules.inconclusive_because:
        return None
    return SynthwardError(
        "screening.inconclusive",
        f"{holdout_patients} hold-out patients; a verdict needs {rules.min_holdout_patients}",
        why="how near two patients come to one another is known from the hold-out alone",
        do="import more patients, raise holdout_fraction before the first study, or write the reason into "
        "inconclusive_because in policy.toml if the hospital answers for it",
    )
