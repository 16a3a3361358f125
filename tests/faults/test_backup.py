"""A backup of the coordinator is whole or not there, and what is restored is what was, or nothing is restored."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Row, select
from typer.testing import CliRunner

from coordinator.backup import Backup, make_backup
from coordinator.cli import app
from coordinator.restore import read_backup, restore
from coordinator.settings import Home, Settings
from coordinator.store import schema
from coordinator.store.checkpoints import check_rollbacks
from coordinator.store.objects import ObjectStore
from coordinator.store.store import Store
from shared import journal
from shared.bundle import PairEntry, Receipt
from shared.database import sqlite_url
from shared.documents import parse
from shared.errors import ExitCode
from shared.identity import load_signing_key, save_key
from shared.pairs import sha256_hex
from shared.settings_files import to_toml
from shared.study import Study
from site_node.status import verify_site
from tests.enrolled_site import EnrolledSite
from tests.helpers import (
    Coordinator,
    caller,
    chunks_of,
    make_sealed,
    manifest_of,
    noise_pair,
    outbox_of,
    png_objects,
    raw_entry,
    refused,
    running,
    small_study,
)

pytestmark = pytest.mark.usefixtures("impatient")


def quiet(_stage: str, _done: int, _of: int) -> None:
    """Nobody watches."""


def home_of(coordinator: Coordinator) -> Home:
    """The coordinator's folder, with the settings and keys that `init` would have put there."""
    home = Home(coordinator.folder)
    if not home.settings_file.exists():
        home.create(Settings(name="trial"))
        save_key(home.keys / "signing.key", coordinator.key)
    return home


def backed_up(coordinator: Coordinator, target: Path, *, with_keys: bool = True) -> Backup:
    return make_backup(home_of(coordinator), target, with_keys=with_keys, report=quiet)


@contextlib.contextmanager
def dies(code: str, home: Path) -> Iterator[None]:
    """Passes when the block ends with this code and leaves nothing where the home would be."""
    with refused(code):
        yield
    assert not home.exists()
    assert not list(home.parent.glob(f".{home.name}.*"))


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(small_study())


@pytest.fixture
def north(coordinator: Coordinator, tmp_path: Path, study: Study) -> EnrolledSite:
    """A site with a release in, whose journals the coordinator has noted to their ends."""
    site = EnrolledSite.join(coordinator, tmp_path / "north", "north")
    site.accepted(study)
    site.turn()
    return site


