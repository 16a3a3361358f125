"""Figures for a monitoring system (Prometheus): served on loopback, with an allow-list of labels and their values.

A sample whose label is not on the list, or has a value that the list does not know, is dropped: a careless line of code
cannot put a file's name, a patient or a study's words where they are kept for years and shown on walls.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shared.errors import CODES, SynthwardError

HOST = "127.0.0.1"
OK = "ok"  # as a code: no error
_NUMBER = re.compile(r"[+-]?(Inf|\d{1,20}(\.\d{1,20})?(e[+-]?\d{1,3})?)")
_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
# Label -> its values: a list, or the form of a name that the coordinator's operator chose.
LABELS: Mapping[str, frozenset[str] | re.Pattern[str]] = {
    "le": _NUMBER,  # the upper ends of a histogram
    "site": _SLUG,  # at the coordinator alone, which has invited it under that name
    "code": frozenset(CODES) | {OK},
    "method": frozenset({"enrol", "begin", "upload", "finish", "revoke", "checkpoint", "renew"}),
    "state": frozenset(
        {"incoming", "accepted", "quarantined", "revoked", "active", "expired"}
        | {"queued", "running", "done", "refused", "failed", "waiting", "sending", "withdrawn"}
    ),
    "kind": frozenset(
        {"release", "measure", "compare", "distance"}
        | {"enrolment", "renewal", "bundle", "revocation", "checkpoint", "flower", "other"}
    ),
}
_TIMEOUT_S = 10.0


def gauge(name: str, meaning: str, value: float) -> Metric:
    """A figure of one value."""
    return GaugeMetricFamily(name, meaning, value=value)


def gauge_by(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    """A figure of a value for each value of a label."""
    family = GaugeMetricFamily(name, meaning, labels=[label])
    for value, figure in values.items():
        family.add_metric([value], figure)
    return family


def days_until(end: datetime, now: datetime) -> float:
    """Days from now; less than 0 when it is over."""
    return (end - now) / timedelta(days=1)


class AllowedOnly(Collector):
    """What another collector has, without the samples that the list does not allow."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def collect(self) -> Iterator[Metric]:
        """Each family with its allowed samples."""
        for family in self._collector.collect():
            allowed = Metric(family.name, family.documentation, family.type, family.unit)
            allowed.samples = [s for s in family.samples if all(_allows(*label) for label in s.labels.items())]
            yield allowed


def _allows(label: str, value: str) -> bool:
    known = LABELS.get(label)
    if isinstance(known, re.Pattern):
        return known.fullmatch(value) is not None
    return known is not None and value in known


class MetricsPage:
    """Serves http://127.0.0.1:PORT/metrics until it is closed."""

    def __init__(self, registry: CollectorRegistry, port: int) -> None:
        """Raises unavailable.port."""
        try:
            self._server = _Server((HOST, port), _Handler)
        except OSError as error:
            raise SynthwardError(
                "unavailable.port",
                f"port {port} on {HOST} is in use or not ours to use",
                do="stop the program that has it, or set another metrics_port in settings.toml",
            ) from error
        self._server.collector = AllowedOnly(registry)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Frees the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    collector: Collector


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        """The figures; nothing under another path, and nothing under another host's name."""
        # A page from elsewhere, open in a browser of this machine, may call us by a name that it resolves to loopback.
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            self._answer(HTTPStatus.FORBIDDEN, b"")
        elif self.path != "/metrics":
            self._answer(HTTPStatus.NOT_FOUND, b"")
        else:
            self._answer(HTTPStatus.OK, generate_latest(self.server.collector))

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is no news, and a request line is text from outside."""
