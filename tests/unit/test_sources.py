"""Where samples come from: memory that runs out, a card that goes away, and the life span of what was trained."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shared import journal as journals
from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.cases import PrivateStore, journal
from site_node.generators.cohort.generator import CohortGenerator
from site_node.generators.cohort.presets import COHORT_PRESETS, CohortPreset
from site_node.generators.cohort.training import train_cohort
from site_node.work import sources
from site_node.work.expiry import delete_expired
from site_node.work.machine import Workers
from site_node.work.sources import Source, source
from tests.helpers import noise_pair, small_study

TINY = replace(
    COHORT_PRESETS["demo"],
    layout_widths=(8, 8),
    layout_critic_widths=(8, 8),
    layout=replace(COHORT_PRESETS["demo"].layout, steps=1, batch=16),
    labeller_steps=0,
)
DAY_S = 86_400


@pytest.fixture
def store(tmp_path: Path) -> PrivateStore:
    store = PrivateStore(tmp_path)
    store.replace_cases(((f"patient-{i}", noise_pair(i)) for i in range(5)), actor="test")
    return store


Failing = Callable[[CohortPreset, str], Exception | None]


def trained_where(store: PrivateStore, patch: pytest.MonkeyPatch, failing: Failing, device: str = "auto") -> list[str]:
    """Trains with a machine that fails as told; what was tried, as "batch on device"."""
    tried: list[str] = []

    def train(pairs: list[Pair], preset: CohortPreset, *, device: str, **options: object) -> CohortGenerator:
        tried.append(f"{preset.layout.batch} on {device}")
        error = failing(preset, device)
        if error is not None:
            raise error
        return train_cohort(pairs, replace(preset, layout=replace(preset.layout, batch=2)), device="cpu", seed=0)

    patch.setitem(COHORT_PRESETS, "demo", TINY)
    patch.setattr(sources, "train_cohort", train)
    patch.setattr(sources, "pick_device", lambda setting: "cuda" if setting != "cpu" else "cpu")
    origin(store, device).train(lambda progress: None)
    return tried


def origin(store: PrivateStore, device: str = "cpu") -> Source:
    return source(store, small_study(), "ab" * 32, store.cases(), Workers(device=device))


def out_of_memory(preset: CohortPreset, device: str) -> Exception | None:
    return torch.OutOfMemoryError("CUDA out of memory") if preset.layout.batch > 4 else None


def test_where_memory_runs_out_the_batch_is_halved(store: PrivateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    assert trained_where(store, monkeypatch, out_of_memory) == ["16 on cuda", "8 on cuda", "4 on cuda"]


def test_memory_that_is_not_enough_for_the_smallest_batch_is_told(
    store: PrivateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SynthwardError) as caught:
        trained_where(store, monkeypatch, lambda preset, device: MemoryError(), device="cpu")

    assert caught.value.code == "training.memory"


def card_is_gone(preset: CohortPreset, device: str) -> Exception | None:
    return RuntimeError("CUDA error: unspecified launch failure") if device == "cuda" else None


def test_a_card_that_goes_away_leaves_the_work_to_the_processor_where_the_site_lets_it(
    store: PrivateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained_where(store, monkeypatch, card_is_gone) == ["16 on cuda", "16 on cpu"]


def test_a_card_that_was_asked_for_and_goes_away_stops_the_job(
    store: PrivateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SynthwardError) as caught:
        trained_where(store, monkeypatch, card_is_gone, device="cuda")

    assert caught.value.code == "training.device"


def test_an_error_of_another_kind_is_not_hidden(store: PrivateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        trained_where(store, monkeypatch, lambda preset, device: RuntimeError("a mistake of ours"))


def test_different_keys_draw_different_pairs_and_the_same_key_the_same(
    store: PrivateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_where(store, monkeypatch, lambda preset, device: None)
    (well,) = origin(store).wells()

    def images(key: str) -> list[bytes]:
        return [np.asarray(pair.image).tobytes() for pair in well.draw(key, 2)]

    assert images("1") == images("1")
    assert not set(images("1")) & set(images("2"))
    assert well.wanted == 2 * 5


def test_what_a_killed_training_half_wrote_is_removed(store: PrivateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = store.folder / "generators" / ("ab" * 8)
    folder.mkdir(parents=True)
    (folder / ".cohort.checkpoint.safetensors.77.partial").write_bytes(b"weights")

    trained_where(store, monkeypatch, lambda preset, device: None)

    assert [path.name for path in folder.iterdir()] == ["cohort.safetensors"]


def files(store: PrivateStore) -> Mapping[str, Path]:
    """Two studies' generators, by the study's folder."""
    made = {}
    for name in ("old", "new"):
        path = store.folder / "generators" / name / "cohort.safetensors"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights")
        made[name] = path
    return made


def test_generators_that_were_not_used_for_their_life_span_are_deleted_and_the_journal_says_so(
    store: PrivateStore,
) -> None:
    made = files(store)
    now = made["old"].stat().st_mtime
    for path in (made["old"], made["old"].parent):
        os.utime(path, (now - 31 * DAY_S, now - 31 * DAY_S))

    assert delete_expired(store, 30, now=now) == ["old"]
    assert not made["old"].parent.exists()
    assert made["new"].exists()
    with store.reading.begin() as connection:
        last = journals.entries(connection, journal)[-1]
    assert (last.action, last.subject) == ("delete-generators", "old")


def test_one_file_in_use_keeps_its_study(store: PrivateStore) -> None:
    made = files(store)
    now = made["old"].stat().st_mtime
    os.utime(made["old"].parent, (now - 31 * DAY_S, now - 31 * DAY_S))

    assert delete_expired(store, 30, now=now) == []


def test_a_site_without_generators_has_none_to_delete(store: PrivateStore) -> None:
    assert delete_expired(store, 0) == []
