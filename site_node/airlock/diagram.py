"""The life of a release as a Mermaid state diagram, drawn from the code: `python -m site_node.airlock.diagram`.

A test holds the diagram in deploy/docs/airlock.md equal to this one.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from shared.release import STEPS, Action, State
from site_node.airlock.permissions import STEWARD_ACTIONS


def diagram(steps: Mapping[tuple[State, Action], State] = STEPS) -> str:
    """The diagram's text. What a steward decides says so; the machinery takes the other steps."""
    befores, afters = {before for before, _ in steps}, set(steps.values())
    lines = ["stateDiagram-v2"]
    lines += [f"    [*] --> {state.value}" for state in State if state in befores and state not in afters]
    for (before, action), after in steps.items():
        who = " (steward)" if action in STEWARD_ACTIONS else ""
        lines.append(f"    {before.value} --> {after.value}: {action.value}{who}")
    lines += [f"    {state.value} --> [*]" for state in State if state in afters and state not in befores]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(diagram())
