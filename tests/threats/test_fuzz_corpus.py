"""T11, T10: what fuzzing learned, replayed: no bytes of another party end a reader with anything but a code.

`make fuzz` runs the same targets under atheris; this needs no more than pytest.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from shared.png import encode_png
from site_node.jobs import JobKind, Queue
from tests.fuzz import targets
from tests.fuzz.__main__ import NAMES
from tests.fuzz.seeds import CORPUS, seeds
from tests.fuzz.targets import TARGETS, cut, joined, words
from tests.helpers import noise_pair

MOST_BYTES = 200_000  # of the corpus, as it lies in the repository
MOST_S = 5.0  # of processor time, for any one input


def inputs() -> list[Path]:
    """Every file of the corpus."""
    return sorted(path for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("name", TARGETS)
def test_the_corpus_ends_with_codes_alone(name: str) -> None:
    found = [path.read_bytes() for path in inputs() if path.parent.name == name]
    assert found
    for data in found:
        started = time.process_time()
        TARGETS[name](data)
        assert time.process_time() - started < MOST_S


def test_every_target_is_fuzzed_and_has_its_seeds_in_the_corpus() -> None:
    assert tuple(TARGETS) == NAMES
    assert {path.parent.name for path in inputs()} == set(NAMES)
    written = {path.read_bytes() for path in inputs()}
    assert [data for data in seeds()["pngs"] + seeds()["arrays"] if data not in written] == []


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in inputs()) < MOST_BYTES


def test_a_target_lets_no_other_exception_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the fuzzer would find nothing, whatever there is."""
    monkeypatch.setattr(targets, "parse", lambda *_: [][1])
    monkeypatch.setattr(targets, "decode_png", lambda *_, **__: 1 / 0)
    with pytest.raises(IndexError):
        targets.documents(b"\x00{}")
    with pytest.raises(ZeroDivisionError):
        targets.pngs(b"\x00" + encode_png(noise_pair(1).image))


def test_seeds_reach_what_lies_behind_the_checks() -> None:
    """A bundle is accepted, and orders are queued: what is fuzzed from there is not the first refusal alone."""
    for name in ("orders", "portable"):
        for data in seeds()[name]:
            TARGETS[name](data)
    home, _ = targets.site()
    assert {job.kind for job in Queue(home.exchange).jobs()} >= {JobKind.RELEASE, JobKind.MEASURE, JobKind.COMPARE}
    here, _ = targets.coordinator()
    assert here.accepted()
    assert here.stored_objects()


def test_files_are_cut_out_of_bytes_as_they_were_put_in() -> None:
    files = [b"", b"a", bytes(60_000)]
    assert list(cut(joined(files))) == files
    assert list(cut(b"\xff\xffshort")) == [b"short"]
    assert list(cut(b"\x00")) == []


def test_the_fuzzer_knows_the_words_of_documents() -> None:
    assert {"study_id", "pairs", "real_own", "synthward.bundle/1", "IDAT"} <= set(words())
