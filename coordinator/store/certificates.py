"""The certificates of sites, and the sites that lost theirs: which ones hold, from when to when, and who was revoked.

A renewed certificate holds beside the one before it until that one ends, so that a site which is killed in between is
never without. A new enrolment drops all earlier ones; a revoked site has none. Each change carries its journal entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, select

from coordinator.store import schema
from coordinator.store.store import Store
from shared import journal
from shared.errors import SynthwardError
from shared.identity import peer, validity


@dataclass(frozen=True)
class SiteLine:
    """A site in a list for the operator. certificate_ends: of its newest certificate, ISO 8601, empty if unknown."""

    name: str
    state: str
    node_id: int
    certificate_ends: str


def check_holds(store: Store, site: str, serial: int) -> None:
    """Raises trust.revoked for a revoked site, trust.certificate for a certificate that was replaced."""
    known = store.site(site)
    if known.state == "revoked":
        raise SynthwardError("trust.revoked", f"site {site} was revoked")
    if known.certificate_serial == f"{serial:x}":
        return
    table = schema.certificates
    with store.reading.begin() as connection:
        row = connection.execute(
            select(table.c.serial).where(table.c.serial == f"{serial:x}", table.c.site == site)
        ).first()
    if row is None:
        raise SynthwardError("trust.certificate", f"the certificate of {site} was replaced")


def renewed(store: Store, site: str, key_sha256: str) -> bytes | None:
    """The certificate that a key of this site got, in PEM, if it got one."""
    with store.reading.begin() as connection:
        return _of_key(connection, site, key_sha256)


def add_certificate(store: Store, site: str, key_sha256: str, certificate: bytes) -> bytes:
    """Records a renewed certificate; the one that stands for this key, which may be an earlier one.

    Raises trust.revoked when the site was revoked meanwhile.
    """
    _, _, serial = peer(certificate)
    with store.engine.begin() as connection:
        state = connection.execute(select(schema.sites.c.state).where(schema.sites.c.name == site)).scalar_one()
        if state == "revoked":
            raise SynthwardError("trust.revoked", f"site {site} was revoked meanwhile")
        earlier = _of_key(connection, site, key_sha256)
        if earlier is not None:
            return earlier
        # Those that have ended are of no use to anybody.
        now = datetime.now(UTC).isoformat()
        table = schema.certificates
        connection.execute(table.delete().where(table.c.site == site, table.c.ends_at < now))
        connection.execute(
            table.insert().values(
                serial=f"{serial:x}",
                site=site,
                key_sha256=key_sha256,
                pem=certificate,
                issued_at=now,
                ends_at=validity(certificate).end.isoformat(),
            )
        )
        journal.append(
            connection,
            schema.journal,
            actor=f"site:{site}",
            action="renew-certificate",
            subject=site,
            detail=f"{serial:x}",
        )
    return certificate


def revoke_site(store: Store, site: str, because: str, *, actor: str) -> bool:
    """Takes a site's certificates and open invitations away, in one transaction; False when it was revoked before.

    Raises site.unknown. What the site sent before stays: a hospital takes a release back, an operator does not.
    """
    with store.engine.begin() as connection:
        state = connection.execute(select(schema.sites.c.state).where(schema.sites.c.name == site)).scalar()
        if state is None:
            raise SynthwardError("site.unknown", f"no site is called {site}", do="see: synthward-coordinator site list")
        if state == "revoked":
            return False
        connection.execute(schema.sites.update().where(schema.sites.c.name == site).values(state="revoked"))
        connection.execute(schema.certificates.delete().where(schema.certificates.c.site == site))
        open_ones = (schema.invitations.c.site == site) & schema.invitations.c.used_at.is_(None)
        now = datetime.now(UTC).isoformat()
        connection.execute(schema.invitations.update().where(open_ones).values(used_at=now))
        journal.append(connection, schema.journal, actor=actor, action="revoke-site", subject=site, detail=because)
    return True


def site_lines(store: Store) -> list[SiteLine]:
    """All sites by name, with the end of the newest certificate of each."""
    table = schema.certificates
    with store.reading.begin() as connection:
        ends = {row.site: row.ends_at for row in connection.execute(select(table).order_by(table.c.ends_at))}
    return [SiteLine(site.name, site.state, site.node_id, ends.get(site.name, "")) for site in store.sites()]


def _of_key(connection: Connection, site: str, key_sha256: str) -> bytes | None:
    table = schema.certificates
    row = connection.execute(select(table.c.pem).where(table.c.site == site, table.c.key_sha256 == key_sha256)).first()
    return None if row is None else bytes(row.pem)
