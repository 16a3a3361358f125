"""Many who write at the same moment, on SQLite and on PostgreSQL: nothing is lost, done twice, or forked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest

from coordinator.limits import Limits
from coordinator.store import schema
from coordinator.store.certificates import add_certificate, check_holds, renewed, revoke_site, site_lines
from coordinator.store.checkpoints import Heads, Told, check_rollbacks, exchange
from coordinator.store.figures import bundles_by_state
from coordinator.store.revocations import add_revocation, revocation, revocations
from coordinator.store.shares import begin_bundle, free, held_by_site
from coordinator.store.store import Store
from shared import journal
from shared.checkpoint import Head
from shared.documents import canonical
from shared.errors import SynthwardError
from shared.identity import CertificateAuthority, certificate_request, new_tls_key, peer
from shared.revocation import Revocation
from tests.conformance.conftest import Database
from tests.conformance.records import (
    HOUR,
    NO_LIMITS,
    actions,
    at_once,
    digest,
    enrol,
    incoming,
    publish,
    site,
    stated,
)
from tests.helpers import refused

WRITERS = 8
SIZE = 1000 + len(b"manifest")


@pytest.fixture
def store(database: Database) -> Store:
    return database.open()


def revoke(store: Store, sha256: str, receipt: bytes = b"receipt") -> tuple[bytes, bytes]:
    revoked = Revocation(bundle_sha256=sha256, site="north", revoked_on=datetime.now(UTC).date())
    return add_revocation(store, revoked, canonical(revoked), b"signature", (receipt, b"1"))


def code_of(call: Callable[[], object]) -> str:
    """The code that a call was refused with; empty when it was not."""
    try:
        call()
    except SynthwardError as error:
        return error.code
    return ""


def test_many_may_open_an_empty_database_at_once(database: Database) -> None:
    stores = at_once([database.open] * WRITERS)
    enrol(stores[0], "north")
    assert all(opened.site("north") == site("north") for opened in stores)


def test_writers_that_race_make_one_chain_with_every_entry(database: Database) -> None:
    # Each with connections of its own, as the service, the announcer and the operator's commands have.
    stores = [database.open() for _ in range(WRITERS)]
    each = 10

    def write(number: int) -> None:
        for step in range(each):
            stores[number].record("operator", f"writer-{number}", str(step))

    at_once([partial(write, number) for number in range(WRITERS)])
    chain = stores[0].journal()
    journal.verify(chain)
    assert Counter(entry.action for entry in chain) == {f"writer-{number}": each for number in range(WRITERS)}


def test_a_bundle_is_begun_once_by_many(store: Store) -> None:
    study = publish(store)
    enrol(store, "north")
    begin = partial(begin_bundle, store, stated("b", study), NO_LIMITS)
    at_once([begin] * WRITERS)
    assert actions(store, "begin-bundle") == [digest("b")]


def test_of_many_bundles_that_begin_at_once_only_so_many_have_a_place(database: Database) -> None:
    # Each with connections of its own, as the service and an import have.
    stores = [database.open() for _ in range(WRITERS)]
    study, few = publish(stores[0]), Limits(unfinished=3, share_bytes=10**6)
    enrol(stores[0], "north")
    enrol(stores[0], "south")
    calls = [
        partial(code_of, partial(begin_bundle, store, stated(f"b{number}", study), few))
        for number, store in enumerate(stores)
    ]
    assert sorted(at_once(calls)) == [""] * 3 + ["admission.share"] * (WRITERS - 3)
    assert len(actions(stores[0], "begin-bundle")) == bundles_by_state(stores[0])["incoming"] == 3
    begin_bundle(stores[0], stated("of another", study, "south"), few)
    assert held_by_site(stores[0]) == {"north": 3 * SIZE, "south": SIZE}


def test_a_bundles_objects_are_freed_once_by_many(store: Store) -> None:
    sha256, kept = incoming(store, "one"), incoming(store, "two")
    store.accept_bundle(kept, b"receipt", b"1", site="north")
    give_up = partial(free, store, actor="operator", action="discard-bundle", detail="x")
    assert sorted(at_once([partial(give_up, sha256)] * WRITERS)) == [False] * (WRITERS - 1) + [True]
    assert not give_up(kept), "what was accepted stays"
    assert actions(store, "discard-bundle") == [sha256]
    assert held_by_site(store) == {"north": SIZE + len(b"manifest")}


def test_of_many_receipts_one_stands(store: Store) -> None:
    sha256 = incoming(store)
    answers = at_once(
        [partial(store.accept_bundle, sha256, b"r%d" % n, b"s%d" % n, site="north") for n in range(WRITERS)]
    )
    found = store.bundle(sha256)
    assert found is not None
    assert set(answers) == {(bytes(found.receipt), bytes(found.receipt_signature))}
    assert actions(store, "accept-bundle") == [sha256]


def test_a_study_is_published_once_by_many(store: Store) -> None:
    at_once([partial(publish, store, closes=datetime(2100, 1, 1, tzinfo=UTC))] * WRITERS)
    assert actions(store, "publish") == ["trial"]


def test_an_invitation_that_two_hold_lets_one_of_them_in(store: Store) -> None:
    store.invite("north", digest("secret"), HOUR, actor="operator")
    keys = [b"%d" % number for number in range(WRITERS)]
    codes = at_once([partial(code_of, partial(store.enrol, digest("secret"), site("north", key))) for key in keys])
    assert sorted(codes) == [""] + ["trust.invitation-used"] * (WRITERS - 1)
    assert store.site("north").signing_key == keys[codes.index("")]
    assert actions(store, "enrol") == ["north"]


def test_a_bundle_that_is_accepted_and_taken_back_at_once_is_taken_back(store: Store) -> None:
    for number in range(5):
        sha256 = incoming(store, f"bundle-{number}")
        accept = partial(store.accept_bundle, sha256, b"receipt", b"1", site="north")
        accepted, _ = at_once([partial(code_of, accept), partial(code_of, partial(revoke, store, sha256))])
        assert accepted in ("", "admission.revoked")
        found = store.bundle(sha256)
        assert found is not None
        assert found.state == "revoked"
        # Receivers are told of those alone that had been accepted.
        assert (sha256 in {line.bundle_sha256 for line in revocations(store)}) == (accepted == "")


def test_a_release_is_taken_back_once_and_its_receipt_stands(store: Store) -> None:
    sha256 = incoming(store)
    answers = at_once([partial(revoke, store, sha256, b"r%d" % number) for number in range(WRITERS)])
    row = revocation(store, "north", sha256)
    assert row is not None
    assert set(answers) == {(bytes(row.receipt), bytes(row.receipt_signature))}
    assert actions(store, "revoke-bundle") == [sha256]
    with refused("admission.revoked"):
        store.accept_bundle(sha256, b"receipt", b"1", site="north")


def test_a_key_gets_one_certificate_and_a_revoked_site_none(store: Store) -> None:
    enrol(store, "north")
    authority = CertificateAuthority.create("test")
    request = certificate_request(new_tls_key(), "north")
    made = [authority.site_certificate(request, "north") for _ in range(WRITERS)]
    answers = at_once([partial(add_certificate, store, "north", digest("key"), pem) for pem in made])
    (stands,) = set(answers)
    assert renewed(store, "north", digest("key")) == stands
    assert actions(store, "renew-certificate") == ["north"]
    check_holds(store, "north", peer(stands)[2])
    assert site_lines(store)[0].certificate_ends
    done = at_once([partial(revoke_site, store, "north", "it left", actor="operator")] * WRITERS)
    assert sorted(done) == [False] * (WRITERS - 1) + [True]
    with refused("trust.revoked"):
        check_holds(store, "north", peer(stands)[2])
    with refused("trust.revoked"):
        add_certificate(store, "north", digest("another key"), made[0])
    assert site_lines(store)[0].certificate_ends == ""


def test_of_checkpoints_that_race_one_is_kept_and_no_rollback_is_found(store: Store) -> None:
    north = enrol(store, "north")
    said = [
        Heads(Head(entries=n, sha256=digest(f"link-{n}")), Head(entries=n, sha256=digest(f"trainer-{n}")))
        for n in range(1, WRITERS + 1)
    ]
    kept = at_once([partial(exchange, store, north, Told(heads, None, False)) for heads in said])
    assert len({answer.held for answer in kept}) == 1
    assert actions(store, "checkpoint") == ["north"]
    check_rollbacks(store)


def test_who_reads_waits_for_no_writer(store: Store) -> None:
    enrol(store, "north")
    with store.engine.begin() as connection:
        journal.append(connection, schema.journal, actor="operator", action="slow", subject="x")
        # With the writer's transaction still open: what was written before it.
        assert [found.name for found in store.sites()] == ["north"]
        assert actions(store, "slow") == []
    assert actions(store, "slow") == ["x"]
