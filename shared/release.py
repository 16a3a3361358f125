"""The life of a release: its states, and the only steps between them.

drafted -> screened -> in_review -> approved -> sealed -> submitted -> accepted -> revoking -> revoked
rejected, withdrawn and revoked are ends. Who may take a step is the airlock's question, not this file's.

There is no step round the steward: nothing is approved by a machine, and no setting can make it so.
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
    # The steward has taken the release back, the coordinator has not confirmed it yet. A state of its own, because the
    # decision holds from this moment (nothing more of it is sent) and the world does not know yet: `accepted` would
    # hide the first, `revoked` the second.
    REVOKING = "revoking"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"
    REVOKED = "revoked"


class Action(StrEnum):
    """What can be done with a release."""

    SCREEN = "screen"
    REVIEW = "review"
    APPROVE = "approve"
    ASK = "ask"
    REJECT = "reject"
    SEAL = "seal"
    SUBMIT = "submit"
    ACCEPT = "accept"
    REFUSE = "refuse"
    WITHDRAW = "withdraw"
    REVOKE = "revoke"
    CONFIRM = "confirm"


STEPS: dict[tuple[State, Action], State] = {
    (State.DRAFTED, Action.SCREEN): State.SCREENED,
    (State.SCREENED, Action.REVIEW): State.IN_REVIEW,
    (State.IN_REVIEW, Action.REVIEW): State.IN_REVIEW,
    (State.IN_REVIEW, Action.APPROVE): State.APPROVED,
    # A question: the votes so far are void, and whoever may review opens it afresh.
    (State.IN_REVIEW, Action.ASK): State.SCREENED,
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
    (State.SUBMITTED, Action.REVOKE): State.REVOKING,
    (State.ACCEPTED, Action.REVOKE): State.REVOKING,
    # The coordinator's receipt for the revocation is here.
    (State.REVOKING, Action.CONFIRM): State.REVOKED,
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
