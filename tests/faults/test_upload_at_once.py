"""Many calls at once take no thread that others need; a kill at an object's last byte costs that object alone."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coordinator.seats import Seats
from shared.bundle import Manifest, bundle_sha256, object_path
from shared.study import Study
from site_node.settings import Home
from tests.helpers import (
    Coordinator,
    caller,
    chunks_of,
    make_sealed,
    manifest_of,
    noise_pair,
    outbox_of,
    png_objects,
    refused,
    small_study,
    until,
)

pytestmark = pytest.mark.usefixtures("impatient")
MOST = 8  # as coordinator/release_service.py has it


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(small_study())


@pytest.fixture
def north(coordinator: Coordinator, tmp_path: Path) -> Home:
    return coordinator.join(tmp_path / "north", "north")


def test_a_site_that_keeps_calls_open_is_refused_more_and_disturbs_nobody(
    coordinator: Coordinator, study: Study, north: Home, tmp_path: Path
) -> None:
    entries, objects = png_objects([noise_pair(1)])
    manifest = manifest_of(study, "north", entries)
    go_on, started = threading.Event(), []
    name, data = next(iter(objects.items()))

    def slow() -> Iterator[tuple[str, int, bytes]]:
        started.append(1)
        go_on.wait(30)
        yield from chunks_of(name, data)

    def is_busy(call: Callable[[], object]) -> bool:
        try:
            call()
        except Exception as error:  # noqa: BLE001
            return getattr(error, "code", "") == "unavailable.busy"
        return False

    with caller(north) as hostile, ThreadPoolExecutor(MOST) as pool:
        hostile.begin_sealed(north, manifest)

        def keep_open() -> None:
            # Again and again: the call before may still have its seat, and whoever asks below takes one for a moment.
            while not go_on.is_set() and is_busy(lambda: hostile.upload(bundle_sha256(manifest), slow())):
                pass

        uploads = [pool.submit(keep_open) for _ in range(MOST)]
        until(lambda: len(started) >= MOST)
        until(lambda: is_busy(lambda: hostile.begin_sealed(north, manifest)))
        other = coordinator.join(tmp_path / "south", "south")
        theirs, found = png_objects([noise_pair(2)])
        with caller(other) as honest:
            assert honest.send_all(other, manifest_of(study, "south", theirs), found).receipt.payload
        go_on.set()
        for upload in uploads:
            upload.result(timeout=30)  # of calls that send the same object, some are told that they come too late
    with caller(north) as again:
        assert again.send_all(north, manifest, objects).receipt.payload


def test_who_was_refused_a_seat_has_none_to_leave() -> None:
    seats = Seats(2)
    seats.take("north")
    seats.take("north")
    with refused("unavailable.busy"):
        seats.take("north")
    seats.take("south")
    seats.leave("north")
    seats.take("north")


def test_a_kill_between_an_objects_last_byte_and_its_check_costs_that_object_alone(
    coordinator: Coordinator, study: Study, north: Home
) -> None:
    entries, objects = png_objects([noise_pair(1), noise_pair(2)])
    manifest = manifest_of(study, "north", entries)
    sha256 = make_sealed(north, manifest, objects)
    with caller(north) as site:
        site.begin_sealed(north, manifest)
    # What such a kill leaves: every byte, and not yet the name of an object that was checked.
    name, data = sorted(objects.items())[0]
    object_path(coordinator.folder / "incoming" / sha256, name).with_suffix(".part").write_bytes(data)
    coordinator.restart()
    with outbox_of(north) as outbox:
        assert outbox.send(sha256)
    assert coordinator.accepted() == [sha256]
    assert coordinator.stored_objects() == set(objects)


def test_a_large_bundle_takes_turns_with_small_ones(
    coordinator: Coordinator, study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests, sites = {}, {}
    for site_name, seeds in (("north", range(40)), ("south", range(100, 102))):
        home = coordinator.join(tmp_path / site_name, site_name)
        entries, objects = png_objects([noise_pair(seed) for seed in seeds])
        manifests[site_name], sites[site_name] = manifest_of(study, site_name, entries), home
        with caller(home) as site:
            site.begin_sealed(home, manifests[site_name])
            sha256 = bundle_sha256(manifests[site_name])
            site.upload(sha256, [chunk for name, data in objects.items() for chunk in chunks_of(name, data)])
    go_on, checked = threading.Event(), []

    def slow(data: bytes, manifest: Manifest, *, as_mask: bool) -> None:
        checked.append(manifest.site)
        if manifest.site == "north":
            go_on.wait(30)
        elif not go_on.is_set():
            checked.append("south, before north was through")

    monkeypatch.setattr("coordinator.admission.check_object", slow)
    monkeypatch.setattr("coordinator.admission._DECODED_TOGETHER", 1)  # fewer than there are threads, on any machine
    with caller(sites["north"]) as north, caller(sites["south"]) as south, ThreadPoolExecutor(1) as pool:
        whole = pool.submit(north.finish, bundle_sha256(manifests["north"]))
        until(lambda: "north" in checked)
        if os.cpu_count() != 1:
            assert south.finish(bundle_sha256(manifests["south"])).receipt.payload
            assert "south, before north was through" in checked
        go_on.set()
        assert whole.result(timeout=30).receipt.payload
