"""The coordinator's own server certificate: made again at a start when it is a month old or names other hosts.

It lasts 397 days, so a coordinator that starts at least once a year never shows one that has ended. Sites pin the
authority, not this certificate: a new one changes nothing for them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509

from coordinator.settings import Home
from coordinator.store.store import Store
from shared.files import write_atomic
from shared.identity import CertificateAuthority, host_names, load_tls_key, validity

_RENEWED_AFTER = timedelta(days=30)


def served_hosts(hosts: tuple[str, ...]) -> list[str]:
    """The names and addresses in the server certificate: the settings' and loopback, each once."""
    return list(dict.fromkeys((*hosts, "127.0.0.1", "localhost")))


def renew_server_certificate(home: Home, *, now: datetime | None = None) -> bool:
    """Writes a new server certificate if the present one is due; whether it did. Before the services start.

    now: a time in UTC, for tests. Raises settings.missing where the folder has no keys.
    """
    settings, path = home.settings(), home.keys / "server.crt"
    hosts = served_hosts(settings.hosts)
    key = load_tls_key(home.keys / "server.key")
    if path.exists() and not _is_due(path.read_bytes(), hosts, now or datetime.now(UTC)):
        return False
    authority = CertificateAuthority.load(home.keys / "ca.key", home.keys / "ca.crt")
    write_atomic(path, authority.server_certificate(key, settings.name, hosts))
    Store(home.database_url()).record("coordinator", "renew-server-certificate", settings.name)
    return True


def _is_due(certificate_pem: bytes, hosts: list[str], now: datetime) -> bool:
    old = now - validity(certificate_pem).start >= _RENEWED_AFTER
    names = x509.load_pem_x509_certificate(certificate_pem).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return old or not set(host_names(hosts)) <= set(names.value)
