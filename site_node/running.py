"""Running a site: its three processes under one supervisor.

node      flower-supernode: the outbound connection to the SuperLink; executes nothing
link      the executor and the outbox: network, no private data
trainer   jobs: private data, no network
"""

from __future__ import annotations

import sys

from shared.errors import SynthwardError
from shared.flower_environment import flower_environment
from shared.ports import check_free
from shared.supervise import Child, Supervisor
from site_node.link.node import node_command
from site_node.policy import read_policy
from site_node.settings import Home
from site_node.work.no_network import started


def site_children(home: Home) -> list[Child]:
    """The site's processes, in the order in which they start."""
    environment = flower_environment(home.flower)
    return [
        Child("node", node_command(home), home.logs / "node.log", environment),
        Child("link", [sys.executable, "-m", "site_node.link.service", str(home.path)], home.logs / "link.log",
              environment),
        Child(
            "trainer",
            started("site_node.work.worker", str(home.path), ray_address=home.settings().ray_address),
            home.logs / "trainer.log",
        ),
    ]  # fmt: skip


def run_site(home: Home) -> None:
    """Runs until SIGTERM or Ctrl-C. Raises before anything starts when settings, policy or port are wrong."""
    if not read_policy(home.policy_file).stewards:
        raise SynthwardError(
            "policy.steward",
            "the policy names no steward",
            why="releases would be made and nobody could let them out",
            do=f"name at least one in {home.policy_file}",
        )
    check_free("127.0.0.1", home.settings().node_port)
    Supervisor(site_children(home)).run()
