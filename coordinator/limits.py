"""How much of the coordinator's disk one site may take, and what is left free whatever all of them send.

A site is refused before anything of a further bundle is kept, with a code that its outbox takes for no last word: once
the operator has made room, the bundle that waits goes on by itself.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SynthwardError

GB = 10**9
# An honest link sends one bundle after the other, so what stands here unfinished is one that is on its way, those that
# were cut for good, and those that were refused: a site with more of them is broken or hostile, and somebody must look.
MOST_UNFINISHED = 32


@dataclass(frozen=True)
class Held:
    """What a site has here. unfinished: bundles neither accepted nor deleted; bytes: of these and the accepted."""

    unfinished: int = 0
    bytes: int = 0


@dataclass(frozen=True)
class Limits:
    """unfinished, share_bytes: the most of one site. reserve_bytes: the least that is left free; 0: it is not asked."""

    unfinished: int = MOST_UNFINISHED
    share_bytes: int = 200 * GB
    reserve_bytes: int = 2 * GB

    def check_share(self, site: str, held: Held, more_bytes: int) -> None:
        """Whether a site that holds this may begin a further bundle of so many bytes. Raises admission.share."""
        if held.unfinished >= self.unfinished:
            raise _refused(
                f"site {site} has {held.unfinished} bundles here that are not accepted, the most there may be"
            )
        if held.bytes + more_bytes > self.share_bytes:
            raise _refused(
                f"site {site} has {held.bytes / GB:.1f} GB here, and {more_bytes / GB:.1f} more are over its share of "
                f"{self.share_bytes / GB:.1f}"
            )

    def check_room(self, folder: Path, more_bytes: int) -> None:
        """Whether the disk of a folder takes so many bytes and keeps its reserve. Raises storage.full."""
        if self.reserve_bytes and shutil.disk_usage(folder).free - more_bytes < self.reserve_bytes:
            raise SynthwardError(
                "storage.full",
                f"{more_bytes / GB:.3f} GB more would leave less than {self.reserve_bytes / GB:.1f} GB free",
                why="the database and the journal are written to the same disk, and must always be",
                do="free some space on the coordinator's disk, or lower reserve_gb in its settings.toml",
            )


DEFAULT = Limits()


def _refused(what: str) -> SynthwardError:
    return SynthwardError(
        "admission.share",
        what,
        why="one site must not take the disk from all others",
        do="see: synthward-coordinator quarantine list; discard what nobody needs, or raise site_share_gb",
    )
