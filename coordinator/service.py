"""The coordinator's own process: enrolment and release service, and the loop that announces studies to sites."""

from __future__ import annotations

import signal
import sys
import threading
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import structlog

from coordinator.admission import Admission
from coordinator.capture import Capture
from coordinator.checkpoints import Checkpoints
from coordinator.enrolment import enrol, renew
from coordinator.metrics import coordinator_registry
from coordinator.release_service import EnrolmentService, Identity, ReleaseService, Welcome, start_services
from coordinator.rounds.announce import NO_ANSWER, Delivery, announce
from coordinator.rounds.flower_run import SuperLink, flower_run, online_nodes, register_node, unregister_nodes
from coordinator.settings import Home
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared.errors import SynthwardError
from shared.identity import CertificateAuthority, load_signing_key, public_bytes
from shared.logs import configure
from shared.messages import Answer
from shared.monitoring import MetricsPage
from shared.settings_files import named

_log = structlog.get_logger("coordinator.service")
_PAUSE_S = 1.0
_ROUND_S = 60.0
_ASK_AGAIN_S = 30.0
_CLEAR_EVERY_S = 3600.0


def superlink(home: Home) -> SuperLink:
    """How this coordinator's own rounds reach its SuperLink."""
    return SuperLink(
        port=home.settings().flower_port,
        authority=(home.keys / "ca.crt").read_bytes(),
        secret=(home.keys / "rounds.secret").read_bytes(),
        lock=home.flower / "rounds.lock",
    )


def serve(home: Home) -> None:
    """Runs until SIGTERM or SIGINT. Raises unavailable.port before anything else has started."""
    settings = home.settings()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    store, objects = Store(home.database_url()), ObjectStore(home.objects_url())
    capture = Capture(named(settings.capture))
    authority = CertificateAuthority.load(home.keys / "ca.key", home.keys / "ca.crt")
    key = load_signing_key(home.keys / "signing.key")
    days = settings.site_certificate_days
    interceptors, page = [], None
    if settings.metrics_port:
        registry, calls = coordinator_registry(home, store)
        interceptors, page = [calls], MetricsPage(registry, settings.metrics_port)
    admission = Admission(store, objects, key, home.incoming, home.quarantine, settings.limits())
    welcome = Welcome(public_bytes(key.public_key()), settings.releases_address(), settings.fleet_address())
    servers = start_services(
        EnrolmentService(
            partial(enrol, store, authority, partial(register_node, superlink(home)), days=days), welcome, capture
        ),
        ReleaseService(
            store,
            admission,
            Checkpoints(store, key),
            capture,
            partial(renew, store, authority, days=days),
        ),
        Identity((home.keys / "server.key").read_bytes(), (home.keys / "server.crt").read_bytes(), authority.pem),
        bind=settings.bind,
        ports=(settings.enrolment_port, settings.releases_port),
        interceptors=interceptors,
    )
    announcer, expelled, cleared_s = Announcer(store), set[bytes](), -_CLEAR_EVERY_S
    try:
        while not stop.wait(_PAUSE_S):
            try:
                if time.monotonic() - cleared_s >= _CLEAR_EVERY_S:
                    cleared_s = time.monotonic()  # also when it fails: no other work waits for it
                    admission.clear_closed()
                expel_revoked(home, store, expelled)
                announce_open_studies(home, announcer)
            except (SynthwardError, httpx.HTTPError) as error:
                _log.warning("round-failed", error=type(error).__name__, code=getattr(error, "code", ""))
    finally:
        for server in servers:
            server.stop(grace=2.0).wait()
        if page is not None:
            page.close()


def expel_revoked(home: Home, store: Store, expelled: set[bytes]) -> None:
    """Takes the nodes of revoked sites off the SuperLink. Raises unavailable.service.

    expelled: Flower keys that this process has seen to; at each start all are looked at again, so that a revocation
    while the SuperLink was down, or a SuperLink's older database, does not let a node back in.
    """
    due = {site.flower_key for site in store.sites() if site.state == "revoked"} - expelled
    if due:
        unregister_nodes(superlink(home), due)
        expelled |= due


class Announcer:
    """Knows which site is to be told or asked about which study, and when."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._asked: dict[tuple[str, str], float] = {}

    def due(self, now_s: float) -> list[Delivery]:
        """Open studies for sites that have not answered, and again for those whose work is not done yet.

        now_s: a monotonic clock. A site whose work is queued is asked from time to time, so that a refusal which only
        its trainer could find (too few patients, images too small) is known here too. One that says of a study that is
        open that it has closed has a clock that is wrong, and is asked again as well.
        """
        deliveries = []
        for published in self._store.studies():
            if datetime.now(UTC) >= published.study.closes:
                continue
            answers = self._store.deliveries(published.sha256)
            for site in self._store.sites():
                state, code = answers.get(site.name, ("waiting", ""))
                last = self._asked.get((published.sha256, site.name), -_ASK_AGAIN_S)
                unfinished = state == "queued" or code == "policy.expired"
                again = unfinished and now_s - last >= _ASK_AGAIN_S
                if site.state == "active" and (state == "waiting" or again):
                    deliveries.append(
                        Delivery(site.name, site.node_id, published.sha256, published.payload, published.signature)
                    )
        return deliveries

    def record(self, delivery: Delivery, answer: Answer, now_s: float) -> None:
        """Writes an answer down where it is news. A node that gave none is asked again in the next round."""
        self._asked[delivery.study_sha256, delivery.site] = now_s
        news = (answer.state, answer.code)
        known = self._store.deliveries(delivery.study_sha256).get(delivery.site)
        if answer.code != NO_ANSWER and news != known:
            self._store.answered(delivery.study_sha256, delivery.site, *news)


def announce_open_studies(home: Home, announcer: Announcer) -> None:
    """One round, if any site that is connected is to be told or asked. Raises unavailable.service."""
    deliveries = announcer.due(time.monotonic())
    if not deliveries:
        return
    online = online_nodes(superlink(home))
    deliveries = [delivery for delivery in deliveries if delivery.node_id in online]
    if not deliveries:
        return  # nobody to tell: no run is opened, and sites that come back are seen in a second
    with flower_run(superlink(home)) as (grid, _context):
        announce(grid, deliveries, lambda d, answer: announcer.record(d, answer, time.monotonic()), timeout_s=_ROUND_S)


if __name__ == "__main__":
    configure()
    try:
        serve(Home(Path(sys.argv[1])))
    except SynthwardError as failure:
        _log.error("not-started", code=failure.code)
        sys.stderr.write(f"{failure}\n")
        sys.exit(failure.exit_code)
