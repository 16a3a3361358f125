"""What a coordinator tells a monitoring system: calls, bytes, bundles, sites, certificates, room on the disk.

Sites are named, as the operator invited them; nothing else in a label comes from outside.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from coordinator.metrics_calls import CallMetrics
from coordinator.settings import Home
from coordinator.store.certificates import SiteLine, site_lines
from coordinator.store.figures import bundles_by_state, journal_entries
from coordinator.store.shares import held_by_site
from coordinator.store.store import Store
from shared.errors import SynthwardError
from shared.identity import validity
from shared.monitoring import days_until, gauge, gauge_by

_UP = ("synthward_store_up", "Whether the database answers.")


def coordinator_registry(home: Home, store: Store) -> tuple[CollectorRegistry, CallMetrics]:
    """A registry of its own, and what counts the calls."""
    registry = CollectorRegistry()
    registry.register(StoredFigures(home, store))
    return registry, CallMetrics(registry)


class StoredFigures(Collector):
    """What stands in the store and the folder, read at each scrape."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home = home
        self._store = store

    def collect(self) -> Iterator[Metric]:
        """Gauges. Where the database does not answer, those that need it are absent and synthward_store_up is 0."""
        now = datetime.now(UTC)
        try:
            bundles, entries = bundles_by_state(self._store), journal_entries(self._store)
            lines, held = site_lines(self._store), held_by_site(self._store)
        except (SQLAlchemyError, SynthwardError):
            yield gauge(*_UP, 0)
        else:
            yield gauge(*_UP, 1)
            yield gauge_by("synthward_bundles", "Bundles by state.", "state", bundles)
            yield gauge_by("synthward_sites", "Sites by state.", "state", Counter(_state(line, now) for line in lines))
            days = {line.name: _days(line, now) for line in lines if line.certificate_ends}
            yield gauge_by("synthward_site_certificate_days", "Days until a site's certificate ends.", "site", days)
            yield gauge_by("synthward_site_bytes", "Bytes that a site's bundles take here.", "site", held)
            yield gauge("synthward_journal_entries", "Entries in the coordinator's journal.", entries)
        left = days_until(validity((self._home.keys / "server.crt").read_bytes()).end, now)
        yield gauge("synthward_server_certificate_days", "Days until the server certificate ends.", left)
        free = shutil.disk_usage(self._home.path).free
        yield gauge("synthward_disk_free_bytes", "Room on the disk of the coordinator's folder.", free)


def _state(line: SiteLine, now: datetime) -> str:
    ended = bool(line.certificate_ends) and _days(line, now) <= 0
    return "expired" if line.state == "active" and ended else line.state


def _days(line: SiteLine, now: datetime) -> float:
    return days_until(datetime.fromisoformat(line.certificate_ends), now)
