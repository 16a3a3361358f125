"""Running a site: its three processes under one supervisor.

node      flower-supernode: the outbound connection to the SuperLink; executes nothing
link      the executor and the outbox: network, no private data
trainer   jobs: private data, no network
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import NoReturn

from shared.errors import SynthwardError
from shared.flower_environment import flower_environment
from shared.ports import check_free
from shared.supervise import Child, Supervisor
from site_node.link.node import node_command
from site_node.policy import read_policy
from site_node.proxy import outbound
from site_node.settings import Home
from site_node.work.no_network import started


class Part(StrEnum):
    """One of a site's processes."""

    NODE = "node"
    LINK = "link"
    TRAINER = "trainer"


def site_children(home: Home) -> list[Child]:
    """The site's processes, in the order in which they start."""
    environment = outbound(home.settings().proxy, flower_environment(home.flower))
    return [
        # A node that had half a reply from a link which died waits for the rest for ever.
        Child(Part.NODE, node_command(home), home.logs / "node.log", environment, follows=Part.LINK),
        Child(Part.LINK, [sys.executable, "-m", "site_node.link.service", str(home.path)], home.logs / "link.log",
              environment),
        Child(
            Part.TRAINER,
            started("site_node.work.worker", str(home.path), ray_address=home.settings().ray_address),
            home.logs / "trainer.log",
        ),
    ]  # fmt: skip


def run_site(home: Home) -> None:
    """Runs until SIGTERM or Ctrl-C. Raises before anything starts when settings, policy or port are wrong."""
    _check_stewards(home)
    for port in filter(None, (home.settings().node_port, home.settings().metrics_port)):
        check_free("127.0.0.1", port)
    Supervisor(site_children(home)).run()


def become(home: Home, part: Part) -> NoReturn:
    """Becomes that process, its output ours: for a service manager that starts, restarts and confines each by itself.

    Raises before that when settings or policy are wrong.
    """
    if part is Part.TRAINER:  # the others have no business with the policy
        _check_stewards(home)
    child = next(child for child in site_children(home) if child.name == part)
    os.execve(child.command[0], list(child.command), dict(child.environment or os.environ))  # noqa: S606 - fixed argv


def _check_stewards(home: Home) -> None:
    if not read_policy(home.policy_file).stewards:
        raise SynthwardError(
            "policy.steward",
            "the policy names no steward",
            why="releases would be made and nobody could let them out",
            do=f"name at least one in {home.policy_file}",
        )
