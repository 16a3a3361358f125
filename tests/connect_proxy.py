"""A hospital's HTTP proxy, for tests: it alone knows the coordinator's name, and asks who is there."""

from __future__ import annotations

import base64
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

NAME = "studies.invalid"  # RFC 6761: no resolver knows it, so that whatever goes straight out fails
USER = "north:let me out"
URL_USER = "north:let%20me%20out"
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_WHO = b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"


@dataclass
class ConnectProxy:
    """url: with the user; asked: each host:port to which it was asked to connect, by somebody whom it knows."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    unknown: int = 0


@contextmanager
def connect_proxy() -> Iterator[ConnectProxy]:
    """A proxy on loopback that connects NAME's ports to this machine's."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = ConnectProxy(f"http://{URL_USER}@127.0.0.1:{listener.getsockname()[1]}")

    def loop() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=_serve, args=(proxy, connection), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    try:
        yield proxy
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _serve(proxy: ConnectProxy, connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            if not (more := connection.recv(4096)):
                return
            head += more
        line, *headers = head.decode().split("\r\n")
        address = line.split(" ")[1]
        if not any(header.lower() == f"proxy-authorization: basic {_basic()}".lower() for header in headers):
            proxy.unknown += 1
            connection.sendall(_WHO)
            return
        proxy.asked.append(address)
        host, _, port = address.rpartition(":")
        assert host == NAME
        with socket.create_connection(("127.0.0.1", int(port))) as target:
            connection.sendall(_ESTABLISHED)
            back = threading.Thread(target=_pump, args=(target, connection), daemon=True)
            back.start()
            _pump(connection, target)
            back.join(timeout=5)


def _basic() -> str:
    return base64.b64encode(USER.encode()).decode()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