def tables(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every row of a database but the journal's last, when that says that it was restored."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: sorted(connection.execute(f"SELECT * FROM {name}"), key=repr) for name in names}  # noqa: S608
    found["journal"] = [row for row in found["journal"] if "restore" not in row]
    return found


def revived(coordinator: Coordinator, home: Home) -> Coordinator:
    """The services again, on what was restored, with the same authority and on the same ports."""
    coordinator.stop()
    again = Coordinator.__new__(Coordinator)
    vars(again).update(vars(coordinator))
    again.folder = home.path
    again.key = load_signing_key(home.keys / "signing.key")
    again.store = Store(home.database_url())
    again.objects = ObjectStore(home.objects_url())
    return again


def test_a_restored_coordinator_answers_its_sites_and_goes_on(
    coordinator: Coordinator, north: EnrolledSite, study: Study, tmp_path: Path
) -> None:
    backed_up(coordinator, tmp_path / "backup")
    before, objects = tables(coordinator.folder / "store.db"), coordinator.stored_objects()
    home = Home(tmp_path / "restored")
    found = restore(tmp_path / "backup", home, report=quiet)
    assert tables(home.path / "store.db") == before
    assert found.age.total_seconds() < 600
    again = revived(coordinator, home)
    assert again.stored_objects() == objects
    with running(again):
        assert again.actions("restore") == ["trial"]
        north.accepted(study, (3, 4))
        north.turn()
        journal.verify(again.store.journal())
        check_rollbacks(again.store)
        verify_site(north.home)
        assert len(again.accepted()) == 2


def test_a_site_notices_that_an_older_backup_was_restored(
    coordinator: Coordinator, north: EnrolledSite, study: Study, tmp_path: Path
) -> None:
    backed_up(coordinator, tmp_path / "backup")
    north.accepted(study, (3, 4))
    north.turn()
    home = Home(tmp_path / "restored")
    restore(tmp_path / "backup", home, report=quiet)
    with running(revived(coordinator, home)) as again:
        north.turn()
        with refused("trust.rollback"):
            check_rollbacks(again.store)
    with refused("trust.rollback"):
        verify_site(north.home)


@given(bundles=st.lists(st.sampled_from(["accepted", "refused", "halfway"]), max_size=3))
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_restored_is_what_was(bundles: list[str]) -> None:
    """Whatever came in, and however far."""
    top = Path(tempfile.mkdtemp())
    try:
        with running(Coordinator(top / "coordinator")) as coordinator:
            study = coordinator.publish(small_study())
            site = coordinator.join(top / "north", "north")
            for number, kind in enumerate(bundles, start=1):
                entries, objects = png_objects([noise_pair(number)])
                changes = {"training_patients": 9, "release_id": f"release-{number}"}
                manifest = manifest_of(study, "north", entries, **changes)
                if kind == "refused":  # honest lines about something that is no PNG
                    entries, objects = no_image(number)
                    manifest = manifest_of(study, "north", entries, **changes)
                sha256 = make_sealed(site, manifest, objects)
                with caller(site) as north, contextlib.suppress(Exception):
                    if kind == "halfway":
                        north.begin_sealed(site, manifest)
                        north.upload(sha256, [(sorted(objects)[0], 0, objects[sorted(objects)[0]][:9])])
                    else:
                        north.send_all(site, manifest, objects)
            states = {"halfway": "incoming", "accepted": "accepted", "refused": "quarantined"}
            assert sorted(states[kind] for kind in bundles) == sorted(row.state for row in rows(coordinator.store))
            backed_up(coordinator, top / "backup")
            home = Home(top / "restored")
            restore(top / "backup", home, report=quiet)
            assert tables(home.path / "store.db") == tables(coordinator.folder / "store.db")
            again = ObjectStore(home.objects_url())
            assert all(again.get(name) for name in coordinator.stored_objects())
            for row in rows(coordinator.store):
                if row.state == "quarantined":
                    assert contents(home.quarantine / row.sha256) == contents(
                        coordinator.folder / "quarantine" / row.sha256
                    )
            revive = revived(coordinator, home)
        with running(revive), outbox_of(site) as outbox:
            assert all(outbox.send(row.sha256) for row in rows(revive.store))
            assert all(row.state != "incoming" for row in rows(revive.store))
    finally:
        shutil.rmtree(top)


def no_image(number: int) -> tuple[tuple[PairEntry, ...], dict[str, bytes]]:
    """A bundle whose image is none."""
    line, found = raw_entry(b"no PNG, but as long as one has to be: %d" % number)
    return (line,), found


def rows(store: Store) -> Sequence[Row[Any]]:
    """Every bundle's row."""
    with store.reading.begin() as connection:
        return connection.execute(select(schema.bundles)).all()


def contents(folder: Path) -> dict[str, bytes]:
    assert folder.is_dir()
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_backup_during_an_upload_leaves_the_upload_alone_and_can_be_restored(
    coordinator: Coordinator, north: EnrolledSite, study: Study, tmp_path: Path
) -> None:
    entries, objects = png_objects([noise_pair(seed) for seed in (7, 8, 9)])
    manifest = manifest_of(study, "north", entries, release_id="release-7")
    sha256 = make_sealed(north.home, manifest, objects)
    made: list[Backup] = []
    with caller(north.home) as call:
        call.begin_sealed(north.home, manifest)

        def chunks() -> Iterator[tuple[str, int, bytes]]:
            for number, name in enumerate(sorted(objects)):
                if number == 3:
                    made.append(backed_up(coordinator, tmp_path / "backup"))
                yield from chunks_of(name, objects[name])

        call.upload(sha256, chunks())
        receipt = call.finish(sha256).receipt
    assert parse(Receipt, receipt.payload).bundle_sha256 == sha256
    assert len(made) == 1
    home = Home(tmp_path / "restored")
    restore(tmp_path / "backup", home, report=quiet)
    with running(revived(coordinator, home)) as again:
        assert again.store.bundle(sha256).state == "incoming"
        with outbox_of(north.home) as outbox:  # the site has no receipt yet: it sends again, all of it
            assert outbox.send(sha256)
        assert again.store.bundle(sha256).state == "accepted"


KILLED = """
import os, signal, sys
from pathlib import Path
from coordinator.backup import make_backup
from coordinator.restore import restore
from coordinator.settings import Home
def report(stage, done, of):
    if done == 2:
        os.kill(os.getpid(), signal.SIGKILL)
what, source, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
if what == "backup":
    make_backup(Home(source), target, with_keys=True, report=report)
else:
    restore(source, Home(target), report=report)
"""


def killed(what: str, source: Path, target: Path) -> None:
    """A backup or restore whose process is killed at its second object."""
    done = subprocess.run([sys.executable, "-c", KILLED, what, str(source), str(target)], timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()


@pytest.mark.usefixtures("north")
def test_a_kill_leaves_no_half_backup_and_no_half_coordinator(coordinator: Coordinator, tmp_path: Path) -> None:
    home_of(coordinator)
    killed("backup", coordinator.folder, tmp_path / "backup")
    backed_up(coordinator, tmp_path / "backup")
    killed("restore", tmp_path / "backup", tmp_path / "restored")
    restore(tmp_path / "backup", Home(tmp_path / "restored"), report=quiet)
    assert not list(tmp_path.glob(".*.partial"))
    assert tables(tmp_path / "restored" / "store.db") == tables(coordinator.folder / "store.db")


# Damage


def one_object(folder: Path) -> Path:
    return sorted((folder / "objects").rglob("*.png"))[0]


def flip(path: Path, at: int = 60) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def sql(statement: str) -> Callable[[Path], None]:
    """Damage that fits the digest in backup.json: done by somebody who mended that too."""

    def damage(folder: Path) -> None:
        with contextlib.closing(sqlite3.connect(folder / "store.db")) as connection:
            connection.execute(statement)
            connection.commit()
        mend(folder)

    return damage


def mend(folder: Path) -> None:
    said = json.loads((folder / "backup.json").read_text())
    said["files"]["store.db"] = sha256_hex((folder / "store.db").read_bytes())
    (folder / "backup.json").write_bytes(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


def scribbled(folder: Path) -> None:
    path = folder / "store.db"
    data = path.read_bytes()
    path.write_bytes(data[:8192] + b"\xff" * (len(data) - 8192))  # all but the first two pages
    mend(folder)


def leads_out(folder: Path) -> None:
    said = json.loads((folder / "backup.json").read_text())
    said["files"]["keys/../../escaped"] = said["files"]["settings.toml"]
    (folder / "backup.json").write_bytes(json.dumps(said, sort_keys=True, separators=(",", ":")).encode())


DAMAGE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "an object has changed": ("storage.damaged", lambda folder: flip(one_object(folder))),
    "an object is gone": ("storage.damaged", lambda folder: one_object(folder).unlink()),
    "a byte of the database has changed": ("storage.damaged", lambda folder: flip(folder / "store.db", 5000)),
    "the database is cut": ("storage.damaged", lambda folder: (folder / "store.db").write_bytes(b"SQLite format 3")),
    "the database is scribbled over": ("storage.damaged", scribbled),
    "a key is gone": ("storage.damaged", lambda folder: (folder / "keys" / "signing.key").unlink()),
    "there is no backup.json": ("storage.damaged", lambda folder: (folder / "backup.json").unlink()),
    "backup.json is cut": ("document.malformed", lambda folder: (folder / "backup.json").write_text('{"format"')),
    "a path leads out": ("storage.damaged", leads_out),
    "the journal's end is cut": ("storage.damaged", sql("DELETE FROM journal WHERE seq > 3")),
    "an entry has changed": ("trust.journal", sql("UPDATE journal SET actor = 'nobody' WHERE seq = 2")),
    "an entry is gone": ("trust.journal", sql("DELETE FROM journal WHERE seq = 2")),
    "a study has changed": ("storage.damaged", sql("UPDATE studies SET payload = x'7b7d'")),
    "a study's signature has changed": ("trust.signature", sql("UPDATE studies SET signature = zeroblob(64)")),
    "a receipt's signature differs": ("trust.signature", sql("UPDATE bundles SET receipt_signature = zeroblob(64)")),
    "a manifest has changed": ("storage.damaged", sql("UPDATE bundles SET manifest = x'7b7d'")),
    "a checkpoint was moved back": ("storage.damaged", sql("UPDATE checkpoints SET trainer_entries = 6")),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a coordinator with an accepted release and a checkpoint."""
    top = tmp_path_factory.mktemp("good")
    with running(Coordinator(top / "coordinator")) as coordinator:
        study = coordinator.publish(small_study())
        site = EnrolledSite.join(coordinator, top / "north", "north")
        site.accepted(study)
        site.turn()
        backed_up(coordinator, top / "backup")
    return top / "backup"


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_nothing_is_restored(good: Path, tmp_path: Path, damage: str) -> None:
    code, do = DAMAGE[damage]
    source = Path(shutil.copytree(good, tmp_path / "backup"))
    do(source)
    with dies(code, tmp_path / "restored"):
        restore(source, Home(tmp_path / "restored"), report=quiet)
    assert not list(tmp_path.rglob("escaped"))


def test_a_coordinator_that_has_lost_an_object_says_so_and_makes_no_backup(
    coordinator: Coordinator, north: EnrolledSite, tmp_path: Path
) -> None:
    flip(one_object(coordinator.folder))
    with dies("storage.damaged", tmp_path / "backup"):
        backed_up(coordinator, tmp_path / "backup")


# The commands


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


@pytest.mark.usefixtures("north")
def test_keys_go_into_a_backup_only_when_asked_for_and_for_their_owner_alone(
    coordinator: Coordinator, tmp_path: Path
) -> None:
    home = home_of(coordinator)
    code, said = run("backup", tmp_path / "open", "--home", home.path)
    assert code == 0, said
    assert "keys/" in said
    secret = (home.keys / "signing.key").read_bytes()
    assert all(secret not in data for data in contents(tmp_path / "open").values())
    code, said = run("backup", tmp_path / "secret", "--with-keys", "--home", home.path)
    assert code == 0
    assert "PRIVATE KEYS" in said
    assert (tmp_path / "secret" / "keys" / "signing.key").read_bytes() == secret
    for name in ("keys/signing.key", "settings.toml", "backup.json", "store.db"):
        assert (tmp_path / "secret" / name).stat().st_mode & 0o777 == 0o600, name
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o700
    code, said = run("restore", tmp_path / "open", "--home", tmp_path / "restored")
    assert code == 0
    assert "put settings.toml and keys/" in said
    assert "trust.rollback" in said
    assert "hours ago" in said


def test_nothing_is_written_over(good: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    restore(good, Home(tmp_path / "home"), report=quiet)  # empty: nothing is lost
    kept = contents(tmp_path / "home")
    assert run("restore", good, "--home", tmp_path / "home")[0] == ExitCode.STATE
    assert run("backup", good, "--home", tmp_path / "home")[0] == ExitCode.STATE
    assert contents(tmp_path / "home") == kept
    read_backup(good)


@pytest.mark.parametrize(
    ("key", "url", "word"),
    [("database_url", "postgresql://db.example.org/synthward", "pg_dump"), ("objects_url", "s3://bucket/o", "bucket")],
)
def test_what_is_kept_elsewhere_is_refused_with_the_tool_that_does_it(
    coordinator: Coordinator, tmp_path: Path, key: str, url: str, word: str
) -> None:
    home = home_of(coordinator)
    changed = home.settings().model_dump(mode="json") | {key: url}
    home.settings_file.write_text(to_toml(changed))
    code, said = run("backup", tmp_path / "backup", "--home", home.path)
    assert code == ExitCode.STATE
    assert word in said
    assert not (tmp_path / "backup").exists()


def test_settings_that_named_another_folder_are_brought_home(good: Path, tmp_path: Path) -> None:
    first = Home(tmp_path / "first")
    restore(good, first, report=quiet)
    shutil.copytree(first.path / "objects", tmp_path / "elsewhere" / "objects")
    shutil.move(first.path / "store.db", tmp_path / "elsewhere" / "store.db")
    shutil.rmtree(first.path / "objects")
    urls = {
        "database_url": sqlite_url(tmp_path / "elsewhere" / "store.db"),
        "objects_url": f"file://{tmp_path}/elsewhere/objects",
    }
    first.settings_file.write_text(to_toml(first.settings().model_dump(mode="json") | urls))
    make_backup(first, tmp_path / "backup", with_keys=True, report=quiet)
    shutil.rmtree(tmp_path / "elsewhere")
    second = Home(tmp_path / "second")
    assert set(restore(tmp_path / "backup", second, report=quiet).moved) == set(urls)
    assert second.database_url() == sqlite_url(tmp_path / "second" / "store.db")
    assert len(rows(Store(second.database_url()))) == 1


def test_the_superlinks_nodes_come_along_also_while_it_writes(coordinator: Coordinator, tmp_path: Path) -> None:
    home = home_of(coordinator)
    with contextlib.closing(sqlite3.connect(home.flower / "state.db")) as live:
        live.execute("PRAGMA journal_mode=WAL")
        live.execute("CREATE TABLE node (id INTEGER)")
        live.execute("INSERT INTO node VALUES (4711)")
        live.commit()
        live.execute("INSERT INTO node VALUES (9)")  # not committed
        backed_up(coordinator, tmp_path / "backup")
    restore(tmp_path / "backup", Home(tmp_path / "restored"), report=quiet)
    with contextlib.closing(sqlite3.connect(tmp_path / "restored" / "flower" / "state.db")) as restored:
        assert restored.execute("SELECT id FROM node").fetchall() == [(4711,)]
