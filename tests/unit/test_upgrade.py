"""A database of another version opens with all its rows, or is told apart from one that is damaged."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, inspect, select, text

from coordinator.store import schema as coordinators
from shared.database import open_database, sqlite_url
from shared.upgrade import make_tables
from site_node import cases, queue_schema
from site_node.airlock import accounts_schema
from tests.helpers import refused

SNAPSHOTS = Path(__file__).with_name("schemas_0_1")
PRESENT = {
    "coordinator": coordinators.metadata,
    "queue": queue_schema.metadata,
    "private": cases.metadata,
    "accounts": accounts_schema.metadata,
}


def tables(*added: Column[object]) -> MetaData:
    """Two tables as a version has them, the second with what that version added."""
    metadata = MetaData()
    Table("sites", metadata, Column("name", String, primary_key=True))
    Table("bundles", metadata, Column("sha256", String, primary_key=True), *added)
    return metadata


def opened(folder: Path, metadata: MetaData) -> Engine:
    engine = open_database(sqlite_url(folder / "test.db"))
    make_tables(engine, metadata)
    return engine


def columns(engine: Engine) -> set[str]:
    return {column["name"] for column in inspect(engine).get_columns("bundles")}


OLD_ROW = text("INSERT INTO bundles (sha256) VALUES ('one')")
NEW = {
    "code": lambda: Column("code", String),
    "pairs": lambda: Column("pairs", Integer, nullable=False, server_default="0"),
    "site": lambda: Column("site", ForeignKey("sites.name")),
}


@given(st.sets(st.sampled_from(sorted(NEW))), st.sets(st.sampled_from(sorted(NEW))))
def test_whatever_one_version_lacks_of_the_other_rows_are_kept_and_written(older: set[str], newer: set[str]) -> None:
    engine = open_database("sqlite://")
    for version in (older, older | newer, older):  # up, and back down
        metadata = tables(*(NEW[name]() for name in sorted(version)))
        make_tables(engine, metadata)
        bundles = metadata.tables["bundles"]
        with engine.begin() as connection:
            connection.execute(bundles.insert().values(sha256=str(len(connection.execute(select(bundles)).all()))))
    assert columns(engine) == {"sha256"} | older | newer
    with engine.begin() as connection:
        assert len(connection.execute(text("SELECT * FROM bundles")).all()) == 3


def test_rows_of_an_older_version_take_the_default(tmp_path: Path) -> None:
    with opened(tmp_path, tables()).begin() as connection:
        connection.execute(OLD_ROW)
    engine = opened(tmp_path, tables(NEW["pairs"](), NEW["code"]()))
    with engine.begin() as connection:
        assert connection.execute(text("SELECT pairs, code FROM bundles")).one() == (0, None)


def test_a_column_that_old_rows_cannot_have_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    engine = opened(tmp_path, tables())
    with refused("storage.version"):
        make_tables(engine, tables(NEW["code"](), Column("must", String, nullable=False)))
    assert columns(engine) == {"sha256"}


def test_a_newer_version_that_asks_for_more_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, tables(Column("must", String, nullable=False)))
    with refused("storage.version"):
        opened(tmp_path, tables())


def test_processes_that_open_at_once_add_once(tmp_path: Path) -> None:
    opened(tmp_path, tables())
    start = threading.Barrier(8)

    def work(_: int) -> None:
        engine = open_database(sqlite_url(tmp_path / "test.db"))
        start.wait()
        make_tables(engine, tables(*(make() for make in NEW.values())))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))  # a failure of any is raised here
    assert columns(opened(tmp_path, tables())) == {"sha256", *NEW}


@pytest.mark.parametrize("name", sorted(PRESENT))
def test_databases_of_the_first_version_open(name: str) -> None:
    """The snapshots are what 0.1.0 makes. They are never changed: a failure here asks for a default."""
    engine = open_database("sqlite://")
    statements = (SNAPSHOTS / f"{name}.sql").read_text(encoding="utf-8").split(";\n")
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    assert set(inspect(engine).get_table_names()) <= PRESENT[name].tables.keys()
    make_tables(engine, PRESENT[name])
