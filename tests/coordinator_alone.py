"""A coordinator in a process of its own, so that what its services need in memory can be read from outside.

    python -m tests.coordinator_alone FOLDER SITE [SITE ...]

Publishes two studies, invites the sites, starts both services, and says so in one JSON line. Ends when its standard
input is closed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.limits import Limits
from coordinator.store.store import Store
from shared.database import sqlite_url
from shared.documents import canonical, parse
from shared.invitation import read_invitation
from shared.study import Study
from site_node.link.enrol import enrol
from site_node.settings import Home
from tests.helpers import Coordinator, new_home, running, small_study

LARGE = "large"  # the study that takes as many pairs as any may
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Alone:
    """What a test knows of the process. sites: name -> an enrolled site's home."""

    pid: int
    folder: Path
    studies: dict[str, Study]
    sites: dict[str, Home]

    @property
    def store(self) -> Store:
        """The coordinator's records, as they are on the disk."""
        return Store(sqlite_url(self.folder / "store.db"))

    def objects(self) -> set[str]:
        """Digests of everything in the object store."""
        return {path.stem for path in (self.folder / "objects").rglob("*.png")}


@contextmanager
def coordinator_alone(folder: Path, sites: Sequence[str]) -> Iterator[Alone]:
    """Starts the process, enrols the sites over gRPC, and ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.coordinator_alone", str(folder / "coordinator"), *sites],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        told: dict[str, Any] = json.loads(process.stdout.readline())
        homes = {name: new_home(folder / name) for name in sites}
        for name, home in homes.items():
            enrol(home, read_invitation(told["invitations"][name]))
        studies = {name: parse(Study, payload.encode()) for name, payload in told["studies"].items()}
        yield Alone(process.pid, folder / "coordinator", studies, homes)
    finally:
        process.stdin.close()
        process.wait(timeout=_PATIENCE_S)


def main(folder: str, *sites: str) -> None:
    """Serves until nobody listens any more."""
    # More than the product takes of one site: an attack that was met by that limit would show nothing of its own.
    with running(Coordinator(Path(folder), limits=Limits(unfinished=1000, reserve_bytes=0))) as coordinator:
        studies = (small_study(), small_study(study_id=LARGE, release={"min_patients": 2, "max_pairs": 100_000}))
        told = {
            "studies": {study.study_id: canonical(coordinator.publish(study)).decode() for study in studies},
            "invitations": {name: coordinator.invite(name).text() for name in sites},
        }
        print(json.dumps(told), flush=True)  # noqa: T201
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
