"""A journal that is cut, or a database that is put back, is noticed by the other side: over real gRPC."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from coordinator.release_service import ReleaseService
from coordinator.store.checkpoints import check_rollbacks as check_coordinator
from coordinator.store.store import Store
from shared.checkpoint import EMPTY, FOUND, Checkpoint, Head
from shared.database import sqlite_url
from shared.documents import canonical, sign
from shared.identity import new_signing_key
from shared.study import Study
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from
from site_node.checkpoints import Checkpoints
from site_node.link.channel import release_channel
from site_node.rollback import check_rollbacks
from site_node.settings import Home
from site_node.status import verify_site
from tests.enrolled_site import EnrolledSite
from tests.helpers import Coordinator, refused, running, small_study

pytestmark = pytest.mark.usefixtures("impatient")


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


def cut(database: Path, entries: int = 1) -> None:
    """Takes the last entries off a journal, as somebody with the file would."""
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("DELETE FROM journal WHERE seq > (SELECT MAX(seq) FROM journal) - ?", (entries,))
    connection.close()


def copies(database: Path) -> list[Path]:
    """A database's files."""
    return [database, *(database.with_name(f"{database.name}-{part}") for part in ("wal", "shm"))]


def kept(database: Path) -> Path:
    """A backup of a database, as it is now."""
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return Path(shutil.copy(database, database.with_name("backup.db")))


def put_back(database: Path, backup: Path) -> None:
    """An older database in the place of the present one."""
    for path in copies(database):
        path.unlink(missing_ok=True)
    shutil.copy(backup, database)


def whole(coordinator: Coordinator, site: EnrolledSite) -> None:
    """Nothing is wrong on either side."""
    verify_site(site.home)
    check_rollbacks(site.queue, site.store)
    check_coordinator(coordinator.store)


def test_undisturbed_journals_are_noted_on_both_sides_and_nothing_is_found(
    coordinator: Coordinator, north: EnrolledSite
) -> None:
    whole(coordinator, north)
    heads = Checkpoints(north.queue)
    entries = north.queue.journal()
    assert heads.held("link").sha256 == entries[heads.held("link").entries - 1].sha256
    assert heads.held("link").entries == len(entries)
    assert heads.held("trainer").entries == verify_site(north.home)["journal_entries"]
    own = heads.held("coordinator")
    assert coordinator.store.journal()[own.entries - 1].sha256 == own.sha256
    assert verify_site(north.home)["coordinator_journal_entries"] == own.entries
    assert coordinator.actions(FOUND) == []


def test_a_link_that_says_the_same_again_writes_nothing_anywhere(coordinator: Coordinator, north: EnrolledSite) -> None:
    before = (len(coordinator.store.journal()), len(north.queue.journal()))
    for _ in range(3):
        assert north.link()
    assert (len(coordinator.store.journal()), len(north.queue.journal())) == before


@pytest.mark.parametrize("database", ["exchange/queue.db", "private/site.db"])
def test_a_site_whose_journals_end_was_cut_is_found_on_both_sides(
    coordinator: Coordinator, north: EnrolledSite, database: str
) -> None:
    cut(north.home.path / database)
    with refused("trust.rollback"):  # also without a network: what the coordinator noted is known here
        verify_site(north.home)
    north.turn()
    with refused("trust.rollback"):
        verify_site(north.home)
    with refused("trust.rollback"):
        check_coordinator(coordinator.store)
    assert set(coordinator.actions(FOUND)) == {"north/site"}


@pytest.mark.parametrize("more", [False, True], ids=["shorter", "longer-by-now"])
def test_an_older_queue_at_the_site_is_found_however_much_was_added_since(
    coordinator: Coordinator, study: Study, north: EnrolledSite, more: bool
) -> None:
    database = north.home.exchange / "queue.db"
    backup = kept(database)
    north.accepted(study, (3, 4))
    north.turn()
    whole(coordinator, north)
    put_back(database, backup)
    if more:
        for number in range(40):
            north.queue.record("link", "busy", str(number))
    assert north.link()
    assert FOUND in [entry.action for entry in north.queue.journal()]
    with refused("trust.rollback"):
        check_coordinator(coordinator.store)
    with refused("trust.rollback"):
        verify_site(north.home)


