"""The coordinator's service as its own process, on a database of either kind, with sites that are enrolled already."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from coordinator.running import initialise
from coordinator.settings import Home, Settings
from coordinator.store.store import PublishedStudy, Site, Store
from shared.bundle import PairEntry, bundle_sha256, sorted_entries
from shared.documents import canonical, sign
from shared.flower_environment import flower_environment
from shared.identity import (
    CertificateAuthority,
    certificate_request,
    load_signing_key,
    new_signing_key,
    new_tls_key,
    peer,
    public_bytes,
)
from shared.pairs import sha256_hex
from shared.study import Study
from tests.helpers import HOST, free_port, manifest_of, small_study, until


@dataclass(frozen=True)
class SiteFiles:
    """What a site needs to send: a folder with its certificate and, where it has a bundle, the signed manifest."""

    name: str
    folder: Path
    objects: Path


@dataclass
class Service:
    """A running service. process: to ask for memory and processor time."""

    home: Home
    study: Study
    address: str
    process: psutil.Process

    def processor_s(self) -> float:
        """Seconds of processor time until now."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def accepted(self) -> int:
        """Bundles that were accepted."""
        store = Store(self.home.database_url())
        try:
            return len(store.bundles(sha256_hex(canonical(self.study)), "accepted"))
        finally:
            store.engine.dispose()


def peak_mb(pid: int) -> float:
    """The most resident memory that a process ever had, as Linux counts it."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1000


@contextmanager
def running_service(folder: Path, size_px: int, database_url: str = "") -> Iterator[Service]:
    """A coordinator's service on loopback, with one open study. database_url: empty for SQLite in its folder."""
    home, study = Home(folder), small_study(image={"size_px": size_px})
    ports = {name: free_port() for name in ("enrolment_port", "releases_port", "fleet_port", "flower_port")}
    initialise(home, Settings.model_validate({"name": "load", "database_url": database_url, **ports}))
    payload = canonical(study)
    signature = sign(load_signing_key(home.keys / "signing.key"), "study", payload)
    Store(home.database_url()).publish(PublishedStudy(sha256_hex(payload), payload, signature), actor="operator")
    log = (home.logs / "service.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "coordinator.service", str(folder)],
        env=flower_environment(home.flower), stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        known = psutil.Process(process.pid)
        until(lambda: any(c.laddr.port == ports["releases_port"] for c in known.net_connections("tcp")))
        yield Service(home, study, f"{HOST}:{ports['releases_port']}", known)
    finally:
        process.terminate()
        process.wait(timeout=60)
        log.close()


def enrolled(service: Service, folder: Path, name: str, entries: Sequence[PairEntry], objects: Path) -> SiteFiles:
    """A site with its certificate, and a signed manifest of these entries if there are any.

    It stands in the store as enrolment would have put it there, and as one that has answered the study, so that the
    service does not look for its Flower node.
    """
    home, (key, seal) = service.home, (new_tls_key(), new_signing_key())
    authority = CertificateAuthority.load(home.keys / "ca.key", home.keys / "ca.crt")
    certificate = authority.site_certificate(certificate_request(key, name), name)
    folder.mkdir(parents=True)
    (folder / "site.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "site.crt").write_bytes(certificate)
    (folder / "ca.crt").write_bytes(authority.pem)
    store, study_sha256 = Store(home.database_url()), sha256_hex(canonical(service.study))
    known = Site(name, "active", f"{peer(certificate)[2]:x}", public_bytes(seal.public_key()), b"", 1)
    _enrol(store, known)
    store.answered(study_sha256, name, "done", "")
    store.engine.dispose()
    if entries:
        _seal(folder, service.study, name, entries, seal)
    return SiteFiles(name, folder, objects)


def _enrol(store: Store, site: Site) -> None:
    store.invite(site.name, sha256_hex(site.name.encode()), timedelta(hours=1), actor="operator")
    store.enrol(sha256_hex(site.name.encode()), site)


def _seal(folder: Path, study: Study, site: str, entries: Sequence[PairEntry], key: Ed25519PrivateKey) -> None:
    manifest = manifest_of(study, site, sorted_entries(entries))
    payload = canonical(manifest)
    (folder / "manifest.json").write_bytes(payload)
    (folder / "manifest.sig").write_bytes(sign(key, "manifest", payload))
    names = {"bundle": bundle_sha256(manifest), "objects": sorted(manifest.objects())}
    (folder / "sent.json").write_text(json.dumps(names), encoding="utf-8")
