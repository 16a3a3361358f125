"""Who may do what in the airlock: stewards decide, machines carry out, and nobody does both.

When a step is possible, and whether there are votes enough, is the question of policies.py.
"""

from __future__ import annotations

from shared.errors import SynthwardError
from shared.release import Action
from site_node.policy import Policy

# What a person decides; every other step is the site's own machinery, on what a person decided.
STEWARD_ACTIONS = frozenset({Action.REVIEW, Action.APPROVE, Action.ASK, Action.REJECT, Action.WITHDRAW, Action.REVOKE})
# The names under which the machinery writes into the journal. No steward can bear one of them.
MACHINES = frozenset({"trainer", "link", "coordinator"})


def may(policy: Policy, person: str, action: Action, *, made_by: str, asked_by: str = "") -> bool:
    """Whether person may take action on a release that made_by made and asked_by, if anybody, asked for."""
    try:
        check_may(policy, person, action, made_by=made_by, asked_by=asked_by)
    except SynthwardError:
        return False
    return True


def check_may(policy: Policy, person: str, action: Action, *, made_by: str, asked_by: str = "") -> None:
    """Raises policy.steward, policy.own-release or policy.machine-step."""
    if action not in STEWARD_ACTIONS:
        if person not in MACHINES:
            raise SynthwardError(
                "policy.machine-step",
                f"{person} may not {action.value} a release",
                why="this step follows from what was decided, and the site's own processes take it",
            )
        return
    check_steward(policy, person, action.value)
    if action is Action.APPROVE and person in (made_by, asked_by):
        raise SynthwardError(
            "policy.own-release",
            f"{person} made this release, or asked for it, and cannot approve it",
            do="another steward has to look",
        )


def check_steward(policy: Policy, person: str, what: str) -> None:
    """Raises policy.steward unless the policy names the person."""
    if person not in policy.stewards or person in MACHINES:
        raise SynthwardError(
            "policy.steward",
            f"{person} may not {what} releases here",
            why="only the stewards that the hospital's policy names decide what leaves",
            do="add the person to `stewards` in policy.toml, if the hospital agrees",
        )