@pytest.mark.parametrize("more", [False, True], ids=["shorter", "longer-by-now"])
def test_an_older_private_database_is_found_however_much_was_added_since(
    coordinator: Coordinator, study: Study, north: EnrolledSite, more: bool
) -> None:
    database = north.home.private / "site.db"
    backup = kept(database)
    north.accepted(study, (3, 4))
    north.turn()
    put_back(database, backup)
    if more:
        for seed in (5, 7, 9, 11):
            north.approved(study, (seed, seed + 1))
    north.turn()
    with refused("trust.rollback"):
        verify_site(north.home)
    with refused("trust.rollback"):
        check_coordinator(coordinator.store)


def test_a_whole_site_put_back_is_found_also_where_the_link_had_nothing_to_write(
    coordinator: Coordinator, study: Study, north: EnrolledSite
) -> None:
    """The link cannot see that the private journal is another: it must not confirm it before the trainer has looked."""
    databases = [north.home.exchange / "queue.db", north.home.private / "site.db"]
    backups = [kept(database) for database in databases]
    north.draft(study, (3, 4))  # an entry of the private journal, none of the link's
    north.turn()
    whole(coordinator, north)
    for database, backup in zip(databases, backups, strict=True):
        put_back(database, backup)
    for seed in (5, 7, 9):
        north.draft(study, (seed, seed + 1))
    for _ in range(3):
        north.turn()
    with refused("trust.rollback"):
        verify_site(north.home)
    with refused("trust.rollback"):
        check_coordinator(coordinator.store)


def restore_coordinator(coordinator: Coordinator, change: Callable[[Path], None]) -> None:
    """Stops the coordinator, changes its database, and starts it afresh."""
    coordinator.stop()
    coordinator.store.engine.dispose()
    change(coordinator.folder / "store.db")
    coordinator.store = Store(sqlite_url(coordinator.folder / "store.db"))
    coordinator.start()


def test_a_coordinator_whose_journals_end_was_cut_is_found_on_both_sides(
    coordinator: Coordinator, north: EnrolledSite
) -> None:
    restore_coordinator(coordinator, lambda path: cut(path, 2))
    check_coordinator(coordinator.store)  # by itself it cannot know
    assert north.link()
    with refused("trust.rollback"):
        check_coordinator(coordinator.store)
    with refused("trust.rollback"):
        verify_site(north.home)
    assert coordinator.actions(FOUND) == ["north/coordinator"]


@pytest.mark.parametrize("more", [False, True], ids=["shorter", "longer-by-now"])
def test_an_older_database_at_the_coordinator_is_found_however_much_was_added_since(
    coordinator: Coordinator, study: Study, north: EnrolledSite, more: bool
) -> None:
    coordinator.store.engine.dispose()
    backup = kept(coordinator.folder / "store.db")
    north.accepted(study, (3, 4))
    restore_coordinator(coordinator, lambda path: put_back(path, backup))
    if more:
        for number in range(40):
            coordinator.store.record("operator", "busy", str(number))
    assert north.link()
    with refused("trust.rollback"):
        check_coordinator(coordinator.store)
    with refused("trust.rollback"):
        verify_site(north.home)


def test_a_lost_answer_loses_no_trace(coordinator: Coordinator, study: Study, north: EnrolledSite) -> None:
    """The coordinator writes new heads over old ones only when the site has shown that it compared the old ones."""
    database = north.home.exchange / "queue.db"
    backup = kept(database)
    north.accepted(study, (3, 4))
    north.turn()
    put_back(database, backup)
    for number in range(40):
        north.queue.record("link", "busy", str(number))
    north.trainer()
    said = Checkpoints(north.queue).to_say()
    for _ in range(3):  # the answers never reach the site
        call(north.home, said_as_request(said.link, said.trainer, said.last, said.signature))
    assert north.link()
    with refused("trust.rollback"):
        check_coordinator(coordinator.store)


