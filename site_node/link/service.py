"""The link's process: the executor that answers Flower, and the sender of what leaves. No private data in reach."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path

from shared.logs import configure
from site_node.jobs import Queue
from site_node.link.channel import release_channel
from site_node.link.client_app import build_client_app
from site_node.link.executor import Executor
from site_node.link.sender import Sender
from site_node.settings import Home


def serve(home: Home) -> None:
    """Runs until SIGTERM or SIGINT."""
    queue = Queue(home.exchange)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    secret = (home.link_keys / "executor.secret").read_bytes()
    executor = Executor(build_client_app(home), queue, port=home.settings().node_port, secret=secret)
    with release_channel(home) as channel:
        sender = Sender(home, queue, channel)
        threads = [threading.Thread(target=part.run, args=(stop,), daemon=True) for part in (executor, sender)]
        for thread in threads:
            thread.start()
        # A part that dies takes the process with it: the supervisor starts both afresh.
        while not stop.wait(1.0):
            if not all(thread.is_alive() for thread in threads):
                sys.exit(1)


if __name__ == "__main__":
    configure()
    serve(Home(Path(sys.argv[1])))
