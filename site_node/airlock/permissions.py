"""Who may do what in the airlock."""

from __future__ import annotations

from shared.errors import SynthwardError
from shared.release import Action
from site_node.policy import Policy

# What a person does; the rest is the site's own machinery.
STEWARD_ACTIONS = frozenset({Action.REVIEW, Action.APPROVE, Action.REJECT, Action.WITHDRAW})


def may(policy: Policy, person: str, action: Action, *, made_by: str) -> bool:
    """Whether person may take action on a release that made_by made."""
    try:
        check_may(policy, person, action, made_by=made_by)
    except SynthwardError:
        return False
    return True


def check_may(policy: Policy, person: str, action: Action, *, made_by: str) -> None:
    """Raises policy.steward or policy.own-release."""
    if action not in STEWARD_ACTIONS or person not in policy.stewards:
        raise SynthwardError(
            "policy.steward",
            f"{person} may not {action.value} releases here",
            why="only the stewards that the hospital's policy names decide what leaves",
            do="add the person to `stewards` in policy.toml, if the hospital agrees",
        )
    if action is Action.APPROVE and person == made_by:
        raise SynthwardError("policy.own-release", f"{person} made this release and cannot approve it")
