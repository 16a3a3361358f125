"""A release on its whole way, over gRPC into each pair of stores, with a kill between the objects and their entry."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.datasets.build import build, load
from coordinator.store.objects import ObjectStore
from shared import journal
from shared.documents import canonical
from shared.pairs import sha256_hex
from tests.conformance.conftest import Database, Objects, in_bucket, in_folder
from tests.helpers import (
    Coordinator,
    make_sealed,
    manifest_of,
    noise_pair,
    outbox_of,
    outbox_state,
    png_objects,
    running,
    small_study,
)
from tests.postgres_server import PostgresServer
from tests.s3_server import S3Server


@pytest.fixture(params=["sqlite and a folder", "postgres and s3"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Database, Objects]:
    """The default, and what a federation of some size uses."""
    if request.param == "sqlite and a folder":
        return Database(f"sqlite:///{tmp_path / 'whole.db'}", lambda: None), in_folder(tmp_path / "whole")
    server: PostgresServer = request.getfixturevalue("postgres")
    s3: S3Server = request.getfixturevalue("s3")
    return Database(server.new_database(), server.restart), in_bucket(s3)


class Killed(RuntimeError):
    """Stands for the end of the process."""


class DyingObjects(ObjectStore):
    """Takes so many objects, and then no more."""

    left = 3

    def put(self, name: str, data: bytes | Path) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().put(name, data)


def test_a_release_that_is_killed_between_its_objects_and_its_entry_is_accepted_once(
    stores: tuple[Database, Objects], tmp_path: Path
) -> None:
    database, objects = stores
    coordinator = Coordinator(tmp_path / "coordinator")
    coordinator.store, coordinator.objects = database.open(), DyingObjects(objects.url)
    with running(coordinator):
        study = coordinator.publish(small_study())
        home = coordinator.join(tmp_path / "north", "north")
        entries, made = png_objects([noise_pair(seed) for seed in range(4)])
        sha256 = make_sealed(home, manifest_of(study, "north", entries), made)
        with outbox_of(home) as outbox:
            assert not outbox.send(sha256)
        assert coordinator.accepted() == []
        assert len(objects.names()) == 3
        # Another process, after a restart of what keeps the records.
        coordinator.stop()
        database.restart()
        coordinator.store, coordinator.objects = database.open(), objects.open()
        coordinator.start()
        with outbox_of(home) as outbox:
            assert outbox.send(sha256)
    assert outbox_state(home, sha256) == ("accepted", "")
    assert coordinator.accepted() == coordinator.actions("accept-bundle") == [sha256]
    assert objects.names() == set(made)
    assert {name: coordinator.objects.get(name) for name in made} == made
    study_sha256 = sha256_hex(canonical(study))
    version, _, dataset = build(coordinator.store, study_sha256, actor="operator")
    assert load(database.open(), study_sha256, version) == (version, dataset)
    assert {line.image for line in dataset.pairs} == {line.image for line in entries}
    journal.verify(database.open().journal())
