"""The command of the site's Flower node."""

from __future__ import annotations

import sys
from pathlib import Path

from site_node.settings import Home


def node_command(home: Home) -> list[str]:
    """The command of the site's Flower node: it holds the connection, and executes nothing itself."""
    keys = home.link_keys
    return [
        str(Path(sys.executable).with_name("flower-supernode")),
        "--root-certificates", str(keys / "ca.crt"),
        "--superlink", home.fleet_address(),
        "--auth-supernode-private-key", str(keys / "flower.key"),
        "--isolation", "process",
        "--superexec-auth-secret-file", str(keys / "executor.secret"),
        "--host", "127.0.0.1",
        "--port", str(home.settings().node_port),
    ]  # fmt: skip
