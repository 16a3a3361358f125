"""The environment of every process that imports flwr."""

from __future__ import annotations

import os
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
    }
