"""The hospital's HTTP proxy: which one the site's connections take, by settings.toml or by the usual variables.

gRPC reads `grpc_proxy`, `https_proxy`, `http_proxy` and `no_proxy` in small letters; Flower's node (httpx) reads other
names, in both cases. Both are handed one environment, in which they find the same answer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from shared.errors import SynthwardError
from shared.flower_environment import past_proxies

NONE = "none"
_VARIABLES = ("https_proxy", "HTTPS_PROXY", "grpc_proxy", "all_proxy", "ALL_PROXY", "http_proxy")  # the first one holds
_OTHERS = ("HTTP_PROXY", "no_proxy", "NO_PROXY", "no_grpc_proxy")


def outbound(proxy: str, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that goes out: one proxy at most, and the hosts that are reached without it.

    proxy: of settings.toml; empty: what the variables say; "none": straight out, whatever they say. With a proxy in
    settings.toml the variables' exceptions do not count. 127.0.0.1, between a site's own processes, is always one.
    """
    kept = {name: value for name, value in environment.items() if name not in (*_VARIABLES, *_OTHERS)}
    named = proxy or next((environment[name] for name in _VARIABLES if environment.get(name)), NONE)
    if named != NONE:
        kept["https_proxy"] = named if "//" in named else f"http://{named}"
    kept["no_proxy"] = past_proxies({} if proxy else environment)
    return kept


def go_out_by(proxy: str) -> None:
    """Gives this process that environment: before its first channel is opened."""
    environment = outbound(proxy, os.environ)
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)


def proxy_for(address: str, environment: Mapping[str, str]) -> str:
    """The proxy's URL for host:port in such an environment; empty: none. Raises settings.invalid."""
    found = environment.get("https_proxy", "")
    return "" if is_bypassed(address, environment.get("no_proxy", "")) else found


def is_bypassed(address: str, no_proxy: str) -> bool:
    """Whether a list of hosts and domains, as in no_proxy, names the host of host:port. Raises settings.invalid."""
    host = split_address(address)[0].lower()
    names = [name.strip().lstrip(".").lower() for name in no_proxy.split(",")]
    return any(name == "*" or host == name or host.endswith(f".{name}") for name in names if name)


def split_address(address: str) -> tuple[str, int]:
    """(host, port) of host:port. Raises settings.invalid."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise SynthwardError("settings.invalid", f"{address!r} is not host:port", do="correct it in settings.toml")
    return host.strip("[]"), int(port)
