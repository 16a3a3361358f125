"""Reaching the coordinator as the doctor tries it: by name, through a proxy, over TLS against the pinned authority.

Nothing is sent that a service acts on: handshakes, and one request for a page that the fleet interface does not have.
"""

from __future__ import annotations

import base64
import email.utils
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from shared.errors import SynthwardError
from shared.identity import peer
from site_node.proxy import split_address

_CONNECT_S = 5.0
_ANSWER_S = 3.0
_MOST_HEADER_BYTES = 16 * 1024
# Flower 1.41 refuses what a node signed more than 5 s in its future or 305 s in its past.
MOST_AHEAD_S = 5.0
MOST_BEHIND_S = 305.0
_FIREWALL = "check name resolution and the firewall: outbound TCP to this address must be allowed"


@dataclass(frozen=True)
class Trust:
    """What a connection is held against. authority: the pinned CA's file; identity: the site's key and certificate."""

    authority: Path
    identity: Path | None


def resolve(host: str) -> list[str]:
    """A host's addresses. Raises unavailable.service."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SynthwardError(
            "unavailable.service",
            f"no address is known for {host}",
            why="this machine's name resolution does not know it",
            do="ask for a DNS entry or write one into /etc/hosts; or name the hospital's gateway in settings.toml",
        ) from error
    return sorted({str(line[4][0]) for line in found})


def connect(address: str, proxy: str) -> socket.socket:
    """A TCP connection, by CONNECT through an HTTP proxy where its URL is given. Raises unavailable.service."""
    target = split_address(address)
    if not proxy:
        return _tcp(address, target)
    parts = urlsplit(proxy)
    opened = _tcp(f"the proxy {parts.hostname}", (parts.hostname or "", parts.port or 3128))
    try:
        opened.sendall(f"CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{_credentials(parts)}\r\n".encode())
        status = _headers(opened).partition("\r\n")[0]
    except OSError as error:
        opened.close()
        raise _away(address, f"the proxy ended the connection ({type(error).__name__})") from error
    if status.split(" ")[1:2] != ["200"]:
        opened.close()
        raise _away(address, f"the proxy answered: {status[:60] or 'nothing'}")
    return opened


def _credentials(proxy: SplitResult) -> str:
    """The header that names us to the proxy (RFC 7617), where its URL has a user; with its line's end."""
    if not proxy.username:
        return ""
    plain = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return f"Proxy-Authorization: Basic {base64.b64encode(plain.encode()).decode()}\r\n"


@contextmanager
def tls(address: str, proxy: str, trust: Trust, *, protocol: str) -> Iterator[ssl.SSLSocket]:
    """A TLS connection to a coordinator that the pinned authority vouches for.

    Raises unavailable.service, or trust.certificate for another authority, name, role or time. protocol: for ALPN.
    """
    context = _context(trust)
    context.set_alpn_protocols([protocol])
    raw = connect(address, proxy)
    try:
        with context.wrap_socket(raw, server_hostname=split_address(address)[0]) as secured:
            certificate = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")
            if peer(certificate.encode())[0] != "coordinator":
                raise SynthwardError("trust.role", f"{address} is no coordinator", do="compare the address")
            yield secured
    except ssl.SSLCertVerificationError as error:
        raise SynthwardError(
            "trust.certificate",
            f"{address} shows a certificate that the pinned authority does not vouch for: {error.verify_message}",
            why="another machine answers, a proxy opens TLS on the way, or this machine's clock is wrong",
            do="except this address from TLS inspection, compare it with the coordinator's, and check the clock",
        ) from error
    except OSError as error:
        raise _away(address, f"TLS fails ({type(error).__name__})") from error
    finally:
        raw.close()


def _context(trust: Trust) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(trust.authority))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if trust.identity is not None:
            context.load_cert_chain(str(trust.identity))
    except OSError as error:  # also ssl.SSLError: a key and a certificate that do not belong together
        raise SynthwardError(
            "trust.certificate",
            f"the site's key, certificate or pinned authority cannot be used ({type(error).__name__})",
            do="run doctor as the link's user; if files are missing or damaged, restore keys/link from the backup",
        ) from error
    return context


def check_accepted(address: str, proxy: str, trust: Trust) -> str:
    """The TLS version, where the release service takes the site's certificate. Raises as tls, or trust.certificate.

    In TLS 1.3 a server refuses a client's certificate only after the handshake: its first bytes say that it did not.
    """
    with tls(address, proxy, trust, protocol="h2") as secured:
        secured.settimeout(_ANSWER_S)
        try:
            accepted = bool(secured.recv(1))
        except ssl.SSLError:
            accepted = False
        except TimeoutError as error:
            raise _away(address, "it answers TLS and then nothing") from error
        if not accepted:
            raise SynthwardError(
                "trust.certificate",
                f"{address} refuses this site's certificate",
                do="see the certificate's line; else ask the coordinator's operator: synthward-coordinator site list",
            )
        return str(secured.version())


def clock_of(address: str, proxy: str, trust: Trust) -> tuple[datetime, datetime]:
    """(our time, the coordinator's) in UTC, of one moment, within about a second. Raises as tls."""
    with tls(address, proxy, trust, protocol="http/1.1") as secured:
        secured.settimeout(_ANSWER_S)
        before = datetime.now(UTC)
        secured.sendall(f"HEAD / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        text = _headers(secured)
        ours = before + (datetime.now(UTC) - before) / 2
    stated = [line.partition(":")[2].strip() for line in text.splitlines() if line.lower().startswith("date:")]
    try:
        theirs = email.utils.parsedate_to_datetime(stated[0])
    except (IndexError, ValueError) as error:
        raise _away(address, "it states no time") from error
    return ours, theirs.astimezone(UTC) + timedelta(seconds=0.5)  # the header leaves fractions out


def _headers(connection: socket.socket) -> str:
    data = b""
    while b"\r\n\r\n" not in data and len(data) < _MOST_HEADER_BYTES:
        more = connection.recv(4096)
        if not more:
            break
        data += more
    return data.decode("latin-1")


def _tcp(name: str, target: tuple[str, int]) -> socket.socket:
    try:
        opened = socket.create_connection(target, timeout=_CONNECT_S)
    except OSError as error:
        raise _away(name, type(error).__name__) from error
    return opened


def _away(address: str, reason: str) -> SynthwardError:
    return SynthwardError("unavailable.service", f"{address} does not answer: {reason}", do=_FIREWALL)
