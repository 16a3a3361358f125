"""A hospital whose machines go out by a proxy only: enrolment, sending and Flower's node, as real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.documents import canonical
from shared.pairs import sha256_hex
from shared.study import Study
from shared.supervise import Child
from site_node.doctor import examine
from site_node.policy import write_policy
from site_node.running import Part, site_children
from site_node.settings import Home
from tests.connect_proxy import NAME, ConnectProxy, connect_proxy
from tests.enrolled_site import POLICY, EnrolledSite
from tests.helpers import HOST, Coordinator, free_port, running, small_study, until

VARIABLES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[ConnectProxy]:
    """The hospital's; this machine's own variables say nothing."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with connect_proxy() as opened:
        yield opened


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Coordinator]:
    """A coordinator whose name only the proxy knows."""
    with running(Coordinator(tmp_path / "coordinator", hosts=(HOST, NAME))) as started:
        yield started


def enrol(coordinator: Coordinator, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`synthward-site init`, as an administrator types it."""
    enrolment, releases = coordinator.ports
    invitation = coordinator.invite("north").model_copy(update={"address": f"{NAME}:{enrolment}"})
    return subprocess.run(
        [sys.executable, "-m", "site_node.cli", "init", "--invitation", invitation.text(), "--home", str(folder),
         "--releases-address", f"{NAME}:{releases}", "--fleet-address", f"{NAME}:{free_port()}",
         "--node-port", str(free_port()), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@contextmanager
def process(home: Home, part: Part) -> Iterator[Child]:
    """One of the site's processes, as `run` starts it."""
    (child,) = [child for child in site_children(home) if child.name == part]
    child.start()
    try:
        yield child
    finally:
        child.stop()


def test_a_bundle_reaches_a_coordinator_that_only_the_proxy_can_reach(
    far: Coordinator, proxy: ConnectProxy, tmp_path: Path
) -> None:
    home = Home(tmp_path / "north")
    done = enrol(far, home.path, "--proxy", proxy.url)
    assert done.returncode == 0, done.stderr
    write_policy(home.policy_file, POLICY)
    site, study = EnrolledSite(home, "north"), far.publish(small_study())
    site.approved(study)
    site.trainer()

    with process(home, Part.LINK):
        until(lambda: accepted(far, study))

    enrolment, releases = far.ports
    assert set(proxy.asked) == {f"{NAME}:{enrolment}", f"{NAME}:{releases}"}
    reached = {check.name: check for check in examine(home)}
    assert reached["release service"].state == "ok"
    assert reached["proxy"].text == f"through {proxy.url.rpartition('@')[2]}"


def accepted(coordinator: Coordinator, study: Study) -> bool:
    """Whether a bundle of the study was admitted."""
    return bool(coordinator.store.bundles(sha256_hex(canonical(study)), "accepted"))


def test_flowers_node_takes_the_same_proxy(far: Coordinator, proxy: ConnectProxy, tmp_path: Path) -> None:
    home = Home(tmp_path / "north")
    assert enrol(far, home.path, "--proxy", proxy.url).returncode == 0
    with process(home, Part.NODE):
        until(lambda: home.fleet_address() in proxy.asked)
    assert not [address for address in proxy.asked if HOST in address]


def test_without_the_proxy_nobody_gets_out_and_the_message_says_so(
    far: Coordinator, proxy: ConnectProxy, tmp_path: Path
) -> None:
    done = enrol(far, tmp_path / "north", "--proxy", "none")
    assert done.returncode != 0
    assert "unavailable.service" in done.stderr
    assert proxy.asked == []


def test_a_proxy_that_does_not_know_the_hospital_is_no_way_out(
    far: Coordinator, proxy: ConnectProxy, tmp_path: Path
) -> None:
    done = enrol(far, tmp_path / "north", "--proxy", f"http://{proxy.url.rpartition('@')[2]}")
    assert done.returncode != 0
    assert proxy.asked == []
    assert proxy.unknown > 0
    assert "let" not in done.stderr
