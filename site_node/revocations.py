"""Revocations on their way out: signed by the trainer, carried by the link, kept with the coordinator's receipt.

Durable like the outbox: what was signed is sent until there is a receipt that verifies, over any number of restarts.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Row, select

from shared import journal
from shared.documents import sign
from site_node import queue_schema as tables
from site_node.jobs import Queue


class Revocations:
    """The revocations in the queue."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def add(self, bundle_sha256: str, payload: bytes, signature: bytes) -> None:
        """Hands a signed revocation to the link, and stops the bundle's sending; adding it again is nothing."""
        outbox = tables.outbox
        with self._queue.engine.begin() as connection:
            if connection.execute(select(tables.revocations).where(_is(bundle_sha256))).first() is not None:
                return
            connection.execute(
                tables.revocations.insert().values(
                    bundle_sha256=bundle_sha256,
                    payload=payload,
                    signature=signature,
                    code="",
                    at=datetime.now(UTC).isoformat(),
                )
            )
            connection.execute(outbox.update().where(outbox.c.bundle_sha256 == bundle_sha256).values(state="revoked"))
            journal.append(
                connection, tables.journal, actor="trainer", action="revocation-signed", subject=bundle_sha256
            )

    def all(self) -> list[Row[Any]]:
        """Every revocation, oldest first. receipt is None until the coordinator's is there."""
        with self._queue.reading.begin() as connection:
            return list(connection.execute(select(tables.revocations).order_by(tables.revocations.c.at)).all())

    def waiting(self) -> list[Row[Any]]:
        """Those without a receipt, oldest first."""
        return [row for row in self.all() if row.receipt is None]

    def failed(self, bundle_sha256: str, code: str) -> None:
        """Keeps why the last attempt failed, for `status`. It is tried again whatever the code."""
        with self._queue.engine.begin() as connection:
            connection.execute(tables.revocations.update().where(_is(bundle_sha256)).values(code=code))

    def sign_again(self, key: Ed25519PrivateKey) -> None:
        """Signs those without a receipt by another key, after the site has enrolled again."""
        with self._queue.engine.begin() as connection:
            query = select(tables.revocations).where(tables.revocations.c.receipt.is_(None))
            for row in connection.execute(query).all():
                signature = sign(key, "revocation", bytes(row.payload))
                connection.execute(
                    tables.revocations.update().where(_is(row.bundle_sha256)).values(signature=signature)
                )

    def settle(self, bundle_sha256: str, receipt: bytes, signature: bytes) -> None:
        """Keeps the coordinator's receipt, which the caller has verified."""
        values = {"code": "", "receipt": receipt, "receipt_signature": signature}
        with self._queue.engine.begin() as connection:
            connection.execute(tables.revocations.update().where(_is(bundle_sha256)).values(**values))
            journal.append(
                connection, tables.journal, actor="coordinator", action="revocation-confirmed", subject=bundle_sha256
            )


def _is(bundle_sha256: str) -> Any:
    return tables.revocations.c.bundle_sha256 == bundle_sha256