def test_a_site_that_enrols_afresh_has_new_journals_and_a_clean_record(
    coordinator: Coordinator, north: EnrolledSite, tmp_path: Path
) -> None:
    cut(north.home.exchange / "queue.db")
    north.link()
    with refused("trust.rollback"):
        check_coordinator(coordinator.store)
    again = EnrolledSite.join(coordinator, tmp_path / "again", "north")
    again.turn()
    whole(coordinator, again)


# Who lies


def said_as_request(link: Head, trainer: Head, last: bytes, signature: bytes) -> pb.CheckpointRequest:
    return pb.CheckpointRequest(
        link_entries=link.entries, link_sha256=link.sha256, trainer_entries=trainer.entries,
        trainer_sha256=trainer.sha256, last_checkpoint=last, last_signature=signature,
    )  # fmt: skip


def call(home: Home, request: pb.CheckpointRequest) -> pb.CheckpointReply:
    """The bare call, as a hostile site would make it. Raises the coordinator's error."""
    with release_channel(home) as channel:
        try:
            return rpc.ReleasesStub(channel).Checkpoint(request, timeout=20)
        except grpc.RpcError as error:
            raise error_from(error) from error


def test_a_site_cannot_accuse_the_coordinator_of_what_it_never_signed(
    coordinator: Coordinator, north: EnrolledSite
) -> None:
    invented = Checkpoint(site="north", coordinator=Head(entries=9999, sha256="a" * 64), link=EMPTY, trainer=EMPTY)
    payload = canonical(invented)
    for key, kind in ((new_signing_key(), "checkpoint"), (coordinator.key, "receipt")):
        signature = sign(key, kind, payload)  # type: ignore[arg-type]
        with refused("trust.signature"):
            call(north.home, said_as_request(EMPTY, EMPTY, payload, signature))
    check_coordinator(coordinator.store)


def test_a_site_cannot_bring_anothers_checkpoint(coordinator: Coordinator, north: EnrolledSite, tmp_path: Path) -> None:
    harbour = EnrolledSite.join(coordinator, tmp_path / "harbour", "harbour")
    said = Checkpoints(north.queue).to_say()
    with refused("trust.identity"):
        call(harbour.home, said_as_request(EMPTY, EMPTY, said.last, said.signature))


@pytest.mark.parametrize("damage", ["text for a digest", "a flag of seven"])
def test_a_statement_that_cannot_be_is_refused(coordinator: Coordinator, north: EnrolledSite, damage: str) -> None:
    request = said_as_request(EMPTY, EMPTY, b"", b"")
    if damage == "a flag of seven":
        request.rolled_back = 7
    else:
        request.link_sha256 = "patient 4711"
    with refused("document.malformed"):
        call(north.home, request)


def test_a_checkpoint_that_the_coordinator_did_not_sign_is_not_believed(tmp_path: Path) -> None:
    stranger = new_signing_key()

    class Liar(ReleaseService):
        def Checkpoint(self, request: pb.CheckpointRequest, context: grpc.ServicerContext) -> pb.CheckpointReply:
            head = Head(entries=7, sha256="b" * 64)
            payload = canonical(Checkpoint(site="north", coordinator=head, link=head, trainer=EMPTY))
            signed = pb.SignedReceipt(payload=payload, signature=sign(stranger, "checkpoint", payload))
            return pb.CheckpointReply(checkpoint=signed)

    coordinator = Coordinator(tmp_path / "coordinator")
    coordinator.service = Liar
    with running(coordinator):
        north = EnrolledSite.join(coordinator, tmp_path / "north", "north")
        assert not north.link()
        verify_site(north.home)
        assert Checkpoints(north.queue).held("coordinator") == EMPTY
