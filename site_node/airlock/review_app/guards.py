"""What every request must satisfy before anybody looks at it, and what every answer carries.

A page elsewhere that the steward's browser visits must not be able to act here: not by a form (the origin and the
form's token are checked), not in a frame (none is allowed), not by a name that it points at this machine (the host's
name is checked: DNS rebinding).
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from starlette.datastructures import Headers

from shared.errors import SynthwardError
from site_node.settings import Settings

LOOPBACK = ("127.0.0.1", "localhost")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    # Not no-referrer: under that, browsers send "Origin: null" with our own forms. Nothing here leads elsewhere.
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "X-Robots-Tag": "noindex",
}


@dataclass(frozen=True)
class Door:
    """Where the page is served and who is let in. hosts: the names by which a browser may call it.

    user_header: the header in which the hospital's proxy names who it has authenticated; empty: passwords. proxy: the
    only address from which requests may come; empty: any that reaches the bind.
    """

    bind: str
    port: int
    scheme: str
    hosts: frozenset[str]
    user_header: str
    proxy: str

    @property
    def cookie(self) -> str:
        """The session cookie's name. __Host- pins it to this host over TLS; browsers refuse it without."""
        return "__Host-synthward-review" if self.secure else "synthward-review"

    @property
    def secure(self) -> bool:
        """Whether browsers reach it over TLS, which the proxy ends."""
        return self.scheme == "https"


def door(settings: Settings) -> Door:
    """The door that the settings describe. Raises settings.invalid where they would leave it open."""
    bind, port = settings.review_bind, settings.review_port
    if not settings.review_behind_proxy:
        if bind not in LOOPBACK:
            raise SynthwardError(
                "settings.invalid",
                f"review_bind is {bind}, which other machines can reach",
                why="the page shows patients' images, and speaks no TLS of its own",
                do="use 127.0.0.1, or put a reverse proxy with TLS in front and set review_behind_proxy = true",
            )
        hosts = frozenset(f"{name}:{port}" for name in LOOPBACK)
        return Door(bind, port, "http", hosts, user_header="", proxy="")
    if not settings.review_host:
        raise SynthwardError(
            "settings.invalid",
            "review_behind_proxy is set and review_host is not",
            why="a request under any other name is refused, so the page must know its own",
            do="set review_host to the name in the address that stewards open, such as review.hospital.example",
        )
    if settings.review_user_header and not settings.review_proxy:
        raise SynthwardError(
            "settings.invalid",
            "review_user_header is set and review_proxy is not",
            why="anybody who reaches the port could then name themselves a steward in that header",
            do="set review_proxy to the address from which the hospital's proxy calls",
        )
    hosts = frozenset({settings.review_host.lower()})
    return Door(bind, port, "https", hosts, settings.review_user_header, settings.review_proxy)


def check_caller(here: Door, headers: Headers, peer: str) -> None:
    """Raises review.forged unless the request is for this page, and comes through the proxy where there is one."""
    if here.proxy and peer != here.proxy:
        raise _forged(f"it came from {peer}, not from the proxy", "open the address of the hospital's proxy")
    host = headers.getlist("host")
    if len(host) != 1 or host[0].lower() not in here.hosts:
        raise _forged("it asked for another host", f"open {here.scheme}://{min(here.hosts)}/")


def check_form(here: Door, headers: Headers, *, given: str, expected: str) -> None:
    """Raises review.forged unless a form was sent from this page (its origin) and this session (its token)."""
    origins = headers.getlist("origin")
    if len(origins) != 1 or origins[0].lower() not in {f"{here.scheme}://{host}" for host in here.hosts}:
        raise _forged("the form was sent from another page")
    if headers.getlist("sec-fetch-site") not in ([], ["same-origin"]):
        raise _forged("the form was sent from another page")
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise _forged("the form is of another session", "load the page again, then fill it in again")


def proxy_user(here: Door, headers: Headers) -> str:
    """Who the proxy says is there; empty when it says nothing, or says it twice, or nobody asked it to."""
    if not here.user_header:
        return ""
    values = headers.getlist(here.user_header)
    return values[0].strip() if len(values) == 1 else ""


def _forged(what: str, do: str = "open the review page afresh and try again") -> SynthwardError:
    why = "a page elsewhere must not be able to act for a steward"
    return SynthwardError("review.forged", f"this request was refused: {what}", why=why, do=do)
