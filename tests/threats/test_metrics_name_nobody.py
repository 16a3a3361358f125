"""What monitoring is told on either side names no patient, file, case, study or release, and counts what happened."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy.exc import OperationalError

import coordinator.service
import site_node.link.service
from coordinator.metrics import StoredFigures, coordinator_registry
from coordinator.metrics_calls import CallMetrics
from coordinator.release_service import start_services
from coordinator.running import initialise
from coordinator.settings import Home as CoordinatorHome
from coordinator.settings import Settings as CoordinatorSettings
from coordinator.store.certificates import revoke_site
from shared.errors import SynthwardError
from shared.files import write_atomic
from shared.monitoring import LABELS, AllowedOnly
from shared.settings_files import to_toml
from site_node.jobs import JobKind, JobState, Queue
from site_node.link.channel import release_channel
from site_node.link.outbox import Outbox
from site_node.metrics import site_registry
from site_node.metrics_contact import Contact
from site_node.settings import Home, Settings
from tests.helpers import (
    HOST,
    Coordinator,
    caller,
    free_port,
    make_sealed,
    manifest_of,
    noise_pair,
    png_objects,
    refused,
    running,
    small_study,
    until,
)

pytestmark = pytest.mark.usefixtures("impatient")
CANARY = "zxqcanary"


def text_of(registry: CollectorRegistry) -> str:
    """The page of a registry."""
    return generate_latest(AllowedOnly(registry)).decode()


def figures(text: str) -> dict[str, float]:
    """Sample -> value of a page."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def labels_of(text: str) -> set[str]:
    return set(re.findall(r'[{,](\w+)="', text))


def with_metrics(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Coordinator, CollectorRegistry]:
    """A coordinator whose calls are counted, as its service starts it."""
    home = CoordinatorHome(folder / "home")
    initialise(home, CoordinatorSettings(name="load"))
    coordinator = Coordinator(folder / "coordinator")
    registry, calls = coordinator_registry(home, coordinator.store)
    monkeypatch.setattr("tests.helpers.start_services", partial(start_services, interceptors=[calls]))
    return coordinator, registry


def sealed(coordinator: Coordinator, home: Home) -> str:
    """A release whose study, name and job hold canaries; its digest."""
    study = coordinator.publish(small_study(study_id=f"{CANARY}-study", title=f"{CANARY} of Smith"))
    entries, objects = png_objects([noise_pair(1)])
    queue = Queue(home.exchange)
    queue.add_order(f"measure-{CANARY}", JobKind.MEASURE, "0" * 64, {"study": CANARY})
    queue.end(f"measure-{CANARY}", JobState.FAILED, code="internal")
    queue.count_egress(f"flower:{CANARY}", 10)
    queue.record("link", "x", CANARY, CANARY)
    return make_sealed(home, manifest_of(study, "north", entries, release_id=f"{CANARY}-release"), objects)


def test_both_sides_count_an_upload_and_name_nothing_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator, registry = with_metrics(tmp_path, monkeypatch)
    contact = Contact()
    with running(coordinator):
        home = coordinator.join(tmp_path / CANARY, "north")
        sha256 = sealed(coordinator, home)
        own = site_registry(home, Queue(home.exchange), contact)
        before = figures(text_of(own))
        assert before['synthward_outbox_bundles{state="waiting"}'] == 1
        assert before["synthward_last_contact_timestamp_seconds"] == 0
        with release_channel(home) as channel:
            watched = grpc.intercept_channel(channel, contact)
            assert Outbox(home, Queue(home.exchange), watched).send(sha256)
        with caller(home) as site, refused("admission.incomplete"):
            site.finish("1" * 64)
        until(lambda: 'code="admission.incomplete"' in text_of(registry))
    site_text, coordinator_text = text_of(own), text_of(registry)
    for text in (site_text, coordinator_text):
        assert CANARY not in text
        assert sha256 not in text
        assert labels_of(text) <= LABELS.keys()
    here, there = figures(site_text), figures(coordinator_text)
    assert here['synthward_outbox_bundles{state="accepted"}'] == 1
    assert here['synthward_jobs{kind="measure",state="failed"}'] == 1
    assert here['synthward_sent_bytes{kind="flower"}'] == 10
    assert here['synthward_standing{code="ok"}'] == 1
    assert 20 < here["synthward_certificate_days"] <= 30
    assert here["synthward_last_contact_timestamp_seconds"] > 1.7e9
    assert there['synthward_bundles{state="accepted"}'] == there['synthward_sites{state="active"}'] == 1
    for method in ("enrol", "begin", "upload", "finish"):
        assert there[f'synthward_calls_total{{code="ok",method="{method}"}}'] == 1
        assert there[f'synthward_calls_open{{method="{method}"}}'] == 0
        assert there[f'synthward_call_seconds_count{{method="{method}"}}'] >= 1
    assert there['synthward_calls_total{code="admission.incomplete",method="finish"}'] == 1
    assert there['synthward_received_bytes_total{method="upload"}'] > 1000
    assert 20 < there['synthward_site_certificate_days{site="north"}'] <= 30
    assert there['synthward_site_bytes{site="north"}'] > 1000
    assert there["synthward_store_up"] == 1


