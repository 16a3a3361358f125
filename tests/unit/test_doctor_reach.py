"""How the doctor reaches the coordinator: over real TLS and real sockets, against servers that are right or wrong."""

from __future__ import annotations

import contextlib
import email.utils
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.identity import CertificateAuthority, certificate_request, new_tls_key
from site_node.certificate import Identity, identity_file, key_pem, write_identity
from site_node.proxy import split_address
from site_node.reach import (
    Trust,
    check_accepted,
    clock_of,
    connect,
    resolve,
    tls,
)
from site_node.settings import Home
from tests.helpers import HOST, Coordinator, free_port, refused

Serve = Callable[[socket.socket], None]


@contextmanager
def serving(serve: Serve) -> Iterator[str]:
    """The address of a server that handles one connection after the other."""
    listener = socket.create_server((HOST, 0))

    def loop() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    serve(connection)

    thread = threading.Thread(target=loop, daemon=True)
    thread.start()
    try:
        yield f"{HOST}:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(timeout=5)


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    """The authority that the site has pinned."""
    return CertificateAuthority.create("test")


@pytest.fixture
def trust(authority: CertificateAuthority, tmp_path: Path) -> Trust:
    """The pin, without a certificate of the site's own."""
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    return Trust(tmp_path / "ca.crt", None)


def https(folder: Path, authority: CertificateAuthority, answer: bytes, *, hosts: tuple[str, ...] = (HOST,)) -> Serve:
    """A TLS server of a coordinator that answers every request with these bytes."""
    key = new_tls_key()
    pem = folder / "server.pem"
    pem.write_bytes(key_pem(key) + authority.server_certificate(key, "test", hosts))
    return over_tls(pem, answer)


def over_tls(pem: Path, answer: bytes) -> Serve:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(pem))

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            if secured.recv(4096):
                secured.sendall(answer)

    return serve


def dated(when: datetime) -> bytes:
    return f"HTTP/1.1 404 Not Found\r\ndate: {email.utils.format_datetime(when, usegmt=True)}\r\n\r\n".encode()


def reach(address: str, trust: Trust, proxy: str = "") -> str:
    """The TLS version of a connection that holds."""
    with tls(address, proxy, trust, protocol="http/1.1") as secured:
        secured.sendall(b"x")
        return str(secured.version())


# Whom it believes


def test_a_coordinator_of_the_pinned_authority_is_believed(
    authority: CertificateAuthority, trust: Trust, tmp_path: Path
) -> None:
    with serving(https(tmp_path, authority, b"x")) as address:
        assert reach(address, trust) == "TLSv1.3"


def test_another_authority_or_another_name_is_not(
    authority: CertificateAuthority, trust: Trust, tmp_path: Path
) -> None:
    with serving(https(tmp_path, CertificateAuthority.create("test"), b"x")) as address, refused("trust.certificate"):
        reach(address, trust)
    elsewhere = https(tmp_path, authority, b"x", hosts=("other.example.org",))
    with serving(elsewhere) as address, refused("trust.certificate"):
        reach(address, trust)


def test_a_server_without_tls_or_without_an_answer_is_told_as_away(trust: Trust) -> None:
    with serving(lambda c: c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")) as address, refused("unavailable.service"):
        reach(address, trust)
    with refused("unavailable.service"):
        reach(f"{HOST}:{free_port()}", trust)


# Whether it is believed


def trust_of(home: Home) -> Trust:
    return Trust(home.link_keys / "ca.crt", identity_file(home))


def test_the_release_service_takes_the_sites_certificate_and_refuses_others(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    home = coordinator.join(tmp_path / "north", "north")
    address = f"{HOST}:{coordinator.ports[1]}"
    assert check_accepted(address, "", trust_of(home)) == "TLSv1.3"
    key = new_tls_key()
    request = certificate_request(key, "north")
    for certificate in (
        coordinator.authority.site_certificate(request, "north", days=-1 / 1440),
        CertificateAuthority.create("test").site_certificate(request, "north"),
    ):
        write_identity(home, Identity(key_pem(key), certificate))
        with refused("trust.certificate"):
            check_accepted(address, "", trust_of(home))


# The clock


@pytest.mark.parametrize("off_s", [0, 3600, -3600])
def test_the_coordinators_clock_is_read_within_two_seconds(
    authority: CertificateAuthority, trust: Trust, tmp_path: Path, off_s: int
) -> None:
    theirs = datetime.now(UTC) + timedelta(seconds=off_s)
    with serving(https(tmp_path, authority, dated(theirs))) as address:
        ours, found = clock_of(address, "", trust)
    assert abs((found - ours).total_seconds() - off_s) < 2


@pytest.mark.parametrize("answer", [b"HTTP/1.1 404 Not Found\r\n\r\n", b"x", b"HTTP/1.1 200 OK\r\ndate: soon\r\n\r\n"])
def test_a_server_that_states_no_time_is_told_as_that(
    authority: CertificateAuthority, trust: Trust, tmp_path: Path, answer: bytes
) -> None:
    with serving(https(tmp_path, authority, answer)) as address, refused("unavailable.service"):
        clock_of(address, "", trust)


# Names and proxies


def test_a_name_that_nobody_knows_is_told_as_that() -> None:
    assert "127.0.0.1" in resolve("127.0.0.1")
    with refused("unavailable.service"):
        resolve("no-such-host.invalid")


def forwarding(asked: list[str]) -> Serve:
    """An HTTP proxy that connects one request and forwards until either side ends."""

    def pump(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve(connection: socket.socket) -> None:
        line = connection.recv(4096).decode().partition("\r\n")[0]
        asked.append(line)
        with socket.create_connection(split_address(line.split(" ")[1])) as target:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=pump, args=(target, connection), daemon=True)
            back.start()
            pump(connection, target)
            back.join(timeout=5)

    return serve


def test_a_proxy_is_asked_to_connect_and_tls_goes_through_it(
    authority: CertificateAuthority, trust: Trust, tmp_path: Path
) -> None:
    asked: list[str] = []
    with serving(https(tmp_path, authority, dated(datetime.now(UTC)))) as address, serving(forwarding(asked)) as proxy:
        ours, theirs = clock_of(address, f"http://{proxy}", trust)
    assert asked == [f"CONNECT {address} HTTP/1.1"]
    assert abs((ours - theirs).total_seconds()) < 3


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", b"", b"SSH-2.0\r\n\r\n"])
def test_a_proxy_that_does_not_connect_is_told_as_that(answer: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    with serving(serve) as proxy, refused("unavailable.service"):
        connect("studies.example.org:7442", f"http://{proxy}")
