"""Ports that can be had, asked for before the processes that need them start."""

from __future__ import annotations

import socket

from shared.errors import SynthwardError


def check_free(host: str, port: int) -> None:
    """Raises unavailable.port when nothing can listen on host:port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SynthwardError(
                "unavailable.port",
                f"port {port} on {host} is in use or not ours to use",
                do="stop the program that has it, or set another port in settings.toml",
            ) from error


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now, all different."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
