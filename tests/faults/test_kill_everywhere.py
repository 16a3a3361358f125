"""kill -9 before every durable step between a steward's vote and the last receipt: the same end, each time, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.enrolled_site import POLICY
from tests.helpers import manifest_of, noise_pair, png_objects
from tests.killed_at_each_step import RELEASE
from tests.loopback import make_both, open_both

ROOT = Path(__file__).resolve().parents[2]
# Fewer would mean that steps are no longer seen, not that there are none.
LEAST_STEPS = {"accepted": 40, "taken back": 8}


def test_a_kill_before_any_durable_step_changes_nothing_of_the_end(tmp_path: Path) -> None:
    study = make_both(tmp_path / "both")
    coordinator, site = open_both(tmp_path / "both")
    entries, objects = png_objects([noise_pair(1)])
    site.draft(manifest_of(study, "north", entries, release_id=RELEASE), objects)
    site.airlock.review(POLICY, RELEASE, "ada")
    site.drop()
    coordinator.drop()
    # A process of its own: what forks must have no threads, and gRPC's are in this one by now.
    ended = subprocess.run(
        [sys.executable, "-m", "tests.killed_at_each_step", str(tmp_path / "both"), str(tmp_path)],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert {way: wrong for way, (_, wrong) in found.items()} == {"accepted": [], "taken back": []}, ended.stderr
    assert all(found[way][0] >= least for way, least in LEAST_STEPS.items()), found
