"""The link's process: the executor that answers Flower, and the sender of what leaves. No private data in reach."""

from __future__ import annotations

import signal
import sys
import threading
from functools import partial
from pathlib import Path

import grpc
import structlog

from shared.errors import ExitCode, SynthwardError
from shared.logs import configure
from shared.monitoring import MetricsPage
from site_node.jobs import Queue
from site_node.link.channel import release_channel
from site_node.link.client_app import build_client_app
from site_node.link.executor import Executor
from site_node.link.renewal import Renewal, Turn
from site_node.link.sender import Sender
from site_node.metrics import site_registry
from site_node.metrics_contact import Contact
from site_node.settings import Home

_ENDED_PAUSE_S = 60.0
_STORAGE_PAUSE_S = 5.0
_log = structlog.get_logger("site.link")


def serve(home: Home) -> None:
    """Runs until SIGTERM or SIGINT."""
    queue = Queue(home.exchange)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    secret = (home.link_keys / "executor.secret").read_bytes()
    executor = Executor(build_client_app(home), queue, port=home.settings().node_port, secret=secret)
    contact, page = None, None
    if port := home.settings().metrics_port:
        contact = Contact()
        page = MetricsPage(site_registry(home, queue, contact), port)
    parts = (executor.run, partial(send, home, queue, contact=contact))
    threads = [threading.Thread(target=part, args=(stop,), daemon=True) for part in parts]
    for thread in threads:
        thread.start()
    # A part that dies takes the process with it: the supervisor starts both afresh.
    while not stop.wait(1.0):
        if not all(thread.is_alive() for thread in threads):
            sys.exit(1)
    if page is not None:
        page.close()


def send(home: Home, queue: Queue, stop: threading.Event, contact: Contact | None = None) -> None:
    """Sends what waits until stop is set, on a channel that is opened afresh whenever the certificate was renewed.

    contact: notes when the coordinator has answered.
    """
    renewal = Renewal(home, queue)
    while not stop.is_set():
        try:
            if renewal.turn() is Turn.ENDED:
                _log.error("certificate-expired", code="trust.certificate-expired")
                stop.wait(_ENDED_PAUSE_S)
                continue
            with release_channel(home) as channel:
                watched = channel if contact is None else grpc.intercept_channel(channel, contact)
                sender = Sender(home, queue, watched)
                sender.run(stop, reopen=lambda: renewal.turn() in (Turn.RENEWED, Turn.ENDED))
        except SynthwardError as error:
            if error.exit_code is not ExitCode.STORAGE:
                raise
            # No room, or a database that another program holds: all that waits is on the disk, and is sent after it.
            _log.error("not-sent", code=error.code)
            stop.wait(_STORAGE_PAUSE_S)


if __name__ == "__main__":
    configure()
    serve(Home(Path(sys.argv[1])))
