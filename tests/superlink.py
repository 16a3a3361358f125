"""A coordinator's SuperLink as a real process, for tests."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.rounds.flower_run import online_nodes, register_node
from coordinator.running import initialise
from coordinator.service import superlink
from coordinator.settings import Home, Settings
from shared.errors import SynthwardError
from shared.flower_environment import flower_environment
from shared.identity import (
    CertificateAuthority,
    certificate_request,
    flower_public_bytes,
    load_signing_key,
    new_flower_key,
    new_tls_key,
    save_key,
)
from shared.ports import free_ports
from site_node.certificate import Identity, key_pem, write_identity
from site_node.settings import Home as SiteHome
from site_node.settings import Settings as SiteSettings
from tests.sites import make_site


@contextmanager
def running_superlink(folder: Path) -> Iterator[Home]:
    """A coordinator's folder whose SuperLink answers."""
    home = Home(folder)
    enrolment, releases, fleet, flower = free_ports(4)
    initialise(
        home,
        Settings(name="trial", enrolment_port=enrolment, releases_port=releases, fleet_port=fleet, flower_port=flower),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "coordinator.rounds.superlink", str(home.path)],
        env=flower_environment(home.flower), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not _answers(home):
            assert process.poll() is None, "the SuperLink ended"
            assert time.monotonic() < deadline, "the SuperLink did not start"
            time.sleep(0.1)
        yield home
    finally:
        process.terminate()
        process.wait(timeout=20)


def connected_site(folder: Path, coordinator: Home) -> tuple[SiteHome, int]:
    """(a site with all the keys that its link needs, the id of its node, which the SuperLink knows)."""
    authority = CertificateAuthority.load(coordinator.keys / "ca.key", coordinator.keys / "ca.crt")
    home = make_site(folder, load_signing_key(coordinator.keys / "signing.key"))
    tls_key, flower_key = new_tls_key(), new_flower_key()
    save_key(home.link_keys / "flower.key", flower_key, openssh=True)
    certificate = authority.site_certificate(certificate_request(tls_key, "north"), "north")
    write_identity(home, Identity(key_pem(tls_key), certificate))
    (home.link_keys / "ca.crt").write_bytes(authority.pem)
    (home.link_keys / "executor.secret").write_bytes(b"s" * 32)
    (home.link_keys / "flower.pub").write_bytes(flower_public_bytes(flower_key))
    fleet = f"127.0.0.1:{coordinator.settings().fleet_port}"
    settings = SiteSettings(node_port=free_ports(1)[0], fleet_address=fleet)
    home.settings_file.write_text(
        f'node_port = {settings.node_port}\nfleet_address = "{settings.fleet_address}"\n', encoding="utf-8"
    )
    return home, register_node(superlink(coordinator), "north", flower_public_bytes(flower_key))


def _answers(home: Home) -> bool:
    try:
        online_nodes(superlink(home))
    except SynthwardError:
        return False
    return True
