"""When a step may be taken: the release's state, what the person has opened, whose votes stand, how many are enough.

Pure: everything is decided from a `Standing`, which the workflow reads inside the transaction that takes the step.
There is no automatic approval: nothing here grants a vote to anybody but a person, and no key of the policy could.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import SynthwardError
from shared.release import Action, State, step
from site_node.airlock.permissions import check_may, check_steward
from site_node.policy import Policy

MAX_WORDS = 2000  # characters of a reason or question
_UNDECIDED = frozenset({State.DRAFTED, State.SCREENED, State.IN_REVIEW})


@dataclass(frozen=True)
class Standing:
    """What decides about a release. opened, votes: people who opened, or voted for, this very digest since the last
    question was asked; made_by and asked_by: who made it, and who asked for it to be made ("" where nobody did)."""

    state: State
    bundle_sha256: str
    made_by: str
    asked_by: str = ""
    opened: frozenset[str] = frozenset()
    votes: frozenset[str] = frozenset()


def may_step(policy: Policy, standing: Standing, person: str, action: Action, *, reviewed_sha256: str = "") -> bool:
    """Whether person may take action now."""
    try:
        check_step(policy, standing, person, action, reviewed_sha256=reviewed_sha256)
    except SynthwardError:
        return False
    return True


def check_step(policy: Policy, standing: Standing, person: str, action: Action, *, reviewed_sha256: str = "") -> None:
    """Raises policy.*, airlock.state, airlock.changed or airlock.not-opened unless person may take action now.

    reviewed_sha256: for approve, the digest of what the person says they reviewed.
    """
    check_may(policy, person, action, made_by=standing.made_by, asked_by=standing.asked_by)
    step(standing.state, action)
    if action is not Action.APPROVE:
        return
    if reviewed_sha256 != standing.bundle_sha256:
        raise SynthwardError(
            "airlock.changed",
            f"{person} reviewed {reviewed_sha256[:12]}, the release is {standing.bundle_sha256[:12]}",
            do="review it again",
        )
    if person not in standing.opened:
        raise SynthwardError(
            "airlock.not-opened",
            f"{person} has not opened this release",
            why="a vote is for what its voter has seen, and a question calls for a new look",
            do="review it first",
        )


def enough(policy: Policy, standing: Standing) -> bool:
    """Whether the votes that count suffice: of people who are stewards now, and had no part in the release."""
    counted = {
        person
        for person in standing.votes
        if may_step(policy, standing, person, Action.APPROVE, reviewed_sha256=standing.bundle_sha256)
    }
    return len(counted) >= policy.required_approvals


def may_see_votes(policy: Policy, standing: Standing, person: str) -> bool:
    """Whether person may be told who has voted."""
    try:
        check_may_see_votes(policy, standing, person)
    except SynthwardError:
        return False
    return True


def check_may_see_votes(policy: Policy, standing: Standing, person: str) -> None:
    """Raises policy.steward, or airlock.blind where two or more are to judge and this one has not voted yet.

    Who knows that another has approved looks less closely: so nobody is told whether there are votes at all.
    """
    check_steward(policy, person, "see the votes on")
    if policy.required_approvals >= 2 and standing.state in _UNDECIDED and person not in standing.votes:
        raise SynthwardError(
            "airlock.blind",
            f"{person} has not voted yet, and is told of no votes before",
            why="the policy asks for several stewards, who judge without knowing of one another",
            do="review the release and vote, or wait until it is decided",
        )


def check_words(text: str) -> str:
    """A reason or question without the blanks around it. Raises airlock.reason when it is empty or endless."""
    words = text.strip()
    if not words or len(words) > MAX_WORDS:
        raise SynthwardError(
            "airlock.reason",
            f"the text has {len(words)} characters",
            why="whoever reads the record later must understand the decision",
            do=f"write between 1 and {MAX_WORDS} characters",
        )
    return words
