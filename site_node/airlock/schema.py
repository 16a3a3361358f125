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
    """The votes that stand: bound to the digest of what the person reviewed, one a person and digest.

    The journal has every vote that was ever given; a question takes them out of here.
    """
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


def asked_for_table(metadata: MetaData) -> Table:
    """Who asked for a release to be made, where a person did; they cannot approve it."""
    return Table(
        "asked_for",
        metadata,
        Column("release_id", String, primary_key=True),
        Column("person", String, nullable=False),
    )


def touched_table(metadata: MetaData) -> Table:
    """Which patients a release rests on, and on which side of the split each was. Patient keys: never leaves."""
    return Table(
        "touched",
        metadata,
        Column("release_id", String, primary_key=True),
        Column("patient", String, primary_key=True, index=True),
        Column("side", String, nullable=False),
    )
