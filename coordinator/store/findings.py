"""Comparisons and distances as sites answered them, for each dataset version. One newest answer for each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import select

from coordinator.store import schema
from coordinator.store.store import Store
from shared import journal

FindingKind = Literal["comparison", "distribution"]


@dataclass(frozen=True)
class Finding:
    """What a site answered: a document (shared.findings, canonical JSON), or a code that says why there is none."""

    kind: FindingKind
    site: str
    trained_on: str | None
    order_id: str
    code: str
    document: bytes | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "document": None if self.document is None else json.loads(self.document)}


def add_finding(store: Store, study_sha256: str, version: int, finding: Finding) -> None:
    """Records an answer in place of an earlier one. A failure never replaces a document."""
    key = {
        "study_sha256": study_sha256, "dataset_version": version, "site": finding.site, "kind": finding.kind,
        "trained_on": finding.trained_on or "",
    }  # fmt: skip
    table = schema.findings
    subject = f"{study_sha256}/v{version}/{finding.kind}/{finding.trained_on or ''}"
    with store.engine.begin() as connection:
        known = connection.execute(select(table).filter_by(**key)).first()
        if known is None or known.document is None or finding.document is not None:
            connection.execute(table.delete().filter_by(**key))
            values = {"order_id": finding.order_id, "code": finding.code, "document": finding.document}
            connection.execute(table.insert().values(**key, **values, at=datetime.now(UTC).isoformat()))
        journal.append(
            connection, schema.journal, actor=f"site:{finding.site}", action=finding.kind, subject=subject,
            detail=finding.code,
        )  # fmt: skip


def findings(store: Store, study_sha256: str, version: int) -> list[Finding]:
    """All answers for one dataset version, by site, kind and set of pairs."""
    table = schema.findings
    query = select(table).filter_by(study_sha256=study_sha256, dataset_version=version)
    with store.reading.begin() as connection:
        rows = connection.execute(query.order_by(table.c.site, table.c.kind, table.c.trained_on)).all()
    return [
        Finding(
            row.kind, row.site, row.trained_on or None, row.order_id, row.code,
            None if row.document is None else bytes(row.document),
        )
        for row in rows
    ]  # fmt: skip
