"""Datasets: immutable versions of what was accepted, and nothing of what was refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from coordinator.datasets.build import build, load, read_pair
from coordinator.datasets.export import export
from shared.bundle import entry, sorted_entries
from shared.errors import SynthwardError
from shared.png import decode_png, encode_png
from shared.study import Study
from tests.helpers import (
    Coordinator,
    make_sealed,
    manifest_of,
    noise_pair,
    outbox_of,
    outbox_state,
    png_objects,
    raw_entry,
    small_study,
)


@pytest.fixture
def study(coordinator: Coordinator) -> Study:
    return coordinator.publish(small_study())


def release(coordinator: Coordinator, study: Study, folder: Path, site: str, seeds: range) -> str:
    """A site that joins and sends a release; the bundle's digest."""
    home = coordinator.join(folder / site, site)
    entries, objects = png_objects([noise_pair(seed) for seed in seeds])
    sha256 = make_sealed(home, manifest_of(study, site, entries), objects)
    with outbox_of(home) as outbox:
        assert outbox.send(sha256)
    return sha256


def sha256_of(coordinator: Coordinator, study: Study) -> str:
    return coordinator.store.study(study.study_id).sha256


def test_a_dataset_without_a_release_is_refused(coordinator: Coordinator, study: Study) -> None:
    with pytest.raises(SynthwardError) as caught:
        build(coordinator.store, sha256_of(coordinator, study), actor="operator")
    assert caught.value.code == "dataset.empty"


def test_the_same_releases_give_the_same_version_and_more_give_the_next(
    coordinator: Coordinator, study: Study, tmp_path: Path
) -> None:
    name = sha256_of(coordinator, study)
    release(coordinator, study, tmp_path, "north", range(3))
    first = build(coordinator.store, name, actor="operator")
    assert build(coordinator.store, name, actor="operator") == first
    release(coordinator, study, tmp_path, "harbour", range(10, 12))
    version, _, dataset = build(coordinator.store, name, actor="operator")
    assert (first[0], version) == (1, 2)
    assert [len(dataset.of_site(site)) for site in ("north", "harbour")] == [3, 2]
    assert load(coordinator.store, name, 1) == (1, first[2]), "an older version stays as it was"
    assert load(coordinator.store, name, 0)[0] == 2


def test_an_export_holds_the_pairs_and_what_is_claimed_of_them(
    coordinator: Coordinator, study: Study, tmp_path: Path
) -> None:
    release(coordinator, study, tmp_path, "north", range(3))
    version, _, dataset = build(coordinator.store, sha256_of(coordinator, study), actor="operator")
    target = tmp_path / "out"
    export(coordinator.objects, dataset, study, version, target)
    with (target / "index.csv").open(newline="") as file:
        stems = [line["stem"] for line in csv.DictReader(file)]
    assert stems == ["north-00001", "north-00002", "north-00003"]
    shown = {decode_png((target / "images" / f"{stem}.png").read_bytes()).tobytes() for stem in stems}
    assert shown == {noise_pair(seed).image.tobytes() for seed in range(3)}
    text = (target / "README.txt").read_text()
    assert "without a formal guarantee" in text
    assert "Not covered" in text
    with pytest.raises(SynthwardError) as caught:
        export(coordinator.objects, dataset, study, version, target)
    assert caught.value.code == "settings.exists"


def test_an_object_that_changed_in_the_store_is_never_handed_on(
    coordinator: Coordinator, study: Study, tmp_path: Path
) -> None:
    release(coordinator, study, tmp_path, "north", range(2))
    version, _, dataset = build(coordinator.store, sha256_of(coordinator, study), actor="operator")
    objects = coordinator.objects
    victim = next(coordinator.folder.rglob(f"{dataset.pairs[0].image}.png"))
    victim.write_bytes(encode_png(noise_pair(99).image))
    with pytest.raises(SynthwardError) as caught:
        read_pair(objects, dataset.pairs[0])
    assert caught.value.code == "storage.damaged"
    with pytest.raises(SynthwardError):
        export(objects, dataset, study, version, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_release_that_is_refused_at_one_object_leaves_nothing_in_the_store(
    coordinator: Coordinator, study: Study, tmp_path: Path
) -> None:
    home = coordinator.join(tmp_path / "north", "north")
    made = [
        *(entry(noise_pair(seed)) for seed in range(4)),
        raw_entry(b"\x80\x04 this is a pickle, not a picture" + b" " * 40),
    ]
    objects = {name: data for _, found in made for name, data in found.items()}
    sha256 = make_sealed(home, manifest_of(study, "north", sorted_entries(line for line, _ in made)), objects)
    with outbox_of(home) as outbox:
        outbox.send(sha256)
    assert outbox_state(home, sha256) == ("refused", "pairs.not-png")
    assert coordinator.stored_objects() == set()
    with pytest.raises(SynthwardError):
        build(coordinator.store, sha256_of(coordinator, study), actor="operator")