def test_a_method_that_there_is_none_of_is_counted_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinator, registry = with_metrics(tmp_path, monkeypatch)
    with running(coordinator):
        home = coordinator.join(tmp_path / "north", "north")
        with release_channel(home) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/synthward.Releases/{CANARY}")(b"", timeout=20)
        until(lambda: "enrol" in text_of(registry))
    assert CANARY not in generate_latest(registry).decode()


@pytest.mark.parametrize(
    "error", [SynthwardError("storage.busy", "held"), OperationalError("SELECT 1", {}, RuntimeError("gone"))]
)
def test_a_database_that_is_held_or_gone_is_told_and_the_rest_is_there(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    site, home = coordinator.join(tmp_path / "north", "north"), CoordinatorHome(tmp_path / "home")
    initialise(home, CoordinatorSettings(name="load"))
    monkeypatch.setattr(Queue, "jobs", fails)
    monkeypatch.setattr("coordinator.metrics.bundles_by_state", fails)
    here = figures(text_of(site_registry(site, Queue(site.exchange), Contact())))
    there = figures(text_of(coordinator_registry(home, coordinator.store)[0]))
    assert (here["synthward_queue_up"], there["synthward_store_up"]) == (0, 0)
    assert here["synthward_certificate_days"] > 20
    assert there["synthward_server_certificate_days"] > 20


def test_a_site_is_counted_by_how_it_stands(tmp_path: Path) -> None:
    home = CoordinatorHome(tmp_path / "home")
    initialise(home, CoordinatorSettings(name="load"))
    with running(Coordinator(tmp_path / "coordinator", certificate_days=1e-9)) as coordinator:
        for name in ("north", "south"):
            coordinator.join(tmp_path / name, name)
    revoke_site(coordinator.store, "south", "it left", actor="operator")
    registry = CollectorRegistry()
    registry.register(StoredFigures(home, coordinator.store))
    found = figures(text_of(registry))
    assert found['synthward_sites{state="expired"}'] == found['synthward_sites{state="revoked"}'] == 1
    assert found['synthward_site_certificate_days{site="north"}'] <= 0


def test_a_database_that_is_away_is_told_and_the_rest_is_there(tmp_path: Path) -> None:
    home = CoordinatorHome(tmp_path / "home")
    initialise(home, CoordinatorSettings(name="load"))
    coordinator = Coordinator(tmp_path / "coordinator")
    coordinator.store.engine.dispose()
    (coordinator.folder / "store.db").write_bytes(b"no database at all" * 1000)
    registry = CollectorRegistry()
    registry.register(StoredFigures(home, coordinator.store))
    CallMetrics(registry)
    found = figures(text_of(registry))
    assert found["synthward_store_up"] == 0
    assert found["synthward_disk_free_bytes"] > 0
    assert found["synthward_server_certificate_days"] > 300


def test_neither_side_serves_them_unless_a_port_is_set() -> None:
    assert Settings().metrics_port == CoordinatorSettings(name="load").metrics_port == 0


def test_the_service_serves_them_where_a_port_is_set(tmp_path: Path) -> None:
    home, ports = CoordinatorHome(tmp_path / "home"), [free_port() for _ in range(5)]
    names = ("enrolment_port", "releases_port", "fleet_port", "flower_port", "metrics_port")
    settings = CoordinatorSettings.model_validate({"name": "load", **dict(zip(names, ports, strict=True))})
    initialise(home, settings)
    page = while_it_serves(partial(coordinator.service.serve, home), partial(page_with, ports[4], "synthward_store_up"))
    assert figures(page)["synthward_store_up"] == 1


def test_the_link_serves_them_where_a_port_is_set(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    running_one: Coordinator = request.getfixturevalue("coordinator")
    home, port = running_one.join(tmp_path / "north", "north"), free_port()
    settings = Settings(node_port=free_port(), metrics_port=port).model_dump(mode="json")
    write_atomic(home.settings_file, to_toml(settings).encode())
    page = while_it_serves(
        partial(site_node.link.service.serve, home), partial(page_with, port, "last_contact_timestamp_seconds 1.")
    )
    assert figures(page)['synthward_standing{code="ok"}'] == 1


def page_with(port: int, wanted: str) -> str:
    """The page, once it says that."""
    pages: list[str] = []

    def says_it() -> bool:
        try:
            pages.append(httpx.get(f"http://{HOST}:{port}/metrics").text)
        except httpx.HTTPError:
            return False
        return wanted in pages[-1]

    until(says_it)
    return pages[-1]


def while_it_serves(serve: Callable[[], None], ask: Callable[[], str]) -> str:
    """What is answered while a service runs in this process; it is ended as a service manager ends it."""
    before = [(number, signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)]

    def ask_and_end() -> str:
        try:
            return ask()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(ask_and_end)
            serve()
            return answer.result()
    finally:
        for number, handler in before:
            signal.signal(number, handler)
