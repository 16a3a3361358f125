"""A hospital's firewall in miniature: forwards TCP to one address and counts the bytes, which it cannot read.

The demo puts one between each site and each service, so that what left a site is measured outside of the site's own
software: every byte of TLS, not only what the software says that it sent.
"""

from __future__ import annotations

import contextlib
import socket
import threading

_BUFFER_BYTES = 64 * 1024


class Relay:
    """Listens on a free loopback port. sent: bytes from the site to the service; received: the other way."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        self.sent = 0
        self.received = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Ends the listener and every connection."""
        for member in (self._listener, *list(self._open)):
            with contextlib.suppress(OSError):
                member.shutdown(socket.SHUT_RDWR)
            member.close()

    def _accept(self) -> None:
        while True:
            try:
                inside, _ = self._listener.accept()
            except OSError:
                return
            try:
                outside = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                inside.close()  # the service is not there: the site sees a refused connection, and tries again
                continue
            self._open |= {inside, outside}
            for source, sink, leaving in ((inside, outside, True), (outside, inside, False)):
                threading.Thread(target=self._pump, args=(source, sink, leaving), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, leaving: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BUFFER_BYTES):
                with self._lock:
                    if leaving:
                        self.sent += len(data)
                    else:
                        self.received += len(data)
                sink.sendall(data)
        for member in (source, sink):
            with contextlib.suppress(OSError):
                member.shutdown(socket.SHUT_RDWR)
            self._open.discard(member)
            member.close()
