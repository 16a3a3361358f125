"""Training a study's cases in this process: what was trained stays, what cannot be trained is set aside and named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from shared.errors import SynthwardError
from site_node.cases import Case
from site_node.generators.per_case.singan_seg import SinGanSeg
from site_node.work import case_training
from site_node.work.case_training import CaseToTrain, Ending, Task, Tell, train_one
from site_node.work.machine import Workers
from site_node.work.time_left import TrainingProgress
from site_node.work.train_cases import SET_ASIDE_FILE, TrainingOutcome, train_cases
from tests.training_cases import TINY, generators, write_cases

ALONE = Workers(workers=1, device="cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def trained(
    items: list[CaseToTrain], folder: Path, *, settings: Workers = ALONE, told: list[TrainingProgress] | None = None,
    train: case_training.Train = train_one,
) -> TrainingOutcome:  # fmt: skip
    """train_cases with the tiny preset."""
    told = [] if told is None else told
    return train_cases(items, TINY, folder=folder, settings=settings, progress=told.append, train=train)


def never(task: Task, tell: Tell) -> Ending:
    """A training that must not happen."""
    raise AssertionError(f"{task.case.case_id} is trained again")


def test_a_case_that_cannot_be_trained_is_set_aside_and_the_others_are_trained(tmp_path: Path) -> None:
    items = write_cases(tmp_path / "cases", "a", "flat", "b")
    told: list[TrainingProgress] = []
    outcome = trained(items, tmp_path / "out", told=told)
    assert outcome.trained == ("a", "b")
    assert outcome.set_aside == {"flat": "training.constant-image"}
    assert (outcome.device, outcome.fell_back) == ("cpu", False)
    assert generators(tmp_path / "out").keys() == {"a", "b"}
    SinGanSeg.load(tmp_path / "out" / "a.safetensors").sample(0)
    assert not list((tmp_path / "out").glob("*.checkpoint.*")), "a checkpoint goes when its generator is there"
    assert (told[-1].done, told[-1].of, told[-1].set_aside) == (3, 3, 1)
    assert [t.done for t in told] == sorted(t.done for t in told)
    assert any(t.case == 1 and t.scales == 2 for t in told), "the case in training tells its scale"


def test_a_restart_trains_only_what_is_missing_and_tries_nothing_set_aside_again(tmp_path: Path) -> None:
    items = write_cases(tmp_path / "cases", "a", "flat", "b")
    first = trained(items[:2], tmp_path / "out")
    before = generators(tmp_path / "out")
    again = trained(items[:2], tmp_path / "out", train=never)
    assert again == TrainingOutcome(first.trained, first.set_aside)
    (tmp_path / "out" / ".b.safetensors.77.partial").write_bytes(b"half a generator")
    more = trained(items, tmp_path / "out")
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".safetensors", ".json"}
    assert more.trained == ("a", "b")
    assert more.set_aside == first.set_aside
    assert generators(tmp_path / "out")["a"] == before["a"]
    (tmp_path / "out" / SET_ASIDE_FILE).unlink()
    with pytest.raises(AssertionError, match="flat is trained again"):
        trained(items, tmp_path / "out", train=never)


def test_a_case_that_is_too_small_is_set_aside_before_anything_is_trained(tmp_path: Path) -> None:
    (item,) = write_cases(tmp_path / "cases", "a")
    small = CaseToTrain("a", (8, 8), item.seed, item.folder, item.image)
    outcome = trained([small], tmp_path / "out", train=never)
    assert outcome.set_aside == {"a": "training.too-small"}
    assert json.loads((tmp_path / "out" / SET_ASIDE_FILE).read_text()) == outcome.set_aside


def test_a_case_for_which_memory_ran_out_is_tried_once_more_and_then_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write_cases(tmp_path / "cases", "a", "b")
    train_case, tries = case_training.train_case, []

    def hungry(*args: object, seed: int, **options: object) -> SinGanSeg:
        tries.append(seed)
        if seed == items[0].seed and tries.count(seed) <= failures:
            torch.empty(2**50)  # PyTorch's own words for memory that is not there
        return train_case(*args, seed=seed, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(case_training, "train_case", hungry)
    failures = 1
    assert trained(items, tmp_path / "once").trained == ("a", "b")
    assert tries == [100, 101, 100], "the second try comes after the others"
    tries.clear()
    failures = 2
    outcome = trained(items, tmp_path / "twice")
    assert outcome.trained == ("b",)
    assert outcome.set_aside == {"a": "training.memory"}
    assert tries == [100, 101, 100]


def lost_card(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A machine whose graphics card fails at the second case; the devices that were asked for."""
    train_case, devices = case_training.train_case, []

    def on_a_card(*args: object, device: str, **options: object) -> SinGanSeg:
        devices.append(device)
        if device != "cpu" and len(devices) == 2:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return train_case(*args, device="cpu", **options)  # type: ignore[arg-type]

    monkeypatch.setattr(case_training, "train_case", on_a_card)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    return devices


def test_under_auto_a_card_that_fails_is_followed_by_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = lost_card(monkeypatch)
    outcome = trained(write_cases(tmp_path / "cases", "a", "b", "c"), tmp_path / "out", settings=Workers(workers=1))
    assert outcome.trained == ("a", "b", "c")
    assert (outcome.device, outcome.fell_back) == ("cpu", True)
    assert devices == ["cuda", "cuda", "cpu", "cpu"]


def test_a_card_that_was_asked_for_and_fails_stops_the_job_where_it_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost_card(monkeypatch)
    items = write_cases(tmp_path / "cases", "a", "b", "c")
    with pytest.raises(SynthwardError) as caught:
        trained(items, tmp_path / "out", settings=Workers(workers=1, device="cuda"))
    assert caught.value.code == "training.device"
    assert generators(tmp_path / "out").keys() == {"a"}
    assert not (tmp_path / "out" / SET_ASIDE_FILE).exists()


def test_an_error_that_nobody_expected_is_not_taken_for_the_cases_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = write_cases(tmp_path / "cases", "a")
    (tmp_path / "cases" / "a.image.png").write_bytes(b"no image")
    with pytest.raises(OSError, match="cannot identify"):
        trained(items, tmp_path / "out")
    assert not (tmp_path / "out" / SET_ASIDE_FILE).exists()


def test_a_case_to_train_reads_what_the_case_reads_and_carries_no_patient_key(tmp_path: Path) -> None:
    (item,) = write_cases(tmp_path, "a", size_px=64)
    case = Case("a", "patient-7", 64, 64, tmp_path)
    smaller = item.image.model_copy(update={"size_px": 32, "channels": 1})
    given = CaseToTrain.of(case, smaller, seed=3)
    assert given.size == (32, 32)
    assert (given.load().image == case.load_for(smaller).image).all()
    assert "patient-7" not in repr(given)
