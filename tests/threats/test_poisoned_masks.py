"""T11: masks in good form that are not their images': reported, and never admitted without a word."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.admission import DOUBT, Admission
from coordinator.doubts import FEWEST, masks_are_doubtful, reached_by_chance
from coordinator.reading import study_status
from coordinator.settings import Home, Settings
from coordinator.store.objects import ObjectStore
from coordinator.store.store import PublishedStudy, Site, Store
from shared.documents import canonical, sign
from shared.identity import new_signing_key, public_bytes
from shared.pairs import Pair, sha256_hex
from tests.helpers import manifest_of, png_objects, small_study
from tests.sites import signed


def lesions(count: int) -> list[Pair]:
    """Pairs whose lesion is a little brighter than its noisy surroundings."""
    random = np.random.default_rng(5)
    rows, columns = np.mgrid[0:32, 0:32]
    pairs = []
    for _ in range(count):
        (y, x), radius = random.integers(6, 26, 2), random.integers(4, 9)
        lesion = np.hypot(rows - y, columns - x) < radius
        image = random.normal(110, 30, (32, 32, 3)) + random.normal(0, 20, 3) + 20 * lesion[:, :, None]
        pairs.append(Pair(np.clip(image, 0, 255).astype(np.uint8), np.where(lesion, 255, 0).astype(np.uint8)))
    return pairs


def exchanged(pairs: list[Pair]) -> list[Pair]:
    """Every image with the next one's mask."""
    return [Pair(pair.image, other.mask) for pair, other in zip(pairs, pairs[1:] + pairs[:1], strict=True)]


def the_same(pairs: list[Pair]) -> list[Pair]:
    """Every image with one mask."""
    return [Pair(pair.image, pairs[0].mask) for pair in pairs]


@pytest.mark.parametrize("poison", [exchanged, the_same])
def test_masks_that_are_not_their_images_are_told_of(poison: Callable[[list[Pair]], list[Pair]]) -> None:
    pairs = lesions(24)
    assert not masks_are_doubtful(pairs)
    assert masks_are_doubtful(poison(pairs))
    assert not masks_are_doubtful(poison(pairs)[: FEWEST - 1]), "too few to tell"


@settings(max_examples=30)
@given(st.permutations(range(24)))
def test_in_which_order_pairs_come_does_not_make_good_masks_doubtful(order: list[int]) -> None:
    pairs = lesions(24)
    assert reached_by_chance([pairs[number] for number in order]) == 1 / 24


def test_a_bundle_of_such_masks_is_admitted_with_an_entry_and_counted_in_the_status(tmp_path: Path) -> None:
    home = Home(tmp_path / "coordinator")
    home.create(Settings(name="test"))
    store, key, site_key = Store(home.database_url()), new_signing_key(), new_signing_key()
    admission = Admission(store, ObjectStore(home.objects_url()), key, home.incoming, home.quarantine)
    study = small_study()
    payload, signature = signed(key, study)
    store.publish(PublishedStudy(sha256_hex(payload), payload, signature), actor="operator")
    store.invite("north", "0" * 64, timedelta(hours=1), actor="operator")
    store.enrol("0" * 64, Site("north", "active", "1", public_bytes(site_key.public_key()), b"f", 1))
    sent = []
    for number, pairs in enumerate((lesions(24), exchanged(lesions(24)))):
        entries, objects = png_objects(pairs)
        payload = canonical(manifest_of(study, "north", entries, release_id=f"release-{number}"))
        admission.begin("north", payload, sign(site_key, "manifest", payload))
        upload = admission.upload("north", sha256_hex(payload))
        for name, data in objects.items():
            upload.store_chunk(name, 0, data)
        admission.finish("north", sha256_hex(payload))
        sent.append(sha256_hex(payload))
    told = [(entry.subject, entry.detail) for entry in store.journal() if entry.action == DOUBT]
    assert told == [(sent[1], "north")]
    (line,) = study_status(home, study.study_id)["sites"]
    assert (line["bundles"], line["doubted"]) == (2, 1)
