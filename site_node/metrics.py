"""What a site tells its hospital's monitoring system, from the link: queue, outbox, certificate, contact, room.

All of it is what the link may know anyway. The private half is not opened, and no label names a study, a release, a
file or a patient.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from shared.errors import SynthwardError
from shared.monitoring import OK, days_until, gauge, gauge_by
from site_node.certificate import read_identity
from site_node.jobs import Queue
from site_node.metrics_contact import Contact
from site_node.settings import Home
from site_node.standing import read_standing

_OUTBOX = ("waiting", "sending", "accepted", "refused", "withdrawn", "revoked")
_SENT = ("enrolment", "renewal", "bundle", "revocation", "checkpoint")
_UP = ("synthward_queue_up", "Whether the queue's database answers.")


def site_registry(home: Home, queue: Queue, contact: Contact) -> CollectorRegistry:
    """A registry of its own."""
    registry = CollectorRegistry()
    registry.register(SiteFigures(home, queue, contact))
    return registry


class SiteFigures(Collector):
    """Read at each scrape."""

    def __init__(self, home: Home, queue: Queue, contact: Contact) -> None:
        self._home = home
        self._queue = queue
        self._contact = contact

    def collect(self) -> Iterator[Metric]:
        """Gauges. What cannot be read is absent, and the rest is there."""
        try:
            yield from self._of_queue()
        except (SQLAlchemyError, SynthwardError):
            yield gauge(*_UP, 0)
        else:
            yield gauge(*_UP, 1)
        try:
            left = days_until(read_identity(self._home).validity.end, datetime.now(UTC))
        except (SynthwardError, PermissionError):
            pass
        else:
            yield gauge("synthward_certificate_days", "Days until the site's certificate ends.", left)
        meaning = "When the coordinator last answered, in Unix time; 0: not since the link started."
        yield gauge("synthward_last_contact_timestamp_seconds", meaning, self._contact.at)
        free = shutil.disk_usage(self._home.exchange).free
        yield gauge("synthward_disk_free_bytes", "Room on the disk of the site's folder.", free)

    def _of_queue(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("synthward_jobs", "Jobs by kind and state.", labels=["kind", "state"])
        for (kind, state), count in Counter((job.kind.value, job.state.value) for job in self._queue.jobs()).items():
            jobs.add_metric([kind, state], count)
        yield jobs
        found = Counter(row.state for row in self._queue.offered(*_OUTBOX))
        bundles = {state: found[state] for state in _OUTBOX}
        yield gauge_by("synthward_outbox_bundles", "Sealed releases by state.", "state", bundles)
        sent: Counter[str] = Counter()
        for kind, size in self._queue.egress().items():
            # The name of a kind of Flower's messages comes from the coordinator: it goes into no label.
            family = kind.partition(":")[0]
            sent[family if family in (*_SENT, "flower") else "other"] += size
        yield gauge_by("synthward_sent_bytes", "Bytes that left, by kind.", "kind", sent)
        standing = {read_standing(self._queue).code or OK: 1}
        yield gauge_by("synthward_standing", "How the site stands: 1 for the code.", "code", standing)
