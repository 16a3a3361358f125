"""T11: what was refused is kept until the operator discards it, what was halfway until a day after its study closed.

Both count for their site's share as long as anything of them may still lie there (test_share_of_a_site.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import coordinator.admission
import coordinator.limits
import coordinator.quarantine
from coordinator.store.shares import in_quarantine
from shared.bundle import bundle_sha256
from shared.documents import canonical
from tests.helpers import (
    caller,
    chunks_of,
    refused,
)
from tests.shares import FEW, Here, bad, begun, good, quarantined, take_back, with_limits

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    """Where three unfinished bundles of a site are the most."""
    with with_limits(tmp_path, FEW) as made:
        yield made


# Quarantine


def test_a_discarded_bundle_is_gone_and_never_accepted(here: Here) -> None:
    sha256 = quarantined(here, here.mallory, 1)
    bundle = bad(here.study, "mallory", 1)
    assert here.discard(sha256)
    assert not here.discard(sha256), "a second time is no news"
    assert here.folders() == set()
    assert here.bytes_of("mallory") == len(canonical(bundle[0]))
    here.coordinator.restart()
    with caller(here.mallory) as client:
        for call in (
            lambda: client.begin_sealed(here.mallory, bundle[0]),
            lambda: client.upload(sha256, [chunk for each in bundle[1].items() for chunk in chunks_of(*each)]),
            lambda: client.finish(sha256),
        ):
            with refused("admission.quarantined"):
                call()
    assert here.coordinator.accepted() == []
    assert here.folders() == set()
    assert here.coordinator.actions("discard-bundle") == [sha256]


@pytest.mark.parametrize("killed_before", ["anything is deleted", "all is deleted", "it is written down"])
def test_a_discard_that_is_killed_is_done_again(
    here: Here, monkeypatch: pytest.MonkeyPatch, killed_before: str
) -> None:
    class Killed(BaseException):
        pass

    def dies(*arguments: Any, **_: Any) -> bool:
        if killed_before == "all is deleted":
            (arguments[0] / "manifest.json").unlink()
        raise Killed

    sha256 = quarantined(here, here.mallory, 1)
    before = here.bytes_of("mallory")
    step = "free" if killed_before == "it is written down" else "delete_folder"
    with monkeypatch.context() as killing:
        killing.setattr(coordinator.quarantine, step, dies)
        with pytest.raises(Killed):
            here.discard(sha256)
    assert here.bytes_of("mallory") == before, "counted as long as something may lie there"
    assert [line.sha256 for line in in_quarantine(here.coordinator.store)] == [sha256]
    assert here.discard(sha256)
    assert here.folders() == set()
    assert here.coordinator.actions("discard-bundle") == [sha256]


def test_nothing_but_what_lies_in_quarantine_is_discarded(here: Here) -> None:
    accepted, halfway = good(here.study, "mallory", 1), good(here.study, "mallory", 2)
    with caller(here.mallory) as client:
        client.send_all(here.mallory, *accepted)
    begun(here, here.mallory, halfway)
    before, objects = here.folders(), here.coordinator.stored_objects()
    for name in (bundle_sha256(accepted[0]), bundle_sha256(halfway[0]), "0" * 64, "..", "../objects", ""):
        with refused("admission.not-quarantined"):
            here.discard(name)
    take_back(here, here.mallory, bundle_sha256(accepted[0]))
    with refused("admission.not-quarantined"):
        here.discard(bundle_sha256(accepted[0]))
    assert (here.folders(), here.coordinator.stored_objects()) == (before, objects)
    assert here.coordinator.actions("discard-bundle") == []


def test_what_cannot_be_deleted_stays_counted(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = quarantined(here, here.mallory, 1)
    before = here.bytes_of("mallory")
    with monkeypatch.context() as denied, refused("storage.denied"):
        denied.setattr("shared.files.shutil.rmtree", lambda *_, **__: None)
        here.discard(sha256)
    assert here.bytes_of("mallory") == before
    assert here.coordinator.actions("discard-bundle") == []


# Studies that have closed


def at(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """From now on it is that moment for admission."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return moment

    monkeypatch.setattr(coordinator.admission, "datetime", Then)


def test_what_was_halfway_when_its_study_closed_is_not_accepted_and_cleared_a_day_later(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = good(here.study, "mallory", 1)
    sha256 = begun(here, here.mallory, bundle)
    refused_before = quarantined(here, here.mallory, 2)
    with caller(here.mallory) as client:
        client.upload(sha256, [chunk for each in bundle[1].items() for chunk in chunks_of(*each)])
    admission, before = here.coordinator.admission(), here.bytes_of("mallory")
    with monkeypatch.context() as later:
        at(later, here.study.closes)
        with refused("policy.expired"):
            admission.finish("mallory", sha256)
        at(later, here.study.closes + timedelta(hours=23))
        admission.clear_closed()
        assert here.folders() == {sha256, refused_before}
        at(later, here.study.closes + timedelta(hours=25))
        for _ in range(2):
            admission.clear_closed()
    assert here.folders() == {refused_before}
    assert here.bytes_of("mallory") == before - sum(bundle[0].objects().values())
    assert here.coordinator.actions("delete-bundle") == [sha256]
    # It was the clock: the study is open after all.
    with caller(here.mallory) as client:
        assert client.send_all(here.mallory, *bundle).receipt.payload
    assert here.bytes_of("mallory") == before
    assert here.coordinator.accepted() == [sha256]


def test_a_bundle_that_was_cleared_needs_its_share_again(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    bundles = [good(here.study, "mallory", number) for number in range(FEW.unfinished + 1)]
    begun(here, here.mallory, bundles[0])
    with monkeypatch.context() as later:
        at(later, here.study.closes + timedelta(days=2))
        here.coordinator.admission().clear_closed()
    for bundle in bundles[1:]:
        begun(here, here.mallory, bundle)
    with caller(here.mallory) as client, refused("admission.share"):
        client.begin_sealed(here.mallory, bundles[0][0])
    sha256 = bundle_sha256(bundles[0][0])
    name, data = next(iter(bundles[0][1].items()))
    with caller(here.mallory) as client, refused("admission.incomplete"):
        client.upload(sha256, [(name, 0, data)])


def test_a_study_that_is_open_loses_nothing_at_a_clearing(here: Here) -> None:
    sha256 = begun(here, here.mallory, good(here.study, "mallory", 1))
    assert here.study.closes > datetime.now(UTC)
    here.coordinator.admission().clear_closed()
    assert here.folders() == {sha256}
