"""The environment of every process that imports flwr."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def flower_environment(home: Path) -> dict[str, str]:
    """Nothing calls home (telemetry, update checks), nothing is installed, and files stay in our folder."""
    return {
        **os.environ,
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        # These processes have many threads that hold networks for a moment; glibc would keep an arena for each.
        "MALLOC_ARENA_MAX": "2",
        "no_proxy": past_proxies(os.environ),
    }


def past_proxies(environment: Mapping[str, str]) -> str:
    """The variables' list of hosts that are reached without a proxy, and 127.0.0.1: our processes meet there."""
    named = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return ",".join(dict.fromkeys([*(name.strip() for name in named.split(",") if name.strip()), "127.0.0.1"]))
