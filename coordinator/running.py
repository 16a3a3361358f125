"""Setting up and running a coordinator.

superlink   Flower's service: the fleet interface to the network, the rest on loopback
service     enrolment, releases, and the loop that announces studies
"""

from __future__ import annotations

import os
import secrets
import sys

from coordinator.server_certificate import renew_server_certificate, served_hosts
from coordinator.settings import Home, Settings
from coordinator.store.store import Store
from shared.files import write_atomic, write_private
from shared.flower_environment import flower_environment
from shared.identity import CertificateAuthority, new_signing_key, new_tls_key, save_key
from shared.ports import check_free
from shared.supervise import Child, Supervisor


def initialise(home: Home, settings: Settings) -> None:
    """Makes the folder, the certificate authority and the keys. Raises settings.exists."""
    home.create(settings)
    authority = CertificateAuthority.create(settings.name)
    authority.save(home.keys / "ca.key", home.keys / "ca.crt")
    server_key = new_tls_key()
    save_key(home.keys / "server.key", server_key)
    hosts = served_hosts(settings.hosts)
    write_atomic(home.keys / "server.crt", authority.server_certificate(server_key, settings.name, hosts))
    save_key(home.keys / "signing.key", new_signing_key())
    write_private(home.keys / "rounds.secret", secrets.token_bytes(32))
    Store(home.database_url()).record("operator", "init", settings.name)


def coordinator_children(home: Home) -> list[Child]:
    """The coordinator's processes, in the order in which they start."""
    environment = flower_environment(home.flower)
    modules = {"superlink": "coordinator.rounds.superlink", "service": "coordinator.service"}
    return [
        Child(name, [sys.executable, "-m", module, str(home.path)], home.logs / f"{name}.log", environment)
        for name, module in modules.items()
    ]


def run_coordinator(home: Home) -> None:
    """Runs until SIGTERM or Ctrl-C. Raises unavailable.port before anything starts."""
    settings = home.settings()
    for port in (settings.enrolment_port, settings.releases_port, settings.fleet_port):
        check_free(settings.bind, port)
    for port in filter(None, (settings.flower_port, settings.metrics_port)):
        check_free("127.0.0.1", port)
    renew_server_certificate(home)
    Supervisor(coordinator_children(home)).run()


def quiet_flower(home: Home) -> None:
    """Gives this process the environment in which flwr neither calls home nor writes outside our folder.

    flwr reads it when it is imported, so this comes before the first import of a round.
    """
    os.environ.update(flower_environment(home.flower))
