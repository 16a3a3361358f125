"""The schedule of a study's cases: each ends once, and gets a second try alone where the machine was to blame."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SynthwardError
from shared.study import ImageSpec
from site_node.generators.per_case.presets import DEMO
from site_node.work.case_training import CaseToTrain, Ending, Task
from site_node.work.schedule import Schedule

CODES = ("", "training.killed", "training.memory", "training.diverged", "training.device")
OF_THE_MACHINE = ("training.killed", "training.memory")


def schedule_of(
    count: int, ends: list[tuple[str, str]], *, device: str = "cpu", may_fall_back: bool = False
) -> Schedule:
    """A schedule of cases "0", "1" ... that notes how each ends."""
    cases = [CaseToTrain(str(n), (32, 32), n, Path("nowhere"), ImageSpec(size_px=32)) for n in range(count)]
    return Schedule(
        cases, DEMO, Path("nowhere"), device=device, may_fall_back=may_fall_back,
        on_end=lambda case_id, code: ends.append((case_id, code)),
    )  # fmt: skip


@given(count=st.integers(0, 6), workers=st.integers(1, 4), data=st.data())
def test_every_case_ends_once_whatever_happens_to_whom(count: int, workers: int, data: st.DataObject) -> None:
    ends: list[tuple[str, str]] = []
    schedule = schedule_of(count, ends, device="cuda", may_fall_back=True)
    running: list[Task] = []
    tries: dict[str, list[tuple[str, str]]] = {}
    while not schedule.finished:
        while len(running) < workers and (task := schedule.next()) is not None:
            running.append(task)
            assert len(running) == 1 or not any(task.alone for task in running), "alone is alone"
        task = running.pop(data.draw(st.integers(0, len(running) - 1)))
        code = data.draw(st.sampled_from([c for c in CODES if c != "training.device" or task.device != "cpu"]))
        tries.setdefault(task.case.case_id, []).append((task.device, code))
        schedule.ended(task, Ending(code, "so drawn"))
    assert running == []
    assert sorted(case_id for case_id, _ in ends) == [str(n) for n in range(count)]
    for case_id, code in ends:
        seen = [ended for _, ended in tries[case_id] if ended != "training.device"]
        assert seen[-1] == code
        assert 1 <= len(seen) <= 2
        assert len(seen) == 1 or seen[0] in OF_THE_MACHINE, "a second try is for the machine's faults alone"
        assert len(seen) == 2 or code not in OF_THE_MACHINE, "and it is always given"


def test_a_case_that_was_killed_waits_until_the_others_have_ended() -> None:
    ends: list[tuple[str, str]] = []
    schedule = schedule_of(3, ends)
    first, second = schedule.next(), schedule.next()
    assert first is not None
    assert second is not None
    schedule.killed(first)
    third = schedule.next()
    assert third is not None
    assert third.case.case_id == "2"
    assert schedule.next() is None, "two others are running"
    schedule.ended(third, Ending())
    assert schedule.next() is None, "one other is running"
    schedule.ended(second, Ending())
    again = schedule.next()
    assert again is not None
    assert (again.case.case_id, again.alone) == ("0", True)
    schedule.killed(again)
    assert ends == [("2", ""), ("1", ""), ("0", "training.killed")]


@pytest.mark.parametrize("code", ["storage.full", "internal", "training.device"])
def test_what_is_no_cases_fault_stops_the_job(code: str) -> None:
    ends: list[tuple[str, str]] = []
    schedule = schedule_of(2, ends, device="cuda")
    task = schedule.next()
    assert task is not None
    with pytest.raises(SynthwardError) as caught:
        schedule.ended(task, Ending(code, "what happened", "why", "what to do"))
    assert (caught.value.code, caught.value.do) == (code, "what to do")
    assert ends == []


def test_a_set_aside_case_leaves_no_checkpoint(tmp_path: Path) -> None:
    case = CaseToTrain("a", (32, 32), 1, tmp_path, ImageSpec(size_px=32))
    schedule = Schedule([case], DEMO, tmp_path, device="cpu", may_fall_back=False, on_end=lambda *_: None)
    task = schedule.next()
    assert task is not None
    task.checkpoint.write_bytes(b"patient data")
    schedule.ended(task, Ending("training.diverged", "a loss was no longer finite"))
    assert list(tmp_path.iterdir()) == []
