"""Serving the review page: one process, on loopback or behind the hospital's proxy, until it is stopped."""

from __future__ import annotations

import uvicorn

from shared.logs import configure
from shared.ports import check_free
from site_node.airlock.review_app.app import create_app
from site_node.airlock.review_app.guards import door
from site_node.settings import Home


def serve(home: Home) -> None:
    """Serves until SIGTERM or Ctrl-C. Raises settings.invalid or unavailable.port before it listens."""
    here = door(home.settings())
    configure()
    app = create_app(home)
    check_free(here.bind, here.port)
    uvicorn.run(
        app, host=here.bind, port=here.port, log_level="warning", access_log=False, server_header=False, ws="none",
        # Who calls is the connection's other end, never what a header says.
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )  # fmt: skip


def address(home: Home) -> str:
    """What a steward types into the browser."""
    here = door(home.settings())
    loopback = f"127.0.0.1:{here.port}"
    return f"{here.scheme}://{loopback if loopback in here.hosts else min(here.hosts)}/"
