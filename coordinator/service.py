"""The coordinator's own process: enrolment and release service, and the loop that announces studies to sites."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import httpx
import structlog

from coordinator.admission import Admission
from coordinator.capture import Capture
from coordinator.enrolment import enrol
from coordinator.release_service import EnrolmentService, Identity, ReleaseService, Welcome, start_services
from coordinator.rounds.announce import Delivery, announce
from coordinator.rounds.flower_run import SuperLink, flower_run, online_nodes, register_node
from coordinator.settings import Home
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared.errors import SynthwardError
from shared.identity import CertificateAuthority, load_signing_key, public_bytes
from shared.logs import configure
from shared.messages import Answer

_log = structlog.get_logger("coordinator.service")
_PAUSE_S = 1.0
_ROUND_S = 60.0
FINAL = frozenset({"done", "refused"})


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
    capture = Capture(Path(settings.capture) if settings.capture else None)
    authority = CertificateAuthority.load(home.keys / "ca.key", home.keys / "ca.crt")
    key = load_signing_key(home.keys / "signing.key")
    welcome = Welcome(public_bytes(key.public_key()), settings.releases_address(), settings.fleet_address())
    servers = start_services(
        EnrolmentService(partial(enrol, store, authority, partial(register_node, superlink(home))), welcome, capture),
        ReleaseService(store, Admission(store, objects, key, home.incoming, home.quarantine), capture),
        Identity((home.keys / "server.key").read_bytes(), (home.keys / "server.crt").read_bytes(), authority.pem),
        bind=settings.bind,
        ports=(settings.enrolment_port, settings.releases_port),
    )
    try:
        while not stop.wait(_PAUSE_S):
            try:
                announce_open_studies(home, store)
            except (SynthwardError, httpx.HTTPError) as error:
                _log.warning("round-failed", error=type(error).__name__, code=getattr(error, "code", ""))
    finally:
        for server in servers:
            server.stop(grace=2.0).wait()


def announce_open_studies(home: Home, store: Store) -> None:
    """One round, if any site has yet to take a study that is open."""
    deliveries = [
        Delivery(site.name, site.node_id, published.sha256, published.payload, published.signature)
        for published in store.studies()
        if datetime.now(UTC) < published.study.closes
        for site in store.sites()
        if site.state == "active" and site.name not in store.deliveries(published.sha256)
    ]
    if not deliveries:
        return
    online = online_nodes(superlink(home))
    deliveries = [delivery for delivery in deliveries if delivery.node_id in online]
    if not deliveries:
        return  # nobody to tell: no run is opened, and sites that come back are seen in a second

    def record(delivery: Delivery, answer: Answer) -> None:
        # A node that failed to answer is asked again in the next round; "queued" is the site's word that it is durable.
        if answer.state != "failed":
            store.answered(delivery.study_sha256, delivery.site, answer.state, answer.code)

    with flower_run(superlink(home)) as (grid, _context):
        announce(grid, deliveries, record, timeout_s=_ROUND_S)


if __name__ == "__main__":
    configure()
    try:
        serve(Home(Path(sys.argv[1])))
    except SynthwardError as failure:
        _log.error("not-started", code=failure.code)
        sys.stderr.write(f"{failure}\n")
        sys.exit(failure.exit_code)
