"""T11, its second half: what a hostile site sends costs the coordinator no more memory and time than is stated here.

Whose bundles, names and signatures are refused, and sizes that lie object by object: test_hostile_site.py. Here the
services run in a process of their own, whose peak of memory is read from outside. After every attack nothing was
admitted, and a healthy site is still answered.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.release_service import _MOST_CALLS_OF_A_SITE
from shared.bundle import Manifest, PairEntry, bundle_sha256
from shared.documents import canonical, sign
from shared.errors import SynthwardError
from shared.pairs import sha256_hex
from shared.png import MAX_PNG_BYTES, decode_png, encode_png
from shared.study import Study
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from shared.wire.status import error_from
from site_node.link.channel import release_channel
from site_node.settings import Home
from tests.coordinator_alone import LARGE, Alone, coordinator_alone
from tests.helpers import (
    caller,
    manifest_of,
    noise_pair,
    png_objects,
    raw_entry,
    refused,
    signing_key,
    until,
)
from tests.hostile_documents import COSTLY, HUNDRED_MB
from tests.hostile_pngs import HOSTILE, bomb, pickled
from tests.spent import forget_peak, peak_mb

MOST_MB = 300  # that the services may need over what they have when idle, for any one call
MOST_MB_OF_A_SITE = 600  # for as many calls as one site may have open: their messages, and one at a time is parsed
MOST_S = 30.0  # until an attack is refused, on a machine that has other work
REFUSALS = {"pairs.not-png", "pairs.too-large", "pairs.not-canonical"}
# gRPC refuses a larger message by itself; which code the caller sees is its affair.
TOO_LARGE_TO_SEND = 20 * 1024 * 1024


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alone]:
    """A coordinator with two sites: mallory, and one that is healthy."""
    with coordinator_alone(tmp_path_factory.mktemp("alone"), ["mallory", "healthy"]) as started:
        manifest, objects = honest(started.studies["trial"], 1)
        with caller(started.sites["healthy"]) as healthy:  # what the first bundle needs is needed once
            healthy.send_all(started.sites["healthy"], manifest, objects)
        yield started


@pytest.fixture
def mallory(alone: Alone) -> Home:
    return alone.sites["mallory"]


def honest(study: Study, seed: int, site: str = "healthy") -> tuple[Manifest, dict[str, bytes]]:
    """A bundle that is accepted."""
    entries, objects = png_objects([noise_pair(seed), noise_pair(seed + 1000)])
    return manifest_of(study, site, entries, release_id=f"release-{seed}"), objects


@pytest.fixture(autouse=True)
def _bounded(alone: Alone, request: pytest.FixtureRequest) -> Iterator[None]:
    """Around each test: memory and time, nothing of mallory's admitted, and a healthy site is served."""
    stored, idle, started = alone.objects(), forget_peak(alone.pid), time.monotonic()
    yield
    spent_s, spent_mb = time.monotonic() - started, peak_mb(alone.pid) - idle
    assert spent_mb < (MOST_MB_OF_A_SITE if "over_many_calls" in request.node.name else MOST_MB)
    assert spent_s < MOST_S
    assert alone.objects() == stored
    assert all(row.site != "mallory" for study in alone.store.studies() for row in accepted(alone, study.sha256))
    manifest, objects = honest(alone.studies["trial"], 2 + abs(hash(request.node.name)) % 10**6)
    with caller(alone.sites["healthy"]) as healthy:
        assert healthy.send_all(alone.sites["healthy"], manifest, objects).receipt.payload


def accepted(alone: Alone, study_sha256: str) -> Sequence[object]:
    return alone.store.bundles(study_sha256, "accepted")


def quarantined(alone: Alone) -> dict[str, str]:
    """Bundle -> code of all that are in quarantine."""
    studies = alone.store.studies()
    return {row.sha256: row.code for study in studies for row in alone.store.bundles(study.sha256, "quarantined")}


# Documents


@pytest.mark.parametrize("name", COSTLY)
def test_a_costly_manifest_is_refused(alone: Alone, mallory: Home, name: str) -> None:
    manifest, _ = honest(alone.studies["trial"], 1, "mallory")
    payload = COSTLY[name](canonical(manifest))
    signature = sign(signing_key(mallory), "manifest", payload)
    code = "unavailable.service" if len(payload) > TOO_LARGE_TO_SEND else "document.malformed"
    with caller(mallory) as hostile, refused(code):
        hostile.begin(payload, signature)
    assert not (alone.folder / "incoming" / bundle_sha256(manifest)).exists()


