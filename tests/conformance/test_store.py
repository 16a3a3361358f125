"""What the coordinator's database promises, on SQLite and on PostgreSQL: whole, once, in order, and still there."""

from __future__ import annotations

import contextlib

import pytest
from sqlalchemy.exc import IntegrityError

from coordinator.limits import Limits
from coordinator.store import schema
from coordinator.store.checkpoints import Heads, Told, check_rollbacks, exchange
from coordinator.store.figures import STATES, bundles_by_state, journal_entries
from coordinator.store.findings import Finding, add_finding, findings
from coordinator.store.shares import begin_bundle, coming_in, count_older, free, held_by_site, in_quarantine
from coordinator.store.store import Measurement, PublishedStudy, Store
from shared import journal
from shared.checkpoint import Checkpoint, Head
from shared.metrics import Metrics
from tests.conformance.conftest import Database
from tests.conformance.records import HOUR, NO_LIMITS, actions, digest, enrol, incoming, publish, site, stated
from tests.helpers import refused

METRICS = Metrics.model_validate(dict.fromkeys(Metrics.model_fields, 0.5))


class Killed(RuntimeError):
    """Stands for the end of the process."""


@pytest.fixture
def store(database: Database) -> Store:
    return database.open()


def test_an_enrolled_site_is_found_as_it_was_recorded(store: Store, database: Database) -> None:
    enrol(store, "north")
    assert database.open().site("north") == site("north")
    with refused("site.unknown"):
        store.site("south")


def test_an_invitation_works_once_for_whoever_used_it(store: Store) -> None:
    enrol(store, "north")
    store.enrol(digest("north"), site("north"))
    with refused("trust.invitation-used"):
        store.enrol(digest("north"), site("north", b"somebody else's"))
    with refused("trust.invitation-unknown"):
        store.invited_site(digest("never"), used_by=b"key")
    store.invite("south", digest("south"), -HOUR, actor="operator")
    with refused("trust.invitation-expired"):
        store.invited_site(digest("south"), used_by=b"key")
    assert store.site("north").signing_key == b"key"


def test_sites_come_by_name_whatever_the_databases_language(store: Store) -> None:
    names = ["north", "north-2", "north2", "a-z", "aa"]
    for name in names:
        enrol(store, name)
    assert [found.name for found in store.sites()] == sorted(names)


def test_a_study_is_published_once_and_never_changed(store: Store) -> None:
    first = publish(store)
    store.publish(first, actor="operator")
    with refused("study.exists"):
        store.publish(PublishedStudy(digest("other"), first.payload, b"other"), actor="operator")
    assert store.studies() == [first]
    assert store.study(first.sha256) == store.study("trial") == first
    assert actions(store, "publish") == ["trial"]


def test_the_last_answer_to_a_study_holds(store: Store) -> None:
    study = publish(store)
    enrol(store, "north")
    store.answered(study.sha256, "north", "queued", "")
    store.answered(study.sha256, "north", "refused", "policy.style")
    assert store.deliveries(study.sha256) == {"north": ("refused", "policy.style")}


def test_a_bundle_is_begun_once_and_accepted_once(store: Store) -> None:
    sha256 = incoming(store)
    assert incoming(store) == sha256
    assert store.accept_bundle(sha256, b"first", b"1", site="north") == (b"first", b"1")
    assert store.accept_bundle(sha256, b"second", b"2", site="north") == (b"first", b"1")
    assert [row.sha256 for row in store.bundles(store.studies()[0].sha256, "accepted")] == [sha256]
    assert actions(store, "begin-bundle") == actions(store, "accept-bundle") == [sha256]


def test_an_accepted_bundle_is_not_quarantined_afterwards(store: Store) -> None:
    sha256 = incoming(store)
    store.accept_bundle(sha256, b"receipt", b"1", site="north")
    store.quarantine_bundle(sha256, "pairs.not-png", site="north")
    found = store.bundle(sha256)
    assert found is not None
    assert (found.state, found.code) == ("accepted", "")


def test_what_a_site_has_here_is_counted_until_it_is_deleted(store: Store) -> None:
    study = publish(store)
    for number, name in enumerate(("one", "two", "three", "four")):
        incoming(store, name, "south" if number == 3 else "north")
    store.accept_bundle(digest("one"), b"receipt", b"1", site="north")
    store.quarantine_bundle(digest("two"), "pairs.not-png", site="north")
    whole, manifest = 1000 + len(b"manifest"), len(b"manifest")
    assert held_by_site(store) == {"north": 3 * whole, "south": whole}
    assert coming_in(store, study.sha256) == sorted([digest("three"), digest("four")])
    (line,) = in_quarantine(store)
    assert (line.sha256, line.site, line.study_id) == (digest("two"), "north", "trial")
    assert (line.code, line.bytes) == ("pairs.not-png", whole)
    for name in ("two", "three"):
        assert free(store, digest(name), actor="operator", action="discard-bundle", detail="looked at")
    assert held_by_site(store) == {"north": whole + 2 * manifest, "south": whole}
    assert coming_in(store, study.sha256) == [digest("four")]
    assert in_quarantine(store) == []
    few = Limits(unfinished=2, share_bytes=2 * whole + 2 * manifest)
    begin_bundle(store, stated("five", study), few)
    with refused("admission.share"):
        begin_bundle(store, stated("six", study), few)
    assert count_older(store) == 0
    assert store.bundle(digest("six")) is None


