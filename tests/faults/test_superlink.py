"""The SuperLink as the network sees it: the fleet interface, and nothing that could submit code."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from coordinator.rounds.flower_run import flower_run, online_nodes, register_node
from coordinator.rounds.superlink import MAX_FLEET_BODY_BYTES
from coordinator.running import initialise
from coordinator.service import superlink
from coordinator.settings import Home, Settings
from shared.errors import SynthwardError
from shared.identity import flower_public_bytes, new_flower_key
from shared.ports import free_ports
from tests.superlink import running_superlink


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A coordinator whose SuperLink runs."""
    with running_superlink(tmp_path_factory.mktemp("coordinator") / "home") as home:
        yield home


def client(home: Home) -> httpx.Client:
    return httpx.Client(verify=ssl.create_default_context(cafile=str(home.keys / "ca.crt")), timeout=20)


@pytest.mark.parametrize(
    "path", ["/v1/control/start-run", "/v1/control/register-node", "/v1/runtime/acquire-task", "/docs", "/health", "/"]
)
def test_the_network_cannot_reach_what_submits_code(home: Home, path: str) -> None:
    with client(home) as http:
        outside = http.post(f"https://127.0.0.1:{home.settings().fleet_port}{path}", content=b"x")
        inside = http.post(f"https://127.0.0.1:{home.settings().flower_port}{path}", content=b"x")
    assert outside.status_code == 404
    assert outside.content == b""
    if path.startswith("/v1"):
        assert inside.status_code != 404, "the path exists, so the refusal above means something"


def test_a_node_that_nobody_registered_is_refused(home: Home) -> None:
    with client(home) as http:
        answer = http.post(
            f"https://127.0.0.1:{home.settings().fleet_port}/v1/fleet/pull-messages",
            content=b"",
            headers={"content-type": "application/x-protobuf"},
        )
    assert 400 <= answer.status_code < 500


def test_a_reply_larger_than_any_answer_is_refused(home: Home) -> None:
    with client(home) as http:
        answer = http.post(
            f"https://127.0.0.1:{home.settings().fleet_port}/v1/fleet/push-messages",
            content=b"x" * (MAX_FLEET_BODY_BYTES + 1),
        )
    assert answer.status_code == 413


def test_plaintext_gets_nothing(home: Home) -> None:
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{home.settings().fleet_port}/v1/fleet/pull-messages", timeout=5)


def test_the_whole_interface_listens_on_loopback_only(home: Home) -> None:
    listening = {c.laddr for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    assert {a.ip for a in listening if a.port == home.settings().flower_port} == {"127.0.0.1"}


def test_registering_a_key_twice_gives_one_node(home: Home) -> None:
    key = flower_public_bytes(new_flower_key())
    assert register_node(superlink(home), "north", key) == register_node(superlink(home), "north", key)


def test_a_round_that_was_killed_does_not_stop_the_next(home: Home) -> None:
    class Killed(Exception):
        """Stands for whatever ends a round early."""

    with pytest.raises(Killed), flower_run(superlink(home)):
        raise Killed
    with flower_run(superlink(home)) as (grid, _context):
        assert list(grid.get_node_ids()) == []


def test_no_superlink_is_told_as_that(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    initialise(home, Settings(name="trial", flower_port=free_ports(1)[0]))
    with pytest.raises(SynthwardError) as caught:
        online_nodes(superlink(home))
    assert caught.value.code == "unavailable.service"
    assert "synthward-coordinator run" in caught.value.do
