"""T11: a site, hostile or broken, takes its share of the coordinator's disk and no more, and nobody else waits for it.

What a bundle takes is counted before anything of it lies there, and freed once nothing does. A site that is refused
loses nothing: its bundle waits in its outbox, and goes on by itself once the operator has made room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import coordinator.admission
import coordinator.limits
import coordinator.quarantine
from coordinator.capture import Capture
from coordinator.limits import MOST_UNFINISHED, Held, Limits
from coordinator.portable import Importer, Outcome
from coordinator.store import schema
from coordinator.store.shares import in_quarantine
from shared import journal
from shared.bundle import bundle_sha256
from shared.documents import canonical, sign
from site_node.jobs import Queue
from site_node.portable import export
from site_node.settings import Home
from tests.conformance.records import at_once
from tests.helpers import (
    caller,
    make_sealed,
    outbox_of,
    outbox_state,
    refused,
    signing_key,
)
from tests.loopback import code_of
from tests.shares import FEW, Bundle, Here, begun, good, quarantined, size_of, take_back, with_limits

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """Where three unfinished bundles of a site are the most."""
    with with_limits(tmp_path, FEW) as made:
        yield made


def begin_of(here: Here, admission: Any, site: Home, bundle: Bundle) -> Callable[[], str]:
    """One Begin, to be made at any time; the code with which it ends."""
    payload = canonical(bundle[0])
    return partial(
        code_of, partial(admission.begin, bundle[0].site, payload, sign(signing_key(site), "manifest", payload))
    )


# How many


def test_a_site_begins_so_many_bundles_and_no_more_and_another_is_served_meanwhile(here: Here) -> None:
    sent = {begun(here, here.mallory, good(here.study, "mallory", number)) for number in range(FEW.unfinished)}
    with caller(here.mallory) as mallory, refused("admission.share"):
        mallory.begin_sealed(here.mallory, good(here.study, "mallory", 9)[0])
    assert here.folders() == set(here.coordinator.actions("begin-bundle")) == sent
    healthy = good(here.study, "healthy", 1)
    with caller(here.healthy) as client:
        assert client.send_all(here.healthy, *healthy).receipt.payload
    assert here.coordinator.accepted() == [bundle_sha256(healthy[0])]


def test_of_many_that_begin_at_once_only_so_many_get_in(here: Here) -> None:
    """Through the service and through an import, which are two processes with nothing in common but the database."""
    admissions = [here.coordinator.admission(), here.coordinator.admission()]
    calls = [
        begin_of(here, admissions[number % 2], here.mallory, good(here.study, "mallory", number))
        for number in range(12)
    ]
    assert sorted(at_once(calls)) == [""] * FEW.unfinished + ["admission.share"] * (12 - FEW.unfinished)
    assert len(here.folders()) == len(here.coordinator.actions("begin-bundle")) == FEW.unfinished
    journal.verify(here.coordinator.store.journal())


def test_what_is_accepted_or_taken_back_makes_room_and_what_is_refused_does_not(here: Here) -> None:
    quarantined(here, here.mallory, 1)
    halfway = begun(here, here.mallory, good(here.study, "mallory", 2))
    for number in (3, 4, 5):
        with caller(here.mallory) as client:
            client.send_all(here.mallory, *good(here.study, "mallory", number))
    quarantined(here, here.mallory, 6)
    with caller(here.mallory) as client, refused("admission.share"):
        client.begin_sealed(here.mallory, good(here.study, "mallory", 7)[0])
    take_back(here, here.mallory, halfway)
    begun(here, here.mallory, good(here.study, "mallory", 7))


def test_a_bundle_that_has_begun_begins_again_however_full_the_share_is(tmp_path: Path) -> None:
    with with_limits(tmp_path, FEW) as here:
        bundle = good(here.study, "mallory", 1)
        here.coordinator.limits = Limits(unfinished=1, share_bytes=size_of(bundle), reserve_bytes=0)
        here.coordinator.restart()
        for _ in range(3):
            begun(here, here.mallory, bundle)
        with caller(here.mallory) as client:
            assert client.send_all(here.mallory, *bundle).receipt.payload
            assert client.begin_sealed(here.mallory, bundle[0]).receipt.payload
        assert here.coordinator.actions("begin-bundle") == [bundle_sha256(bundle[0])]
        assert here.bytes_of("mallory") == size_of(bundle)


def test_refused_bundles_that_their_site_takes_back_stay_counted(here: Here) -> None:
    """Or a site could fill quarantine over and over again."""
    sent = [quarantined(here, here.mallory, number) for number in range(FEW.unfinished)]
    for sha256 in sent:
        take_back(here, here.mallory, sha256)
    with caller(here.mallory) as client, refused("admission.share"):
        client.begin_sealed(here.mallory, good(here.study, "mallory", 9)[0])
    assert {line.sha256 for line in in_quarantine(here.coordinator.store)} == here.folders() == set(sent)


# How much


def test_a_share_is_counted_in_bytes_of_all_that_a_site_has_here(tmp_path: Path) -> None:
    with with_limits(tmp_path, FEW) as here:
        first, second = good(here.study, "mallory", 1), good(here.study, "mallory", 2)
        here.coordinator.limits = Limits(share_bytes=size_of(first) + size_of(second) - 1, reserve_bytes=0)
        here.coordinator.restart()
        with caller(here.mallory) as client:
            client.send_all(here.mallory, *first)
        assert here.bytes_of("mallory") == size_of(first)
        take_back(here, here.mallory, bundle_sha256(first[0]))
        assert here.bytes_of("mallory") == size_of(first), "what was accepted may be in a dataset, and stays"
        with caller(here.mallory) as client, refused("admission.share"):
            client.begin_sealed(here.mallory, second[0])
        assert here.coordinator.store.bundle(bundle_sha256(second[0])) is None
        here.coordinator.limits = Limits(share_bytes=size_of(first) + size_of(second), reserve_bytes=0)
        here.coordinator.restart()
        with caller(here.mallory) as client:
            assert client.send_all(here.mallory, *second).receipt.payload


def test_what_never_arrives_is_counted_as_it_was_stated_and_freed_when_it_is_taken_back(here: Here) -> None:
    bundle = good(here.study, "mallory", 1)
    sha256 = begun(here, here.mallory, bundle)
    assert here.bytes_of("mallory") == size_of(bundle)
    for _ in range(2):
        take_back(here, here.mallory, sha256)
    # The manifest stays in the database: a site that begins and takes back without end comes to its share as well.
    assert here.bytes_of("mallory") == len(canonical(bundle[0]))
    assert here.coordinator.actions("delete-bundle") == [sha256]


@pytest.mark.parametrize(
    ("held", "more", "code"),
    [
        (Held(), 10, ""),
        (Held(), 11, "admission.share"),
        (Held(unfinished=1, bytes=4), 6, ""),
        (Held(unfinished=1, bytes=4), 7, "admission.share"),
        (Held(unfinished=2, bytes=4), 1, "admission.share"),
        (Held(unfinished=0, bytes=10), 0, ""),
        (Held(unfinished=0, bytes=12), 0, "admission.share"),  # of a share that was lowered
    ],
)
def test_where_the_limits_are(held: Held, more: int, code: str) -> None:
    assert code_of(lambda: Limits(unfinished=2, share_bytes=10).check_share("north", held, more)) == code


def test_an_honest_site_is_far_from_the_limit_that_the_product_sets() -> None:
    assert Limits().unfinished == MOST_UNFINISHED == 32


# Nothing is lost


def test_a_bundle_that_is_refused_for_want_of_a_share_goes_on_by_itself_once_there_is_room(here: Here) -> None:
    sent = [quarantined(here, here.mallory, number) for number in range(FEW.unfinished)]
    waits = make_sealed(here.mallory, *good(here.study, "mallory", 9))
    with outbox_of(here.mallory) as outbox:
        assert not outbox.send(waits)
        assert outbox_state(here.mallory, waits) == ("sending", ""), "the refusal is no last word"
        assert here.discard(sent[1])
        assert outbox.send(waits)
    assert outbox_state(here.mallory, waits) == ("accepted", "")
    assert here.coordinator.accepted() == [waits]


def test_a_medium_is_under_the_same_limits(here: Here, tmp_path: Path) -> None:
    sent = [quarantined(here, here.mallory, number) for number in range(FEW.unfinished)]
    waits = make_sealed(here.mallory, *good(here.study, "mallory", 9))
    stick = tmp_path / "stick"
    export(here.mallory, Queue(here.mallory.exchange), stick)

    def imported() -> list[Outcome]:
        importer = Importer(here.coordinator.store, here.coordinator.admission(), Capture(here.coordinator.capture))
        return importer.take_in(stick)

    assert imported() == [Outcome(waits, "refused", "admission.share")]
    here.discard(sent[0])
    assert imported() == [Outcome(waits, "accepted", "")]


# Room on the disk


def free_bytes(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """From now on the coordinator's disk has that much room."""
    usage = coordinator.limits.shutil.disk_usage("/")
    monkeypatch.setattr(coordinator.limits.shutil, "disk_usage", lambda _: usage._replace(free=count))