def test_costly_manifests_over_many_calls_at_once_need_no_more_than_a_few_do(alone: Alone, mallory: Home) -> None:
    payload = COSTLY["as many objects as are let in"](b"")
    codes: list[str] = []

    def attack() -> None:
        try:
            with caller(mallory) as hostile:
                hostile.begin(payload, bytes(64))
        except SynthwardError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=attack) for _ in range(_MOST_CALLS_OF_A_SITE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(codes) == len(threads)
    assert set(codes) == {"document.malformed"}


# A million small files


def many_entries(count: int) -> list[PairEntry]:
    """Pairs that nobody has, each of the fewest bytes that an object may have."""
    return [
        PairEntry(image=f"{2 * n:064x}", mask=f"{2 * n + 1:064x}", image_bytes=33, mask_bytes=33) for n in range(count)
    ]


def test_one_pair_more_than_agreed_is_refused_before_anything_is_made(alone: Alone, mallory: Home) -> None:
    study = alone.studies["trial"]
    manifest = manifest_of(study, "mallory", many_entries(study.release.max_pairs + 1))
    with caller(mallory) as hostile, refused("admission.size"):
        hostile.begin_sealed(mallory, manifest)
    assert not (alone.folder / "incoming" / bundle_sha256(manifest)).exists()


def test_a_manifest_of_a_million_files_does_not_get_in(alone: Alone, mallory: Home) -> None:
    """100,000 pairs are the most that any manifest names; half a million would be 90 MB of it."""
    fields = manifest_of(alone.studies[LARGE], "mallory", many_entries(1)).model_dump(mode="json")
    line = canonical(PairEntry.model_validate(fields["pairs"][0]))
    payload = canonical(Manifest.model_validate(fields)).replace(line, b",".join([line] * 500_000))
    assert len(payload) < HUNDRED_MB
    with caller(mallory) as hostile, refused("unavailable.service"):
        hostile.begin(payload, sign(signing_key(mallory), "manifest", payload))


def test_as_many_small_files_as_a_manifest_can_name_are_taken_one_by_one(alone: Alone, mallory: Home) -> None:
    """80,000 pairs in 16 MB: what is asked back is their names, and nothing else comes of them."""
    entries = many_entries(2)
    one, other = (canonical(line) for line in entries)
    number, count = b"%064x", 80_000
    line = one.replace(number % 0, number).replace(number % 1, number)
    many = b",".join(line % (2 * n, 2 * n + 1) for n in range(count))
    payload = canonical(manifest_of(alone.studies[LARGE], "mallory", entries)).replace(one + b"," + other, many)
    with caller(mallory) as hostile:
        missing = hostile.begin(payload, sign(signing_key(mallory), "manifest", payload)).missing
    assert [item.sha256 for item in missing] == [f"{n:064x}" for n in range(2 * count)]
    assert not list((alone.folder / "incoming" / sha256_hex(payload) / "objects").iterdir())


# Sizes that lie


@pytest.mark.parametrize("stated", [0, 32, MAX_PNG_BYTES + 1, 2**63])
def test_an_object_of_a_size_that_none_has_is_refused(alone: Alone, mallory: Home, stated: int) -> None:
    manifest, _ = honest(alone.studies["trial"], 1, "mallory")
    size = manifest.pairs[0].image_bytes
    payload = canonical(manifest).replace(b'"image_bytes":%d' % size, b'"image_bytes":%d' % stated, 1)
    with caller(mallory) as hostile, refused("document.malformed"):
        hostile.begin(payload, sign(signing_key(mallory), "manifest", payload))


def test_more_bytes_in_all_than_any_bundle_has_are_refused(alone: Alone, mallory: Home) -> None:
    study = alone.studies["trial"]
    largest = {"image_bytes": MAX_PNG_BYTES, "mask_bytes": MAX_PNG_BYTES}
    entries = [line.model_copy(update=largest) for line in many_entries(5_000)]
    with caller(mallory) as hostile, refused("admission.size"):
        hostile.begin_sealed(mallory, manifest_of(study, "mallory", entries))


def test_one_object_of_two_sizes_is_refused(alone: Alone, mallory: Home) -> None:
    first, second = many_entries(2)
    entries = [first, second.model_copy(update={"mask": first.mask, "mask_bytes": 34})]
    with caller(mallory) as hostile, refused("document.malformed"):
        hostile.begin_sealed(mallory, manifest_of(alone.studies["trial"], "mallory", entries))


# Streams


def test_uploads_that_are_opened_and_left_keep_nobody_out(alone: Alone, mallory: Home) -> None:
    """More than one site may have open: those beyond are refused, and the healthy site is served meanwhile."""
    left = threading.Event()

    def silent() -> Iterator[pb.Chunk]:
        left.wait()
        yield from ()

    with release_channel(mallory) as channel:
        stub = rpc.ReleasesStub(channel)  # type: ignore[no-untyped-call]
        calls = [stub.Upload.future(silent()) for _ in range(40)]
        try:
            until(lambda: sum(call.done() for call in calls) >= len(calls) - _MOST_CALLS_OF_A_SITE)
            manifest, _ = honest(alone.studies["trial"], 1)
            with caller(alone.sites["healthy"]) as other:
                assert other.begin_sealed(alone.sites["healthy"], manifest).receipt.payload
            refusals = [error_from(call.exception()).code for call in calls if call.done()]
        finally:
            left.set()
        assert refusals == ["unavailable.busy"] * (len(calls) - _MOST_CALLS_OF_A_SITE)
        assert sum(call.exception() is None for call in calls) == _MOST_CALLS_OF_A_SITE


def test_a_stream_of_empty_chunks_ends_with_its_first(alone: Alone, mallory: Home) -> None:
    manifest, objects = honest(alone.studies["trial"], 8, "mallory")
    with caller(mallory) as hostile:
        hostile.begin_sealed(mallory, manifest)
        with refused("admission.size"):
            hostile.upload(bundle_sha256(manifest), [(name, 0, b"") for name in objects])


# Files that are no PNG, or one that costs more than it says


def test_every_costly_or_ambiguous_file_is_quarantined(alone: Alone, mallory: Home, tmp_path: Path) -> None:
    study, before = alone.studies["trial"], quarantined(alone)
    hostile_files = {name: make() for name, make in HOSTILE.items()} | {"a pickle": pickled(tmp_path / "executed")}
    sent = {}
    with caller(mallory) as hostile:
        for name, data in hostile_files.items():
            line, objects = raw_entry(data)
            manifest = manifest_of(study, "mallory", [line])
            sent[bundle_sha256(manifest)] = name
            with pytest.raises(SynthwardError) as caught:
                hostile.send_all(mallory, manifest, objects)
            assert caught.value.code in REFUSALS, name
    found = {sent[sha256]: code for sha256, code in quarantined(alone).items() if sha256 not in before}
    assert found.keys() == hostile_files.keys()
    assert set(found.values()) == REFUSALS
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", [name for name in HOSTILE if "second header" in name or "700,000" in name])
def test_what_a_decoder_would_work_on_for_seconds_is_refused_before_it_sees_it(name: str) -> None:
    data, idle, started = HOSTILE[name](), forget_peak(), time.process_time()
    with refused("pairs.not-canonical"):
        decode_png(data, max_side_px=512)
    assert time.process_time() - started < 0.5
    assert peak_mb() - idle < 50


CANONICAL = encode_png(noise_pair(3).image)


@settings(max_examples=200)
@given(st.integers(0, len(CANONICAL) - 1), st.integers(1, 255))
def test_no_byte_of_a_png_can_be_another(position: int, change: int) -> None:
    changed = bytearray(CANONICAL)
    changed[position] ^= change
    with pytest.raises(SynthwardError) as caught:
        decode_png(bytes(changed))
    assert caught.value.code in REFUSALS


# Masks that no screening lets out (those that are not their images': test_poisoned_masks.py)


@pytest.mark.parametrize("value", [0, 255])
def test_a_mask_that_marks_nothing_or_everything_is_quarantined(alone: Alone, mallory: Home, value: int) -> None:
    """A site's screening drops these, so one that sends them has not screened."""
    poisoned = encode_png(np.full((32, 32), value, np.uint8))
    entries, objects = png_objects([noise_pair(11), noise_pair(12)])
    line, bad = raw_entry(encode_png(noise_pair(13 + value).image), poisoned)
    manifest = manifest_of(alone.studies["trial"], "mallory", sorted([*entries, line], key=lambda e: e.image))
    with caller(mallory) as hostile, refused("pairs.mask-constant"):
        hostile.send_all(mallory, manifest, objects | bad)
    assert quarantined(alone)[bundle_sha256(manifest)] == "pairs.mask-constant"


def test_a_mask_of_another_size_is_quarantined(alone: Alone, mallory: Home) -> None:
    line, objects = raw_entry(encode_png(noise_pair(21).image), encode_png(noise_pair(22, size_px=64).mask))
    with caller(mallory) as hostile, refused("pairs.too-large"):
        hostile.send_all(mallory, manifest_of(alone.studies["trial"], "mallory", [line]), objects)


def test_an_image_in_the_place_of_a_mask_is_quarantined(alone: Alone, mallory: Home) -> None:
    line, objects = raw_entry(encode_png(noise_pair(23).image), encode_png(noise_pair(24).image))
    with caller(mallory) as hostile, refused("pairs.shape"):
        hostile.send_all(mallory, manifest_of(alone.studies["trial"], "mallory", [line]), objects)


def test_the_attacks_of_these_tests_would_cost_that_much_if_they_were_unpacked() -> None:
    stream = bomb(64 * 1024 * 1024)
    assert len(stream) < 100_000
    assert zlib.decompress(stream) == bytes(64 * 1024 * 1024)
