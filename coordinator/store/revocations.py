"""What sites have taken back: each revocation with its receipt, in one transaction with the bundle's state."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, select

from coordinator.store import schema
from coordinator.store.store import Store
from shared import journal
from shared.documents import parse
from shared.revocation import Revocation


def revocation(store: Store, site: str, bundle_sha256: str) -> Row[Any] | None:
    """A site's revocation of a bundle, if there is one."""
    table = schema.revocations
    query = select(table).where(table.c.site == site, table.c.bundle_sha256 == bundle_sha256)
    with store.reading.begin() as connection:
        return connection.execute(query).first()


def revocations(store: Store) -> list[Revocation]:
    """The revocations of all bundles that had been accepted, by bundle: of no others can anybody hold a copy."""
    table, bundles = schema.revocations, schema.bundles
    mine = (bundles.c.sha256 == table.c.bundle_sha256) & (bundles.c.site == table.c.site)
    query = select(table.c.payload).join(bundles, mine).where(bundles.c.receipt.is_not(None))
    with store.reading.begin() as connection:
        rows = connection.execute(query.order_by(table.c.bundle_sha256)).all()
    return [parse(Revocation, bytes(row.payload)) for row in rows]


def add_revocation(
    store: Store, revoked: Revocation, payload: bytes, signature: bytes, receipt: tuple[bytes, bytes]
) -> tuple[bytes, bytes]:
    """Records a revocation and marks the bundle, once; the receipt that stands, which may be an earlier one.

    receipt: (canonical JSON, signature). A bundle that was never begun is refused from now on, if ever it comes.
    """
    table, bundles = schema.revocations, schema.bundles
    mine = (table.c.site == revoked.site) & (table.c.bundle_sha256 == revoked.bundle_sha256)
    with store.engine.begin() as connection:
        known = connection.execute(select(table).where(mine)).first()
        if known is not None:
            return bytes(known.receipt), bytes(known.receipt_signature)
        connection.execute(
            table.insert().values(
                bundle_sha256=revoked.bundle_sha256,
                site=revoked.site,
                payload=payload,
                signature=signature,
                receipt=receipt[0],
                receipt_signature=receipt[1],
                at=datetime.now(UTC).isoformat(),
            )
        )
        connection.execute(
            bundles.update()
            .where(bundles.c.sha256 == revoked.bundle_sha256, bundles.c.site == revoked.site)
            .values(state="revoked")
        )
        journal.append(
            connection, schema.journal, actor=f"site:{revoked.site}", action="revoke-bundle",
            subject=revoked.bundle_sha256,
        )  # fmt: skip
    return receipt