def test_a_bundle_that_would_not_leave_the_reserve_waits_and_nothing_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with with_limits(tmp_path, Limits(reserve_bytes=10**9)) as here:
        bundle = good(here.study, "mallory", 1)
        sha256, objects = make_sealed(here.mallory, *bundle), sum(bundle[0].objects().values())
        with monkeypatch.context() as full:
            free_bytes(full, 10**9 + objects - 1)
            with caller(here.mallory) as client, refused("storage.full"):
                client.begin_sealed(here.mallory, bundle[0])
            with outbox_of(here.mallory) as outbox:
                assert not outbox.send(sha256)
            assert here.folders() == set()
            assert here.coordinator.store.bundle(sha256) is None
        free_bytes(monkeypatch, 10**9 + objects)
        with outbox_of(here.mallory) as outbox:
            assert outbox.send(sha256)
        assert here.coordinator.accepted() == [sha256]


def test_a_chunk_that_would_not_leave_the_reserve_is_refused_and_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others have filled the disk since its Begin."""
    with with_limits(tmp_path, Limits(reserve_bytes=10**6)) as here:
        bundle = good(here.study, "mallory", 1)
        sha256 = make_sealed(here.mallory, *bundle)
        free_bytes(monkeypatch, 10**9)
        begun(here, here.mallory, bundle)
        name, data = next(iter(bundle[1].items()))
        with monkeypatch.context() as full, caller(here.mallory) as client:
            free_bytes(full, 10**6 + len(data) - 1)
            with refused("storage.full"):
                client.upload(sha256, [(name, 0, data)])
        assert not list((here.coordinator.folder / "incoming" / sha256 / "objects").iterdir())
        with outbox_of(here.mallory) as outbox:
            assert outbox.send(sha256)
        # All of it is there: what is to come takes no room, and what waits for its receipt is not refused.
        free_bytes(monkeypatch, 0)
        with caller(here.mallory) as client:
            assert client.begin_sealed(here.mallory, bundle[0]).receipt.payload


# Databases from before


def test_bundles_that_an_earlier_version_took_in_are_counted(here: Here) -> None:
    with caller(here.mallory) as client:
        client.send_all(here.mallory, *good(here.study, "mallory", 1))
    take_back(here, here.mallory, begun(here, here.mallory, good(here.study, "mallory", 2)))
    begun(here, here.mallory, good(here.study, "mallory", 3))
    quarantined(here, here.mallory, 4)
    store = here.coordinator.store

    def lines() -> list[tuple[Any, ...]]:
        with store.reading.begin() as connection:
            query = schema.shares.select().order_by(schema.shares.c.sha256)
            return [tuple(row) for row in connection.execute(query)]

    before = lines()
    with store.engine.begin() as connection:
        connection.execute(schema.shares.delete())
    here.coordinator.restart()
    assert lines() == before
    assert len(before) == 4
