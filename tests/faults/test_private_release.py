"""Kills of a job in mode dp: what was reserved stays spent, no step is done that was not paid for, nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from site_node.cases import PrivateStore
from site_node.dp.critic_step import PrivateCritic
from site_node.dp.events import PoissonSampledGaussian
from site_node.generators.private_cohort.checkpoint import PrivateCheckpoint
from site_node.generators.private_cohort.generator import PrivateCohortGenerator
from site_node.generators.private_cohort.presets import SPARE_STEPS
from site_node.work import private_cohort
from site_node.work.private_cohort import CHECKPOINT_FILE, GENERATOR_FILE
from tests.helpers import refused
from tests.private_study import STEPS, blind, private_study, quick, site_with, source_of, spent_at

STUDY = private_study()
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PrivateStore:
    quick(monkeypatch)
    store = site_with(tmp_path)
    real_step = PrivateCritic.step

    def counted(*arguments: object, **options: object) -> None:
        """Notes, durably, that private pixels are read in a step."""
        with (tmp_path / "steps").open("a") as file:
            file.write("x")
        real_step(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(PrivateCritic, "step", counted)
    return store


def steps_done(store: PrivateStore) -> int:
    file = store.folder / "steps"
    return len(file.read_text()) if file.exists() else 0


def train(store: PrivateStore) -> None:
    source_of(store, STUDY).train(lambda _: None)


def killed_in(store: PrivateStore, owner: object, name: str, *, after: int = 0) -> None:
    """Trains in a process of its own, which is killed when it calls owner.name, after so many calls that went well."""
    store.engine.dispose()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)
        real: Callable[..., object] = getattr(owner, name)
        calls = 0

        def deadly(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls > after:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        setattr(owner, name, deadly)
        try:
            train(PrivateStore(store.folder))
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def states(store: PrivateStore) -> list[str]:
    return [fact.state for fact in spent_at(store)]


def test_a_kill_before_the_first_step_spends_and_the_next_attempt_goes_on_with_it(store: PrivateStore) -> None:
    killed_in(store, private_cohort, "train_private_cohort")
    assert states(store) == ["reserved"]
    assert steps_done(store) == 0
    train(store)
    assert states(store) == ["committed"]
    assert steps_done(store) == STEPS


# A call of `write` for the beginning or the resuming, then one after each step, which is done by then.


def test_a_job_that_is_killed_at_the_worst_moments_does_no_more_steps_than_it_paid_for(store: PrivateStore) -> None:
    for _ in range(SPARE_STEPS):
        killed_in(store, PrivateCheckpoint, "write", after=1)
    train(store)
    (paid,) = spent_at(store)
    assert paid.noised is not None
    assert isinstance(paid.noised.event, PoissonSampledGaussian)
    assert steps_done(store) == paid.noised.event.steps == STEPS + SPARE_STEPS
    assert paid.state == "committed"


def test_a_job_that_is_killed_too_often_is_refused_and_reads_no_more(store: PrivateStore) -> None:
    for after in (2, *[1] * SPARE_STEPS):
        killed_in(store, PrivateCheckpoint, "write", after=after)
    done = steps_done(store)
    assert done <= STEPS + SPARE_STEPS
    blind(store)
    with refused("policy.dp-budget"):
        train(store)
    assert (steps_done(store), states(store)) == (done, ["reserved"])


def test_a_generator_that_was_saved_is_paid_for_once_and_reads_nobody_again(store: PrivateStore) -> None:
    killed_in(store, private_cohort, "commit")
    assert states(store) == ["reserved"]
    blind(store)
    train(store)
    assert states(store) == ["committed"]
    assert steps_done(store) == STEPS


def test_nothing_of_a_training_is_left_but_what_was_noised(store: PrivateStore) -> None:
    killed_in(store, PrivateCohortGenerator, "save")
    folder = source_of(store, STUDY)._folder
    assert [path.name for path in folder.iterdir()] == [CHECKPOINT_FILE]
    train(store)
    assert [path.name for path in folder.iterdir()] == [GENERATOR_FILE]
    assert steps_done(store) == STEPS  # the last one was kept


def test_where_the_state_is_gone_the_training_has_to_be_paid_for_again(store: PrivateStore) -> None:
    killed_in(store, PrivateCheckpoint, "write", after=2)
    (source_of(store, STUDY)._folder / CHECKPOINT_FILE).unlink()
    blind(store)
    with refused("policy.dp-budget"):  # two trainings are more than the study asks for
        train(store)
    assert states(store) == ["reserved"]
