"""The tables of stewards' accounts and sessions, in the site's private database.

No password stands here, only its argon2id hash; no session's token, only its SHA-256: who reads the database can act
as nobody.
"""

from __future__ import annotations

from sqlalchemy import Column, Float, ForeignKey, Integer, MetaData, String, Table

metadata = MetaData()
accounts = Table(
    "steward_accounts",
    metadata,
    Column("name", String, primary_key=True),
    Column("password", String, nullable=False),  # argon2id in PHC form, with its own salt and cost
    Column("at", String, nullable=False),
)
# Attempts that were wrong, or are still being looked at. Times are seconds since 1970, to be compared.
attempts = Table(
    "steward_attempts",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("name", String, nullable=False, index=True),
    Column("at_s", Float, nullable=False),
)
sessions = Table(
    "steward_sessions",
    metadata,
    Column("token_sha256", String(64), primary_key=True),
    Column("name", String, nullable=False),
    Column("begun_s", Float, nullable=False),
    Column("seen_s", Float, nullable=False),
)
# What a session has opened: pictures of a release are given to nobody whose view is not in the journal.
opened = Table(
    "steward_opened",
    metadata,
    Column(
        "token_sha256", String(64), ForeignKey("steward_sessions.token_sha256", ondelete="CASCADE"), primary_key=True
    ),
    Column("release_id", String, primary_key=True),
    Column("bundle_sha256", String(64), primary_key=True),
    Column("at", String, nullable=False),
)
