"""The life of a release: its states, and the only steps between them.

drafted -> screened -> in_review -> approved -> sealed -> submitted -> accepted
rejected, withdrawn and revoked are ends. Who may take a step is the airlock's question, not this file's.
"""

from __future__ import annotations

from enum import StrEnum

from shared.errors import SynthwardError


class State(StrEnum):
    """Where a release is on its way out."""

    DRAFTED = "drafted"
    SCREENED = "screened"
    IN_REVIEW = "in_review"
    APPROVED = "approved"
    SEALED = "sealed"
    SUBMITTED = "submitted"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"


class Action(StrEnum):
    """What can be done with a release."""

    SCREEN = "screen"
    REVIEW = "review"
    APPROVE = "approve"
    REJECT = "reject"
    SEAL = "seal"
    SUBMIT = "submit"
    ACCEPT = "accept"
    REFUSE = "refuse"
    WITHDRAW = "withdraw"
    REVOKE = "revoke"


STEPS: dict[tuple[State, Action], State] = {
    (State.DRAFTED, Action.SCREEN): State.SCREENED,
    (State.SCREENED, Action.REVIEW): State.IN_REVIEW,
    (State.IN_REVIEW, Action.REVIEW): State.IN_REVIEW,
    (State.IN_REVIEW, Action.APPROVE): State.APPROVED,
    (State.IN_REVIEW, Action.REJECT): State.REJECTED,
    (State.APPROVED, Action.SEAL): State.SEALED,
    (State.SEALED, Action.SUBMIT): State.SUBMITTED,
    (State.SUBMITTED, Action.ACCEPT): State.ACCEPTED,
    # The coordinator would not have it: kept at the site, never sent again.
    (State.SUBMITTED, Action.REFUSE): State.REJECTED,
    (State.DRAFTED, Action.WITHDRAW): State.WITHDRAWN,
    (State.SCREENED, Action.WITHDRAW): State.WITHDRAWN,
    (State.IN_REVIEW, Action.WITHDRAW): State.WITHDRAWN,
    (State.APPROVED, Action.WITHDRAW): State.WITHDRAWN,
    (State.SEALED, Action.WITHDRAW): State.WITHDRAWN,
    (State.ACCEPTED, Action.REVOKE): State.REVOKED,
}


def step(state: State, action: Action) -> State:
    """The state after action. Raises airlock.state when state does not allow it."""
    after = STEPS.get((state, action))
    if after is None:
        allowed = sorted(a.value for s, a in STEPS if s is state)
        raise SynthwardError(
            "airlock.state",
            f"a release that is {state.value} cannot be taken through '{action.value}'",
            do=f"possible now: {', '.join(allowed)}" if allowed else "this state is an end",
        )
    return after
