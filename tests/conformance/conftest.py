"""The kinds of database and object store on which every promise is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared.database import sqlite_url
from tests.postgres_server import PostgresServer, need_postgres, postgres_server
from tests.s3_server import S3Server, s3_server


@dataclass(frozen=True)
class Database:
    """An empty database. restart: ends and starts whatever serves it, where something does."""

    url: str
    restart: Callable[[], None]

    def open(self) -> Store:
        """The store in it, as another process would open it."""
        return Store(self.url)


@dataclass(frozen=True)
class Objects:
    """An empty object store. lie: puts other bytes in an object's place; names: all that is there."""

    url: str
    lie: Callable[[str, bytes], None]
    names: Callable[[], set[str]]

    def open(self) -> ObjectStore:
        """The store, as another process would open it."""
        return ObjectStore(self.url)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One server for all tests; each has a database of its own."""
    need_postgres()
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """One server for all tests; each has a bucket of its own."""
    with s3_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return Database(sqlite_url(tmp_path / "store.db"), lambda: None)
    server: PostgresServer = request.getfixturevalue("postgres")
    return Database(server.new_database(), server.restart)


@pytest.fixture(params=["folder", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty object store of each kind."""
    if request.param == "folder":
        return in_folder(tmp_path / "objects")
    return in_bucket(request.getfixturevalue("s3"))


def in_folder(folder: Path) -> Objects:
    """An object store in a folder."""

    def lie(name: str, data: bytes) -> None:
        (path,) = folder.rglob(f"{name}*")
        path.write_bytes(data)

    return Objects(f"file://{folder}", lie, lambda: {path.stem for path in folder.rglob("*") if path.is_file()})


def in_bucket(server: S3Server) -> Objects:
    """An object store in a bucket."""
    url = server.new_url()
    bucket = url.split("/")[2]

    def keys() -> list[str]:
        pages = server.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [found["Key"] for page in pages for found in page.get("Contents", ())]

    def lie(name: str, data: bytes) -> None:
        (key,) = [key for key in keys() if name in key]
        server.client.put_object(Bucket=bucket, Key=key, Body=data)

    return Objects(url, lie, lambda: {Path(key).stem for key in keys()})
