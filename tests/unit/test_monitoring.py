"""The page for Prometheus: on loopback alone, under one path, and with labels from the list alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest

from shared.monitoring import LABELS, AllowedOnly, MetricsPage
from tests.helpers import HOST, free_port, refused


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def port(registry: CollectorRegistry) -> Iterator[int]:
    """The port of a page with that registry."""
    port = free_port()
    page = MetricsPage(registry, port)
    yield port
    page.close()


def test_the_figures_are_there_under_one_path(registry: CollectorRegistry, port: int) -> None:
    Gauge("synthward_things", "Things.", ["state"], registry=registry).labels("accepted").set(3)
    answer = httpx.get(f"http://{HOST}:{port}/metrics")
    assert answer.status_code == 200
    assert 'synthward_things{state="accepted"} 3.0' in answer.text
    for path in ("/", "/metrics/", "/metrics?name[]=x", "/favicon.ico"):
        assert httpx.get(f"http://{HOST}:{port}{path}").status_code == 404
    assert httpx.post(f"http://{HOST}:{port}/metrics").status_code == 501


def test_another_hosts_name_gets_nothing(port: int) -> None:
    for name in ("hospital.example", f"hospital.example:{port}", "127.0.0.1.example:80", ""):
        answer = httpx.get(f"http://{HOST}:{port}/metrics", headers={"Host": name})
        assert (answer.status_code, answer.content) == (403, b"")
    assert httpx.get(f"http://localhost:{port}/metrics", headers={"Host": f"localhost:{port}"}).status_code == 200


def test_it_listens_on_loopback_alone(port: int) -> None:
    listening = {c.laddr.ip for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port}
    assert listening == {HOST}
    others = {a.address for found in psutil.net_if_addrs().values() for a in found if a.family == socket.AF_INET}
    for address in others - {HOST}:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, port), timeout=2)


def test_a_port_that_is_taken_is_told(registry: CollectorRegistry, port: int) -> None:
    with refused("unavailable.port"):
        MetricsPage(registry, port)


def shown(name: str, value: str) -> str:
    """What the page says of a gauge with this label."""
    registry = CollectorRegistry()
    Gauge("synthward_things", "Things.", [name], registry=registry).labels(value).set(3)
    return generate_latest(AllowedOnly(registry)).decode()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(label=st.sampled_from(sorted(LABELS.keys() - {"le", "site"})), value=st.text(min_size=1, max_size=30))
def test_a_value_that_is_not_on_the_list_is_dropped(label: str, value: str) -> None:
    known = LABELS[label]
    assert isinstance(known, frozenset)
    assert ("} 3.0" in shown(label, value)) == (value in known)


@pytest.mark.parametrize("label", ["patient", "study", "file", "release", "case", "title"])
def test_a_label_that_is_not_on_the_list_is_dropped(label: str) -> None:
    assert "3.0" not in shown(label, "accepted")


@pytest.mark.parametrize("value", ["Smith, John", "case_0007.png", "../etc", "North", "n" * 41, "a b", "", "1.2.3/4"])
def test_what_cannot_be_a_sites_name_is_dropped(value: str) -> None:
    assert "} 3.0" not in shown("site", value)
    assert 'site="north-2"} 3.0' in shown("site", "north-2")


def test_a_histogram_keeps_all_its_ends(registry: CollectorRegistry) -> None:
    ends = (0.005, 1.0, 1e-7, 1800.0)
    seconds = Histogram("synthward_call_seconds", "x", ["method"], buckets=sorted(ends), registry=registry)
    seconds.labels("begin").observe(0.1)
    assert generate_latest(AllowedOnly(registry)).decode().count("synthward_call_seconds_bucket") == len(ends) + 1
