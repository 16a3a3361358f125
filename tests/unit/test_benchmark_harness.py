"""What a benchmark writes: figures with their runs, and claims that cannot be talked up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.benchmarks.harness import at_most, row, write


def test_a_claim_that_is_missed_stays_in_the_file_as_missed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claims = [at_most("quick", 1.0, "s", 2.5), at_most("small", 4.0, "MB", 3.0)]
    path = write("trial", [row("whole", "s", [2.0, 2.5, 1.0])], claims, folder=tmp_path)
    written = json.loads(path.read_text())
    assert [claim["met"] for claim in written["claims"]] == [False, True]
    assert "MISSED" in capsys.readouterr().out


def test_a_figure_has_its_number_of_runs_and_its_spread(tmp_path: Path) -> None:
    written = json.loads(write("trial", [row("whole", "s", [2.0, 2.5, 1.0])], [], folder=tmp_path).read_text())
    assert written["rows"] == [{"name": "whole", "unit": "s", "runs": 3, "median": 2.0, "low": 1.0, "high": 2.5}]
    assert {"machine", "cores", "python", "versions", "commit"} <= written["environment"].keys()
