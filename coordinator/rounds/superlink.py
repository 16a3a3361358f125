"""The SuperLink process: Flower's service, with only the fleet interface shown to the network.

One application, two listeners. Sites reach `/v1/fleet/*` and nothing else, TLS, node authentication on. The whole
interface (control and runtime, which can submit code and runs) listens on loopback for the coordinator's own rounds.
Telemetry, update checks and installation of dependencies are off. Internal interfaces of flwr 1.41: pinned, and tested.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from flwr.common.constant import ISOLATION_MODE_PROCESS, TRANSPORT_TYPE_GRPC_RERE
from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app

from coordinator.capture import Capture

FLEET_PREFIX = "/v1/fleet/"
# A reply is a handful of figures; a site has nothing larger to push.
MAX_FLEET_BODY_BYTES = 1024 * 1024

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def serve(
    *,
    state: Path,
    secret: bytes,
    certificate: Path,
    key: Path,
    authority: Path,
    bind: str,
    fleet_port: int,
    flower_port: int,
    capture: Capture,
) -> None:
    """Runs both listeners until a signal. state: SQLite file; secret: what the coordinator's rounds sign tasks with."""
    application = create_app(
        SuperLinkLifespanConfig(
            control_address="",
            health_server_address=None,
            host="127.0.0.1",
            port=flower_port,
            insecure=False,
            certificates=(authority.read_bytes(), certificate.read_bytes(), key.read_bytes()),
            superexec_auth_secret=secret,
            authn_plugin=NoOpControlAuthnPlugin(),
            event_log_plugin=None,
            fleet_event_log_plugin=None,
            enable_event_log=False,
            artifact_provider=None,
            enable_supernode_auth=True,
            fleet_api_type=TRANSPORT_TYPE_GRPC_RERE,
            fleet_api_address=None,
            simulation=False,
            ssl_ca_certfile=str(authority),
            ssl_certfile=str(certificate),
            ssl_keyfile=str(key),
            database=str(state),
            # No application process of Flower's own is ever started here.
            isolation=ISOLATION_MODE_PROCESS,
            runtime_dependency_install=False,
        ),
        SuperLinkLifespan,
    )
    tls: dict[str, Any] = {"ssl_certfile": str(certificate), "ssl_keyfile": str(key), "log_level": "warning"}
    whole = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=flower_port, **tls))
    fleet = uvicorn.Server(
        uvicorn.Config(FleetOnly(application, capture), host=bind, port=fleet_port, lifespan="off", **tls)
    )
    asyncio.run(_serve_both(whole, fleet))


async def _serve_both(whole: uvicorn.Server, fleet: uvicorn.Server) -> None:
    # uvicorn's own handlers serve one server each; a signal must end both.
    tasks = [asyncio.create_task(server.serve()) for server in (whole, fleet)]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for server in (whole, fleet):
        server.should_exit = True
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)


class FleetOnly:
    """Lets `/v1/fleet/*` through, bounded in size and copied to the capture; everything else is not found."""

    def __init__(self, application: Application, capture: Capture) -> None:
        self._application = application
        self._capture = capture

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One ASGI request."""
        if scope["type"] != "http" or not str(scope.get("path", "")).startswith(FLEET_PREFIX):
            await _refuse(send, 404)
            return
        body = b""
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_FLEET_BODY_BYTES:
                await _refuse(send, 413)
                return
        self._capture.keep("flower", _node_name(scope), body)
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._application(scope, replay, send)


async def _refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


def _node_name(scope: Scope) -> str:
    """A file name for a node: the start of its public key's digest."""
    for name, value in scope.get("headers", ()):
        if name == b"flwr-public-key":
            with contextlib.suppress(ValueError):
                return f"node-{hashlib.sha256(base64.b64decode(value)).hexdigest()[:16]}"
    return "node-unknown"


if __name__ == "__main__":
    import sys

    from coordinator.settings import Home
    from shared.settings_files import named

    home = Home(Path(sys.argv[1]))
    settings = home.settings()
    serve(
        state=home.flower / "state.db",
        secret=(home.keys / "rounds.secret").read_bytes(),
        certificate=home.keys / "server.crt",
        key=home.keys / "server.key",
        authority=home.keys / "ca.crt",
        bind=settings.bind,
        fleet_port=settings.fleet_port,
        flower_port=settings.flower_port,
        capture=Capture(named(settings.capture)),
    )
