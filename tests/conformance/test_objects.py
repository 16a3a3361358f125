"""What the object store promises, in a folder and in S3: what is there under a digest is what has that digest."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from coordinator.store.objects import ObjectStore
from shared.pairs import sha256_hex
from tests.conformance.conftest import Objects
from tests.conformance.records import at_once
from tests.helpers import refused, until

DATA = b"an object" * 1000
NAME = sha256_hex(DATA)


@pytest.fixture
def store(objects: Objects) -> ObjectStore:
    return objects.open()


def test_an_object_comes_back_as_it_was_put(store: ObjectStore, objects: Objects) -> None:
    store.put(NAME, DATA)
    assert store.get(NAME) == DATA
    assert objects.open().get(NAME) == DATA


def test_putting_twice_is_putting_once(store: ObjectStore, objects: Objects) -> None:
    for each in (store, store, objects.open()):
        each.put(NAME, DATA)
    assert objects.names() == {NAME}


def test_what_is_not_what_its_name_says_is_not_stored(store: ObjectStore, objects: Objects) -> None:
    with refused("admission.digest"):
        store.put(NAME, DATA + b"!")
    assert objects.names() == set()


def test_an_object_that_is_missing_is_named(store: ObjectStore) -> None:
    with refused("storage.damaged"):
        store.get(NAME)


@pytest.mark.parametrize("changed", [DATA[:-1], b"", DATA[::-1]], ids=["shorter", "empty", "other"])
def test_an_object_that_was_changed_is_never_handed_out(store: ObjectStore, objects: Objects, changed: bytes) -> None:
    store.put(NAME, DATA)
    objects.lie(NAME, changed)
    for each in (store, objects.open()):
        with refused("storage.damaged"):
            each.get(NAME)


def test_many_who_put_at_once_leave_each_object_whole_and_once(store: ObjectStore, objects: Objects) -> None:
    made = {sha256_hex(data): data for data in (b"%d" % number * 500 for number in range(8))}
    at_once([partial(store.put, name, data) for name, data in made.items() for _ in range(2)])
    assert objects.names() == set(made)
    assert {name: store.get(name) for name in made} == made


def test_an_object_that_was_put_elsewhere_is_seen_at_once(store: ObjectStore, objects: Objects) -> None:
    with refused("storage.damaged"):
        store.get(NAME)
    objects.open().put(NAME, DATA)
    assert store.get(NAME) == DATA


def test_a_file_is_put_as_an_object_and_may_go(store: ObjectStore, objects: Objects, tmp_path: Path) -> None:
    # Two bundles that share an object.
    files = [tmp_path / "of-one", tmp_path / "of-another"]
    for file in files:
        file.write_bytes(DATA)
    at_once([partial(store.put, NAME, files[0]), partial(objects.open().put, NAME, files[1])])
    for file in files:
        file.unlink()
    assert objects.names() == {NAME}
    assert store.get(NAME) == DATA


def test_a_file_that_is_not_what_its_name_says_is_not_stored(
    store: ObjectStore, objects: Objects, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(DATA + b"!")
    with refused("admission.digest"):
        store.put(NAME, tmp_path / "file")
    assert objects.names() == set()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="there is no second file system")
def test_a_file_on_another_disk_is_copied(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        (Path(elsewhere) / "file").write_bytes(DATA)
        store = ObjectStore(f"file://{tmp_path}")
        store.put(NAME, Path(elsewhere) / "file")
    assert store.get(NAME) == DATA


_PUT_FOR_EVER = """
import sys
from coordinator.store.objects import ObjectStore
from shared.pairs import sha256_hex
store = ObjectStore(sys.argv[1])
for number in range(10**9):
    data = b"%d" % number * 20_000
    store.put(sha256_hex(data), data)
"""


def test_whoever_is_killed_while_putting_leaves_whole_objects_alone(objects: Objects, tmp_path: Path) -> None:
    def whole() -> set[str]:
        # What a folder keeps of an object that is being written has a name that is no digest.
        return {name for name in objects.names() if not name.startswith(".")}

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", _PUT_FOR_EVER, objects.url], env=environment)
    try:
        until(lambda: len(whole()) > 3)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=20)
    store = objects.open()
    names = whole()
    assert len(names) > 3
    assert all(sha256_hex(store.get(name)) == name for name in names)
