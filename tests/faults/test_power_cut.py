"""A power cut: what was acknowledged is there after it, and nothing is half there, whatever the disk kept of the rest.

The product's own steps are recorded below Python and below SQLite; from the record come the states in which a disk may
be after a cut (tests/power_cut.py says what is assumed of one), and the product starts from each of them. That the
disk has kept everything is not among them: so it is after a kill, which test_kill_everywhere.py has.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import power_cut_site
from tests.disk_record import need_strace, record
from tests.loopback import make_both
from tests.power_cut import Contents, Record, put, states
from tests.power_cut_release import check_accepted, check_refused, seal_a_bad_one

pytestmark = pytest.mark.usefixtures("impatient")
Check = Callable[[Path, list[dict[str, Any]]], None]
# Fewer would mean that steps are no longer seen, not that there are none.
LEAST_STATES = {"coordinator": 100, "north": 180, "refused": 50, "machine": 300}


@pytest.fixture(scope="module", autouse=True)
def _strace() -> None:
    need_strace()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: whether its disk is slow changes nothing of what is tested."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def recorded(program: Sequence[str | Path], folder: Path, scratch: Path) -> Record:
    """What `python -m program... TOLD` did below folder; whole, down to the last byte."""
    made = record([sys.executable, *map(str, program), str(scratch / "told")], folder, scratch / "told", scratch)
    found = {str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")}
    assert written(made.after(len(made.steps), "", lambda change, _last: (change,))) == written(found)
    return made


def written(contents: Contents) -> Contents:
    """Without SQLite's index of its log: it lies in memory, is written by no call, and is made anew at each start."""
    return {path: data for path, data in contents.items() if not path.endswith("-shm")}


def check_each(made: Record, disk: str, check: Check, memory: Path) -> int:
    """How many states there were, each of them checked."""
    number = 0
    for number, (what, contents, told) in enumerate(states(made, disk), start=1):
        here = memory / str(number)
        here.mkdir()
        put(contents, here)
        try:
            check(here, [json.loads(line) for line in told])
        except BaseException as error:
            error.add_note(f"{what}; last word given: {told[-1:]}")
            raise
        shutil.rmtree(here)
    return number


@pytest.fixture(scope="module")
def accepted(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A release from its draft to its receipt, and taken back."""
    scratch = tmp_path_factory.mktemp("accepted")
    make_both(scratch / "both")
    return recorded(["-m", "tests.power_cut_release", "accepted", scratch / "both"], scratch / "both", scratch)


@pytest.mark.parametrize("disk", ["coordinator", "north"])
def test_a_release_comes_to_its_end_once_and_no_word_is_taken_back(accepted: Record, memory: Path, disk: str) -> None:
    assert check_each(accepted, disk, check_accepted, memory) >= LEAST_STATES[disk]


def test_a_bundle_that_was_refused_stays_refused_and_is_kept_as_it_came(tmp_path: Path, memory: Path) -> None:
    make_both(tmp_path / "both")
    seal_a_bad_one(tmp_path / "both")
    made = recorded(["-m", "tests.power_cut_release", "refused", tmp_path / "both"], tmp_path / "both", tmp_path)
    assert check_each(made, "coordinator", check_refused, memory) >= LEAST_STATES["refused"]


def test_keys_settings_imports_studies_and_the_ledger_are_whole_and_stand(tmp_path: Path, memory: Path) -> None:
    (tmp_path / "disk" / "machine").mkdir(parents=True)
    program = ["-m", "tests.power_cut_site", tmp_path / "elsewhere", tmp_path / "disk" / "machine"]
    made = recorded(program, tmp_path / "disk", tmp_path)
    number = check_each(made, "machine", lambda here, told: power_cut_site.check(here / "machine", told), memory)
    assert number >= LEAST_STATES["machine"]


# What is tested on: a state that is possible and not made would be a test that cannot fail.

ONE_FILE = """
import os, sys
from pathlib import Path
from shared.files import durable_folder, write_atomic
path = Path(sys.argv[1]) / "new" / "file"
{make}
descriptor = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT)
os.write(descriptor, b'"written"\\n')
"""
CARELESS = "path.parent.mkdir(); path.with_name('beside').write_bytes(b'whole'); path.with_name('beside').rename(path)"
CAREFUL = "durable_folder(path.parent); write_atomic(path, b'whole')"
FOLDER_FORGOTTEN = "path.parent.mkdir(); write_atomic(path, b'whole')"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (CARELESS, {"nothing", "", "\0\0\0\0\0", "wh"}),
        (FOLDER_FORGOTTEN, {"nothing", "whole"}),
        (CAREFUL, {"whole"}),
    ],
    ids=["nothing-flushed", "folder-not-flushed", "all-flushed"],
)
def test_what_was_not_flushed_may_be_gone_empty_zeros_or_half(tmp_path: Path, make: str, found: set[str]) -> None:
    folder = tmp_path / "disk"
    (folder / "machine").mkdir(parents=True)
    made = recorded(["-c", ONE_FILE.format(make=make), folder / "machine"], folder, tmp_path)
    after = [contents for _, contents, told in states(made, "machine") if told]
    names = [contents.get("machine/new/file", b"nothing") for contents in after]
    assert {(data or b"").decode() for data in names} == found
