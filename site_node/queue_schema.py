"""The tables of exchange/queue.db: all that a site's two halves share besides folders.

Nothing here names a file, a patient or a pixel.
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table

from shared.journal import journal_table

metadata = MetaData()
studies = Table(
    "studies",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("study_id", String, nullable=False, unique=True),
    Column("payload", LargeBinary, nullable=False),
    Column("at", String, nullable=False),
)
jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("study_sha256", String(64), nullable=False),
    Column("payload", String, nullable=False),
    Column("state", String, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("code", String, nullable=False),
    Column("result", String, nullable=False),
    Column("at", String, nullable=False),
)
outbox = Table(
    "outbox",
    metadata,
    Column("bundle_sha256", String(64), primary_key=True),
    Column("state", String, nullable=False),  # waiting, sending, accepted, refused, withdrawn, revoked
    Column("code", String, nullable=False),
    Column("receipt", LargeBinary),
    Column("signature", LargeBinary),
    Column("at", String, nullable=False),
)
egress = Table(
    "egress",
    metadata,
    Column("kind", String, primary_key=True),
    Column("bytes", Integer, nullable=False),
    Column("messages", Integer, nullable=False),
)
# What the trainer has signed to take back, and the coordinator's receipt once it is there.
revocations = Table(
    "revocations",
    metadata,
    Column("bundle_sha256", String(64), primary_key=True),
    Column("payload", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=False),
    Column("code", String, nullable=False),  # of the last attempt that failed
    Column("receipt", LargeBinary),
    Column("receipt_signature", LargeBinary),
    Column("at", String, nullable=False),
)
# Where journals end: what the coordinator holds of ours, what we hold of its, what the trainer has published.
heads = Table(
    "heads",
    metadata,
    Column("name", String, primary_key=True),
    Column("entries", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("payload", LargeBinary, nullable=False),  # of the coordinator's: as it was signed; empty elsewhere
    Column("signature", LargeBinary, nullable=False),
)
journal = journal_table(metadata)
