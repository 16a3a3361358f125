"""One step for all sites at once, as they would do it in life."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deploy.demo.parties import SiteParty, stop_commands

Result = TypeVar("Result")


def each(sites: Sequence[SiteParty], work: Callable[[SiteParty], Result]) -> dict[str, Result]:
    """site -> what work gave; the first error is raised when all have ended, an interruption at once."""
    with ThreadPoolExecutor(len(sites)) as pool:
        try:
            return dict(zip((site.name for site in sites), pool.map(work, sites), strict=True))
        except (KeyboardInterrupt, SystemExit):
            stop_commands()  # the pool waits for its threads, and they for commands that may take hours
            raise
