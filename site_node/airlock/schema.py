"""The airlock's tables, declared into the site's private database."""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, UniqueConstraint


def releases_table(metadata: MetaData) -> Table:
    """Releases: the manifest that will be signed, as it was drafted, and where the release stands."""
    return Table(
        "releases",
        metadata,
        Column("release_id", String, primary_key=True),
        Column("study_sha256", String(64), nullable=False),
        Column("state", String, nullable=False),
        Column("manifest", LargeBinary, nullable=False),
        Column("bundle_sha256", String(64), nullable=False, unique=True),
        Column("report", LargeBinary, nullable=False),
        Column("made_by", String, nullable=False),
        Column("at", String, nullable=False),
    )


def votes_table(metadata: MetaData) -> Table:
    """Votes: bound to the digest of what the person reviewed, one a person and digest."""
    return Table(
        "votes",
        metadata,
        Column("seq", Integer, primary_key=True),
        Column("release_id", String, nullable=False),
        Column("bundle_sha256", String(64), nullable=False),
        Column("person", String, nullable=False),
        Column("at", String, nullable=False),
        UniqueConstraint("release_id", "bundle_sha256", "person"),
    )
