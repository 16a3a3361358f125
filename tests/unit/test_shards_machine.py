"""How training is laid out on a machine: as many cases at once as there are cores, memory and cases for."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SynthwardError
from site_node.settings import Settings
from site_node.work import machine
from site_node.work.machine import Workers, at_once, free_bytes, lay_out, pick_device

SIZES = st.integers(1, 2**45)


@given(wanted=st.integers(1, 64), cases=st.integers(1, 64), free=st.integers(0, 2**45), each=SIZES)
def test_workers_fit_into_memory_and_none_is_without_a_case(wanted: int, cases: int, free: int, each: int) -> None:
    workers = at_once(wanted, cases, free, each)
    assert 1 <= workers <= max(1, min(wanted, cases))
    assert workers == 1 or workers * each <= free
    assert workers == min(wanted, cases) or (workers + 1) * each > free, "no room is left unused"


def test_a_case_that_needs_half_the_memory_halves_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_bytes", lambda: 10 * 2**30)
    asked = Workers(threads=8)
    assert lay_out(asked, device="cpu", case_bytes=2**20, cases=100).workers == 8
    assert lay_out(asked, device="cpu", case_bytes=5 * 2**30 - machine.PROCESS_BYTES, cases=100).workers == 2
    assert lay_out(asked, device="cpu", case_bytes=2**40, cases=100) == machine.Room(1, 8)


def test_threads_bound_the_workers_and_are_shared_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_bytes", lambda: 2**40)
    assert lay_out(Workers(threads=1), device="cpu", case_bytes=1, cases=9) == machine.Room(1, 1)
    assert lay_out(Workers(threads=8, workers=3), device="cpu", case_bytes=1, cases=9) == machine.Room(3, 2)
    assert lay_out(Workers(threads=2, workers=4), device="cpu", case_bytes=1, cases=9) == machine.Room(4, 1)
    assert lay_out(Workers(threads=8), device="cuda", case_bytes=1, cases=9).workers == 1


def test_a_control_groups_limit_counts_and_so_does_the_one_above_it(tmp_path: Path) -> None:
    inner = tmp_path / "system.slice" / "synthward.service"
    inner.mkdir(parents=True)
    membership = tmp_path / "membership"
    membership.write_text("4:memory:/elsewhere\n0::/system.slice/synthward.service\n")
    for folder, limit in ((inner, "3000"), (inner.parent, "max"), (tmp_path, "2000")):
        (folder / "memory.max").write_text(limit + "\n")
        (folder / "memory.current").write_text("500\n")
    assert sorted(machine._left_in_groups(tmp_path, membership)) == [1500, 2500]
    assert list(machine._left_in_groups(tmp_path, tmp_path / "not there")) == []


def test_free_memory_is_that_of_this_machine() -> None:
    assert 0 <= free_bytes() <= psutil.virtual_memory().total


def test_a_graphics_card_that_is_not_there_is_told_before_anything_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (pick_device("auto"), pick_device("cpu")) == ("cpu", "cpu")
    for asked in ("cuda", "cuda:0"):
        with pytest.raises(SynthwardError) as caught:
            pick_device(asked)
        assert caught.value.code == "training.device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [pick_device(asked) for asked in ("auto", "cuda", "cuda:1")] == ["cuda", "cuda", "cuda:1"]
    with pytest.raises(SynthwardError):
        pick_device("cuda:2")


def test_the_settings_are_taken_over_and_a_device_of_no_kind_is_refused() -> None:
    settings = Settings(workers=3, threads=2, device="cuda:1", ray_address="auto")
    assert Workers.of(settings) == Workers(3, 2, "cuda:1", "auto")
    assert Workers.of(Settings()) == Workers()
    with pytest.raises(ValueError, match="device"):
        Settings(device="gpu")
