"""T11, T12: bytes that are no protocol, at both ports of a running coordinator: nobody is served, and all others are.

What a scanner, a broken proxy or an attacker sends: noise before TLS, noise within its handshake, noise where HTTP/2
should be, frames that are cut, connections that are opened and left. After each, a site that is enrolled is answered.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest

from site_node.certificate import read_identity
from site_node.link.channel import release_channel
from site_node.settings import Home
from tests.helpers import HOST, Coordinator, caller, manifest_of, noise_pair, png_objects, refused, running, small_study

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = struct.pack(">BHBBI", 0, 0, 4, 0, 0)  # an empty SETTINGS frame
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # how a TLS client's first record starts
_PATIENCE_S = 10.0
_MANY = 60
Wrap = Callable[[socket.socket], socket.socket]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Coordinator]:
    with running(Coordinator(tmp_path_factory.mktemp("coordinator") / "c")) as started:
        started.publish(small_study())
        yield started


@pytest.fixture(scope="module")
def site(coordinator: Coordinator, tmp_path_factory: pytest.TempPathFactory) -> Home:
    return coordinator.join(tmp_path_factory.mktemp("north") / "north", "north")


@pytest.fixture(autouse=True)
def _still_serves(
    coordinator: Coordinator, site: Home, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[None]:
    """After each test, both services answer: one with a code to a site, one with a certificate to a new one."""
    before = len(coordinator.store.journal())
    yield
    honest = 2 if "left_keep_nobody_out" in request.node.name else 0
    assert len(coordinator.store.journal()) == before + honest, "nothing of this was taken for a call"
    with caller(site) as north, refused("admission.incomplete"):
        north.finish("0" * 64)
    coordinator.join(tmp_path / "new", f"new-{before}")


def noise(seed: int, size: int = 4096) -> bytes:
    """Bytes of no meaning, the same in every run."""
    return random.Random(seed).randbytes(size)


def sent(address: tuple[str, int], data: bytes, *, wrap: Wrap | None = None) -> None:
    """Connects, sends, and reads until the other side hangs up or has nothing more to say."""
    with socket.create_connection(address, timeout=_PATIENCE_S) as plain:
        connection = plain if wrap is None else wrap(plain)
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65_536):
                pass
        except OSError:
            pass  # it hung up at once: as well


@pytest.mark.parametrize("port", [0, 1], ids=["enrolment", "releases"])
@pytest.mark.parametrize(
    "data",
    [
        noise(1), b"", b"\x00" * 100_000, HELLO + noise(2, 508), HELLO, PREFACE + SETTINGS + noise(3),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x03\xff\xff" + noise(4, 70_000), b"\x80\x04K\x01.",
    ],
    ids=["noise", "nothing", "zeros", "hello and noise", "half a hello", "HTTP/2 without TLS", "HTTP/1.1",
         "a record too long", "pickle"],
)  # fmt: skip
def test_what_is_no_tls_is_hung_up_on(coordinator: Coordinator, port: int, data: bytes) -> None:
    sent((HOST, coordinator.ports[port]), data)


def tls(coordinator: Coordinator, site: Home) -> Wrap:
    """TLS as a site speaks it, with its own certificate."""
    context = ssl.create_default_context(cadata=coordinator.authority.pem.decode())
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    identity = read_identity(site)
    key, certificate = site.path / "key.pem", site.path / "certificate.pem"
    key.write_bytes(identity.key)
    certificate.write_bytes(identity.certificate)
    context.load_cert_chain(certificate, key)
    return lambda plain: context.wrap_socket(plain, server_hostname=HOST)


def frame(kind: int, flags: int, stream: int, body: bytes, *, states: int | None = None) -> bytes:
    """An HTTP/2 frame. states: the length that it claims, where that is not its own."""
    length = len(body) if states is None else states
    return length.to_bytes(3, "big") + struct.pack(">BBI", kind, flags, stream) + body


@pytest.mark.parametrize(
    "data",
    [
        noise(11),
        PREFACE + noise(12),
        PREFACE + SETTINGS + noise(13),
        PREFACE + SETTINGS + frame(1, 4, 1, noise(14, 200)),
        PREFACE + SETTINGS + frame(1, 0, 1, noise(15, 200)) + frame(9, 4, 1, noise(16, 200)) * 100,
        PREFACE + SETTINGS + frame(0, 0, 1, bytes(50)),
        PREFACE + SETTINGS + frame(0, 0, 1, bytes(50), states=2**24 - 1),
        PREFACE + SETTINGS * 2_000,
        PREFACE + SETTINGS + frame(6, 0, 0, bytes(8)) * 2_000,
        PREFACE + SETTINGS + b"".join(frame(3, 0, 2 * n + 1, bytes(4)) for n in range(2_000)),
        PREFACE + SETTINGS + frame(8, 0, 0, b"\xff\xff\xff\xff") + frame(8, 0, 0, bytes(4)),
    ],
    ids=["noise", "preface and noise", "settings and noise", "headers of noise", "headers without end",
         "data without a call", "a frame of 16 MB", "settings", "pings", "resets", "windows"],
)  # fmt: skip
def test_what_is_no_call_behind_a_sites_own_certificate_is_hung_up_on(
    coordinator: Coordinator, site: Home, data: bytes
) -> None:
    sent((HOST, coordinator.ports[1]), data, wrap=tls(coordinator, site))


def test_noise_within_a_call_is_answered_by_an_error_and_nothing_else(coordinator: Coordinator, site: Home) -> None:
    """gRPC's own framing is there, and what it holds is no message of ours."""
    with release_channel(site) as channel:
        for method in ("Begin", "Finish", "Revoke", "Checkpoint", "Renew"):
            call = channel.unary_unary(f"/synthward.v1.Releases/{method}")
            for seed in range(5):
                with pytest.raises(grpc.RpcError) as caught:
                    call(noise(seed, 300), timeout=_PATIENCE_S)
                assert caught.value.code() is not grpc.StatusCode.OK
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/synthward.v1.Releases/Images")(b"", timeout=_PATIENCE_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_connections_that_are_opened_and_left_keep_nobody_out(coordinator: Coordinator, site: Home) -> None:
    """Before TLS, halfway through its handshake, and behind it; all are open while a site sends a whole bundle."""
    with ExitStack() as open_ones:
        for number in range(_MANY):
            plain = socket.create_connection((HOST, coordinator.ports[1]), timeout=_PATIENCE_S)
            open_ones.enter_context(plain)
            if number % 3 == 1:
                plain.sendall(HELLO)
            if number % 3 == 2:
                connection = open_ones.enter_context(tls(coordinator, site)(plain))
                connection.sendall(PREFACE + SETTINGS[:4])
        study = coordinator.store.studies()[0].study
        entries, objects = png_objects([noise_pair(1)])
        with caller(site) as north:
            assert north.send_all(site, manifest_of(study, "north", entries), objects).receipt.payload
