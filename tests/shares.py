"""Two sites and a coordinator that limits what each may have there, with bundles of all kinds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from coordinator.limits import Limits
from coordinator.quarantine import discard
from coordinator.settings import Home as CoordinatorHome
from coordinator.store.shares import held_by_site
from shared.bundle import Manifest, bundle_sha256
from shared.documents import canonical, sign
from shared.revocation import Revocation
from shared.study import Study
from site_node.settings import Home
from tests.helpers import (
    Coordinator,
    caller,
    manifest_of,
    noise_pair,
    png_objects,
    raw_entry,
    refused,
    running,
    signing_key,
    small_study,
)

Bundle = tuple[Manifest, dict[str, bytes]]
FEW = Limits(unfinished=3, reserve_bytes=0)


class Here(NamedTuple):
    """A coordinator with these limits, its open study, and two sites."""

    coordinator: Coordinator
    study: Study
    mallory: Home
    healthy: Home

    def bytes_of(self, site: str) -> int:
        return held_by_site(self.coordinator.store).get(site, 0)

    def discard(self, sha256: str) -> bool:
        home = CoordinatorHome(self.coordinator.folder)
        return discard(home, self.coordinator.store, sha256, "looked at", actor="operator")

    def folders(self) -> set[str]:
        """Bundles of which something lies there, complete or not, refused or not."""
        return {path.name for name in ("incoming", "quarantine") for path in (self.coordinator.folder / name).iterdir()}


@contextmanager
def with_limits(folder: Path, limits: Limits) -> Iterator[Here]:
    with running(Coordinator(folder / "coordinator", limits=limits)) as started:
        study = started.publish(small_study())
        yield Here(started, study, *(started.join(folder / name, name) for name in ("mallory", "healthy")))


def good(study: Study, site: str, number: int) -> Bundle:
    """A bundle that is accepted."""
    entries, objects = png_objects([noise_pair(10 * number), noise_pair(10 * number + 1)])
    return manifest_of(study, site, entries, release_id=f"release-{number}"), objects


def bad(study: Study, site: str, number: int) -> Bundle:
    """A bundle that is refused for good: it names, honestly, what is no PNG."""
    line, objects = raw_entry(b"no PNG at all, but as long as one has to be: %d" % number)
    return manifest_of(study, site, (line,), release_id=f"release-{number}"), objects


def size_of(bundle: Bundle) -> int:
    return sum(bundle[0].objects().values()) + len(canonical(bundle[0]))


def begun(here: Here, site: Home, bundle: Bundle) -> str:
    with caller(site) as client:
        client.begin_sealed(site, bundle[0])
    return bundle_sha256(bundle[0])


def quarantined(here: Here, site: Home, number: int, name: str = "mallory") -> str:
    """A bundle that lies in quarantine."""
    bundle = bad(here.study, name, number)
    with caller(site) as client, refused("pairs.not-png"):
        client.send_all(site, *bundle)
    return bundle_sha256(bundle[0])


def take_back(here: Here, site: Home, sha256: str) -> None:
    payload = canonical(Revocation(bundle_sha256=sha256, site="mallory", revoked_on=date(2026, 11, 22)))
    here.coordinator.admission().revoke("mallory", payload, sign(signing_key(site), "revocation", payload))
