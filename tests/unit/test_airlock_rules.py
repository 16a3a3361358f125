"""Who may do what with a release, and when: every state, every role, every action, written out by hand."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SynthwardError
from shared.release import STEPS, Action, State, step
from site_node.airlock.diagram import diagram
from site_node.airlock.permissions import MACHINES, STEWARD_ACTIONS, may
from site_node.airlock.policies import MAX_WORDS, Standing, check_step, check_words, enough, may_see_votes, may_step
from site_node.policy import Policy
from tests.airlock_site import ONE, TWO
from tests.helpers import refused

DOCS = Path(__file__).resolve().parents[2] / "deploy" / "docs" / "airlock.md"
DIGEST = "d" * 64

# State by state: what may be done, and where it leads.
ALLOWED = """
drafted    screen -> screened       withdraw -> withdrawn
screened   review -> in_review      withdraw -> withdrawn
in_review  review -> in_review      approve -> approved     ask -> screened   reject -> rejected   withdraw -> withdrawn
approved   seal -> sealed           withdraw -> withdrawn
sealed     submit -> submitted      withdraw -> withdrawn
submitted  accept -> accepted       refuse -> rejected      revoke -> revoking
accepted   revoke -> revoking
revoking   confirm -> revoked
rejected
withdrawn
revoked
"""

# Role by role: what becomes of approving, of a steward's other steps, and of the machinery's. `as the state` is what
# ALLOWED says, and airlock.state where it says nothing.
ROLES = """
role           | approve                              | steward's steps | machinery's steps
stranger       | policy.steward                       | policy.steward  | policy.machine-step
maker          | policy.own-release                   | as the state    | policy.machine-step
asker          | policy.own-release                   | as the state    | policy.machine-step
steward        | as the state                         | as the state    | policy.machine-step
steward-voted  | as the state                         | as the state    | policy.machine-step
steward-unread | as the state, but airlock.not-opened | as the state    | policy.machine-step
trainer        | policy.steward                       | policy.steward  | as the state
link           | policy.steward                       | policy.steward  | as the state
coordinator    | policy.steward                       | policy.steward  | as the state
"""
DECIDED_BY_PEOPLE = {"review", "approve", "ask", "reject", "withdraw", "revoke"}
PEOPLE = ("maker", "asker", "steward", "steward-voted", "steward-unread")
POLICY = Policy(stewards=PEOPLE, required_approvals=2)


def by_hand() -> dict[tuple[str, str], str]:
    """ALLOWED as (state, action) -> state."""
    table = {}
    for line in ALLOWED.strip().splitlines():
        state, *words = line.split()
        for action, after in zip(words[0::3], words[2::3], strict=True):  # action -> state
            table[state, action] = after
    return table


def roles_by_hand() -> dict[str, tuple[str, str, str]]:
    """ROLES as role -> (approve, steward's steps, machinery's steps)."""
    lines = [[cell.strip() for cell in line.split("|")] for line in ROLES.strip().splitlines()[1:]]
    return {role: (approve, steps, machinery) for role, approve, steps, machinery in lines}


def expected(state: State, role: str, action: Action) -> str:
    """The code with which a step is refused; empty where it is allowed."""
    approve, steps, machinery = roles_by_hand()[role]
    rule = approve if action is Action.APPROVE else steps if action.value in DECIDED_BY_PEOPLE else machinery
    if not rule.startswith("as the state"):
        return rule
    if (state.value, action.value) not in by_hand():
        return "airlock.state"
    return rule.partition(", but ")[2]


@pytest.mark.parametrize(("state", "action"), list(itertools.product(State, Action)))
def test_every_step_leads_where_the_table_says_or_is_refused(state: State, action: Action) -> None:
    after = by_hand().get((state.value, action.value))
    if after is None:
        with refused("airlock.state"):
            step(state, action)
    else:
        assert step(state, action).value == after


@pytest.mark.parametrize(("state", "role"), list(itertools.product(State, roles_by_hand())))
def test_every_role_in_every_state_may_what_the_table_says(state: State, role: str) -> None:
    standing = Standing(
        state, DIGEST, made_by="maker", asked_by="asker",
        opened=frozenset(PEOPLE) - {"steward-unread"}, votes=frozenset({"steward-voted"}),
    )  # fmt: skip
    assert {action: code_of(standing, role, action) for action in Action} == {
        action: expected(state, role, action) for action in Action
    }


def code_of(standing: Standing, role: str, action: Action) -> str:
    """The code with which the code refuses a step; empty where it allows it."""
    try:
        check_step(POLICY, standing, role, action, reviewed_sha256=DIGEST)
    except SynthwardError as error:
        assert not may_step(POLICY, standing, role, action, reviewed_sha256=DIGEST)
        return error.code
    assert may_step(POLICY, standing, role, action, reviewed_sha256=DIGEST)
    return ""


def test_the_tables_name_every_state_step_and_machine() -> None:
    assert {line.split()[0] for line in ALLOWED.strip().splitlines()} == {state.value for state in State}
    assert len(STEPS) == len(by_hand())
    assert roles_by_hand().keys() >= MACHINES
    assert {action.value for action in STEWARD_ACTIONS} == DECIDED_BY_PEOPLE


def test_no_way_out_goes_round_the_steward() -> None:
    reached, fringe = {State.DRAFTED}, [State.DRAFTED]
    while fringe:
        before = fringe.pop()
        for (state, action), after in STEPS.items():
            if state is before and action is not Action.APPROVE and after not in reached:
                reached.add(after)
                fringe.append(after)
    assert not reached & {State.APPROVED, State.SEALED, State.SUBMITTED, State.ACCEPTED, State.REVOKING, State.REVOKED}


def test_no_key_of_the_policy_approves_by_itself() -> None:
    opened = Standing(State.IN_REVIEW, DIGEST, made_by="trainer", opened=frozenset({"ada"}))
    assert not enough(Policy(stewards=("ada",), required_approvals=1), opened)
    assert not [name for name in Policy.model_fields if "auto" in name]


def test_a_refusal_says_what_is_possible_instead() -> None:
    with pytest.raises(SynthwardError, match="possible now: review, withdraw"):
        step(State.SCREENED, Action.SEAL)


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("person", ["ada", "nobody", "", "Ada"])
def test_only_named_stewards_decide_and_nobody_does_the_machines_work(person: str, action: Action) -> None:
    assert may(ONE, person, action, made_by="grace") == (person == "ada" and action.value in DECIDED_BY_PEOPLE)


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_a_steward_who_is_called_like_a_machine_decides_nothing(machine: str) -> None:
    named = Policy(stewards=(machine,))
    assert not any(may(named, machine, action, made_by="ada") for action in STEWARD_ACTIONS)


@given(
    votes=st.frozensets(st.sampled_from(["ada", "grace", "mary", "eve", "maker", "trainer"])),
    opened=st.frozensets(st.sampled_from(["ada", "grace", "mary", "eve", "maker", "trainer"])),
    stewards=st.lists(st.sampled_from(["ada", "grace", "mary", "maker"]), unique=True),
    required=st.integers(1, 5),
)
def test_only_stewards_who_looked_and_had_no_part_in_it_are_counted_each_once(
    votes: frozenset[str], opened: frozenset[str], stewards: list[str], required: int
) -> None:
    standing = Standing(State.IN_REVIEW, DIGEST, made_by="maker", opened=opened, votes=votes)
    policy = Policy(stewards=tuple(stewards), required_approvals=required)
    assert enough(policy, standing) == (len((votes & opened & set(stewards)) - {"maker"}) >= required)


@pytest.mark.parametrize("state", State)
def test_votes_are_told_to_those_who_voted_and_once_it_is_decided(state: State) -> None:
    decided = state.value not in ("drafted", "screened", "in_review")
    standing = Standing(state, DIGEST, made_by="trainer", votes=frozenset({"ada"}))
    assert may_see_votes(TWO, standing, "ada")
    assert may_see_votes(TWO, standing, "grace") == decided
    assert not may_see_votes(TWO, standing, "nobody")
    assert may_see_votes(ONE, standing, "grace"), "where one vote suffices there is nothing to be blind to"


@pytest.mark.parametrize("text", ["", "  \n ", "x" * (MAX_WORDS + 1)])
def test_a_decision_needs_words_that_somebody_can_read(text: str) -> None:
    with refused("airlock.reason"):
        check_words(text)
    assert check_words(" why is pair 7 so dark? ") == "why is pair 7 so dark?"


def test_the_diagram_in_the_docs_is_the_one_that_the_code_draws() -> None:
    (_, drawn, _) = DOCS.read_text(encoding="utf-8").split("```")
    assert drawn == f"mermaid\n{diagram()}", "run: python -m site_node.airlock.diagram"


def test_the_diagram_has_every_step_once_and_notices_a_new_one() -> None:
    assert diagram().count(" --> ") == len(STEPS) + 1 + 3  # and where it begins, and the three ends
    more = STEPS | {(State.SCREENED, Action.APPROVE): State.APPROVED}
    assert "screened --> approved: approve (steward)" in diagram(more)
    assert diagram(more) != diagram()
