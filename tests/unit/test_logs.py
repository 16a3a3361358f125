"""Logs hold what happened and where, never a text that could name a file or a patient."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest
import structlog

from shared.logs import configure

CANARY = "Mrs_Canary_polyp_017.png"


@pytest.fixture(autouse=True)
def _restored() -> object:
    hooks = sys.excepthook, threading.excepthook
    yield
    sys.excepthook, threading.excepthook = hooks
    structlog.reset_defaults()


def test_a_key_that_is_not_on_the_list_is_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    structlog.get_logger().warning("refused", code="intake.mask-empty", file=CANARY)
    line = json.loads(capsys.readouterr().err)
    assert line["code"] == "intake.mask-empty"
    assert CANARY not in str(line)


def test_an_exception_is_told_by_its_place_and_never_by_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    try:
        raise FileNotFoundError(CANARY)
    except FileNotFoundError:
        structlog.get_logger().exception("failed")
    written = capsys.readouterr().err
    line = json.loads(written)
    assert line["error"] == "FileNotFoundError"
    assert line["trace"][-1].startswith("test_logs.py:")
    assert CANARY not in written


def test_a_thread_that_dies_is_told_by_its_place_and_never_by_its_exceptions_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure()
    thread = threading.Thread(target=Path(CANARY).read_bytes)
    thread.start()
    thread.join()
    written = capsys.readouterr().err
    line = json.loads(written)
    assert (line["event"], line["error"]) == ("died", "FileNotFoundError")
    assert line["trace"][-1].startswith("pathlib.py:")
    assert CANARY not in written


def test_a_process_that_dies_is_told_in_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    configure()
    error = FileNotFoundError(CANARY)
    sys.excepthook(FileNotFoundError, error, error.__traceback__)
    sys.excepthook(SystemExit, SystemExit(1), None)
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["error"] == "FileNotFoundError"
    assert CANARY not in line
