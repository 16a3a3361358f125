"""What `status` shows of a training: how far it is, and the time left in words, as long as its job runs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from shared.identity import new_signing_key
from site_node.cli import app
from site_node.jobs import JobState, Queue
from site_node.settings import Home
from site_node.work.time_left import TrainingProgress, in_words
from site_node.work.told import PROGRESS_FILE, write_progress
from tests.sites import make_site, make_study, signed


def site_with_a_running_job(folder: Path) -> tuple[Home, str]:
    """A site whose trainer has taken a study's job."""
    key = new_signing_key()
    home = make_site(folder, key)
    queue = Queue(home.exchange)
    queue.take_study(signed(key, make_study())[0])
    job = queue.claim()
    assert job is not None
    return home, job.job_id


def shown(home: Home, *options: str) -> str:
    """What `synthward-site status` prints."""
    done = CliRunner().invoke(app, ["status", "--home", str(home.path), *options])
    assert done.exit_code == 0, done.output
    return done.output


def test_status_shows_the_scale_and_the_time_left_while_the_job_runs(tmp_path: Path) -> None:
    home, job_id = site_with_a_running_job(tmp_path / "north")
    training = TrainingProgress(
        7, 40, set_aside=1, case=9, scale=2, scales=5, step=50, steps=120, seconds_left=12_000.0
    )
    write_progress(home, job_id, "train", 0, 0, training)
    ten_minutes_ago = time.time() - 600.0
    os.utime(home.private / PROGRESS_FILE, (ten_minutes_ago, ten_minutes_ago))
    progress = json.loads(shown(home, "--json"))["progress"]
    assert (progress["done"], progress["of"], progress["set_aside"]) == (7, 40, 1)
    assert (progress["case"], progress["scale"], progress["step"]) == (9, 2, 50)
    assert progress["seconds_left"] == pytest.approx(11_400.0, abs=60.0), "time passes between two words"
    assert "about 3 h 10 min left" in shown(home)
    Queue(home.exchange).end(job_id, JobState.DONE)
    assert json.loads(shown(home, "--json"))["progress"] is None


def test_a_stage_that_is_no_training_has_no_time_left(tmp_path: Path) -> None:
    home, job_id = site_with_a_running_job(tmp_path / "north")
    write_progress(home, job_id, "sample", 3, 8)
    assert json.loads(shown(home, "--json"))["progress"] == {"job": job_id, "stage": "sample", "done": 3, "of": 8}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "less than a minute left"),
        (65.0, "about 1 min left"),
        (3_580.0, "about 1 h 0 min left"),
        (12_000.0, "about 3 h 20 min left"),
        (86_399.0, "about 1 d 0 h left"),
        (200_000.0, "about 2 d 8 h left"),
    ],
)
def test_time_left_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


@given(seconds=st.floats(0.0, 1e7))
def test_words_are_within_a_twentieth_or_a_minute_of_the_time(seconds: float) -> None:
    units = {"min": 60.0, "h": 3600.0, "d": 86400.0}
    parts = in_words(seconds).removeprefix("about ").removesuffix(" left").split()
    if parts[0] == "less":
        assert seconds < 60.0
        return
    said = sum(float(number) * units[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))
    assert said == pytest.approx(seconds, rel=0.05, abs=31.0)