def test_a_bundle_of_an_unknown_site_leaves_no_trace(store: Store) -> None:
    study = publish(store)
    with pytest.raises(IntegrityError):
        begin_bundle(store, stated("bundle", study, "nobody"), NO_LIMITS)
    assert store.bundle(digest("bundle")) is None
    assert actions(store, "begin-bundle") == []


def test_a_dataset_version_is_written_once_with_its_entry_or_not_at_all(store: Store) -> None:
    study = publish(store)
    for version in (2, 1):
        store.add_dataset(study.sha256, digest(f"v{version}"), version, b"payload", actor="operator")
    with pytest.raises(IntegrityError):
        store.add_dataset(study.sha256, digest("other"), 2, b"other", actor="operator")
    rows = store.datasets(study.sha256)
    assert [(row.version, row.sha256, bytes(row.payload)) for row in rows] == [
        (version, digest(f"v{version}"), b"payload") for version in (1, 2)
    ]
    assert len(actions(store, "build-dataset")) == 2


def test_the_last_measurement_of_a_site_holds(store: Store) -> None:
    study = publish(store)
    enrol(store, "north")
    failed = Measurement("m1", 1, "real_own", None, None, 2**31 - 1, "north", "internal", None, None)
    done = Measurement("m1", 1, "real_own", None, None, 2**31 - 1, "north", "", METRICS, 9)
    for answer in (failed, done):
        store.add_measurement(study.sha256, answer)
    assert store.measurements(study.sha256, 1) == [done]


def test_a_failure_never_replaces_a_document(store: Store) -> None:
    study = publish(store)
    enrol(store, "north")
    whole = Finding("distribution", "north", "south", "o1", "", b"{}")
    for answer in (whole, Finding("distribution", "north", "south", "o2", "internal", None)):
        add_finding(store, study.sha256, 1, answer)
    comparison = Finding("comparison", "north", None, "o3", "", b'{"a":1}')
    add_finding(store, study.sha256, 1, comparison)
    assert findings(store, study.sha256, 1) == [comparison, whole]
    assert len(actions(store, "distribution")) == 2


def test_checkpoints_take_on_what_is_confirmed_and_note_what_is_not(store: Store) -> None:
    north = enrol(store, "north")
    # As many entries as a document may state: more than 32 bits hold.
    said = Heads(Head(entries=2**53 - 1, sha256=digest("link")), Head(entries=3, sha256=digest("trainer")))
    kept = exchange(store, north, Told(said, None, False))
    assert kept.held == said
    assert exchange(store, north, Told(Heads(), None, False)).held == said
    check_rollbacks(store)
    wrong = Head(entries=1, sha256=digest("another"))
    false = Checkpoint(site="north", coordinator=wrong, link=said.link, trainer=said.trainer)
    exchange(store, north, Told(said, false, False))
    with refused("trust.rollback"):
        check_rollbacks(store)


def test_what_fails_halfway_leaves_neither_change_nor_entry(store: Store) -> None:
    enrol(store, "north")
    before = store.journal()
    with contextlib.suppress(Killed), store.engine.begin() as connection:
        connection.execute(schema.sites.update().values(state="revoked"))
        journal.append(connection, schema.journal, actor="operator", action="revoke-site", subject="north")
        raise Killed
    assert store.site("north").state == "active"
    assert store.journal() == before


def test_what_was_written_is_there_after_a_restart_and_more_can_be_written(store: Store, database: Database) -> None:
    sha256 = incoming(store)
    database.restart()
    # The same store, whose connections were cut, and one that opens afresh.
    for opened in (store, database.open()):
        found = opened.bundle(sha256)
        assert found is not None
        assert bytes(found.manifest) == b"manifest"
    assert store.accept_bundle(sha256, b"receipt", b"1", site="north") == (b"receipt", b"1")
    database.restart()
    assert journal.verify(database.open().journal()) == store.journal()[-1].sha256


def test_bundles_are_counted_by_state_and_the_journal_by_its_entries(store: Store) -> None:
    assert bundles_by_state(store) == dict.fromkeys(STATES, 0)
    assert journal_entries(store) == 0
    for name in ("one", "two", "three"):
        incoming(store, name)
    store.accept_bundle(digest("one"), b"receipt", b"1", site="north")
    store.quarantine_bundle(digest("two"), "pairs.not-png", site="north")
    assert bundles_by_state(store) == {"incoming": 1, "accepted": 1, "quarantined": 1, "revoked": 0}
    assert journal_entries(store) == len(store.journal())
