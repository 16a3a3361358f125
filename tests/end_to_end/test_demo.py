"""The real federation at its smallest: three sites, Flower's own processes, TLS, from drawings to a report."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from coordinator.evaluation.report_data import ReportData
from shared.metrics import NAMES
from shared.pairs import check_mask
from shared.png import decode_png
from tests.end_to_end.alone import CONTROL, can_be_alone
from tests.end_to_end.traffic import copies, images_in, raw_pixels

pytestmark = pytest.mark.end_to_end
ROOT = Path(__file__).resolve().parents[2]
SITES = ("north", "harbour", "valley")
SMALLEST = ("--cases", "10", "--size", "32", "--samples", "1", "--steps", "2")
NEARLY_EQUAL = 0.98


def demo(out: Path, *options: str, through: Sequence[str] = ()) -> subprocess.Popen[str]:
    """The demo as a process, as make starts it. through: what starts it."""
    return subprocess.Popen(
        [*through, sys.executable, "-m", "deploy.demo", *SMALLEST, "--out", str(out), *options],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def at_work(out: Path) -> list[psutil.Process]:
    """Processes that work on this run's folder."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(out) in " ".join(process.info["cmdline"] or []) and process.pid != os.getpid()
    ]


def left_behind(out: Path) -> list[str]:
    """Command lines of what still works on this run's folder. Who follows its parent's end takes a moment to do so."""
    psutil.wait_procs(at_work(out), timeout=30.0)
    return [" ".join(process.info["cmdline"]) for process in at_work(out)]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run's folder, with a copy of all that sites sent in capture/, and what anybody sent elsewhere."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    capture, elsewhere = folder.parent / "capture", folder.parent / "elsewhere"
    alone = [sys.executable, "-m", "tests.end_to_end.alone", str(elsewhere)] if can_be_alone() else []
    process = demo(folder, "--capture", str(capture), through=alone)
    text, _ = process.communicate(timeout=1200)  # a machine may be busy with other work
    assert process.returncode == 0, text
    return folder


@pytest.fixture(scope="module")
def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())


@pytest.fixture(scope="module")
def sent(out: Path) -> bytes:
    """Every byte that reached the coordinator from its sites, after TLS."""
    return b"".join(path.read_bytes() for path in sorted((out.parent / "capture").iterdir()))


def test_the_outputs_are_there(out: Path) -> None:
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "report.csv").stat().st_size > 1_000
    assert ReportData.model_validate_json((out / "report.json").read_text()).run is not None
    assert (out / "summary.json").exists()
    assert (out / "dataset" / "index.csv").exists()


@pytest.mark.skipif(not can_be_alone(), reason="only root with /dev/net/tun can watch a machine's whole network")
def test_no_host_is_asked_but_the_coordinator(out: Path) -> None:
    assert (out.parent / "elsewhere").read_text().splitlines() == [CONTROL]


def test_no_process_is_left_behind(out: Path) -> None:
    assert left_behind(out) == []


def test_the_summary_has_what_a_study_lead_asks(summary: dict[str, Any]) -> None:
    assert [site["name"] for site in summary["sites"]] == list(SITES)
    for site in summary["sites"]:
        assert site["cases"] == 10
        assert site["training_patients"] + site["holdout_patients"] == site["patients"] == 5
        assert 1 <= site["released"] <= site["sampled"]
        assert site["privacy_mode"] == "audited"
    assert summary["dataset"]["version"] == 1
    assert summary["dataset"]["pairs"] == sum(site["released"] for site in summary["sites"])
    arms = summary["evaluation"]["arms"]
    assert arms.keys() == {"real_own", "synthetic_own", "synthetic_pooled", "real_and_others"}
    for by_site in arms.values():
        assert by_site.keys() == set(SITES)
        assert all(by_site[site].keys() == set(NAMES) for site in SITES)
    assert set(summary["evaluation"]["matrix"]) == {*SITES, "pooled", "own real", "own real and others"}


def test_every_figure_comes_with_its_interval_and_every_arm_with_its_gain(summary: dict[str, Any]) -> None:
    found = summary["evaluation"]
    assert found["missing"] == []
    assert all(site in found["headline"] for site in SITES)
    for cell in found["cells"]:
        assert cell["seeds"] == 1
        assert all(figure["low"] <= figure["mean"] <= figure["high"] for figure in cell["figures"].values())
        assert bool(cell["gains"]) == (cell["arm"] != "real_own")


def test_the_report_bears_in_mind_what_the_demo_lets_pass(out: Path, summary: dict[str, Any]) -> None:
    notes = " ".join(summary["notes"])
    assert {site["audit"]["verdict"] for site in summary["sites"]} == {"inconclusive"}
    assert "verdict was inconclusive at north, harbour, valley" in notes
    assert "floors are lowered to 80 % of whole copies" in notes
    page = (out / "report.html").read_text()
    assert "To bear in mind" in page
    assert page.count("The screening was inconclusive.") == len(SITES)


def test_what_left_is_accounted_for_to_the_byte(summary: dict[str, Any]) -> None:
    for site in SITES:
        kinds = summary["egress"][site]
        assert sum(kinds.values()) == summary["wire_bytes"][site]
        assert all(size > 0 for size in kinds.values())


def test_the_dataset_holds_clean_pairs_of_the_study(out: Path, summary: dict[str, Any]) -> None:
    images = sorted((out / "dataset" / "images").iterdir())
    assert len(images) == summary["dataset"]["pairs"]
    for image in images:
        assert decode_png(image.read_bytes()).shape == (32, 32, 3)
        mask = decode_png((out / "dataset" / "masks" / image.name).read_bytes())
        check_mask(mask)
        assert mask.any()
        assert not mask.all()


def test_the_report_loads_nothing_from_elsewhere(out: Path) -> None:
    class Links(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert tag != "script"
            self.found += [
                v or "" for n, v in attributes if n in ("src", "href") and v and not v.startswith(("#", "data:"))
            ]

    page = Links()
    page.feed((out / "report.html").read_text())
    assert page.found == []


def test_the_steward_stands_in_every_sites_journal(out: Path) -> None:
    for site in SITES:
        with sqlite3.connect(out / "work" / f"site-{site}" / "private" / "site.db") as database:
            rows = dict(database.execute("select action, actor from journal").fetchall())
        assert rows["approve"] == "demo-steward"
        assert rows["accept"] == "coordinator"


def test_flowers_archive_is_never_unpacked_at_a_site(out: Path) -> None:
    for site in SITES:
        home = out / "work" / f"site-{site}" / "flower"
        assert not list(home.rglob("apps")), "flwr installs archives under apps/"
        assert not list(home.rglob("*.toml")) + list(home.rglob("*.py"))


def test_no_real_image_left_a_site(out: Path, sent: bytes) -> None:
    real = sorted((out / "work" / "data").glob("*/images/*"))
    assert len(real) == 30
    assert sum(1 for _ in images_in(sent)) >= 2 * 3, "the capture holds the pairs that were released"
    assert copies(sent, real, limit=NEARLY_EQUAL) == []
    assert raw_pixels(sent, real) == []


@pytest.mark.parametrize("kind", ["png", "jpeg", "raw"])
def test_the_search_would_find_a_real_image(out: Path, sent: bytes, kind: str) -> None:
    real = sorted((out / "work" / "data").glob("*/images/*"))[0]
    buffer = io.BytesIO()
    with Image.open(real) as image:
        if kind == "raw":
            planted = sent + image.convert("RGB").tobytes()
        else:
            image.convert("RGB").save(buffer, format=kind.upper(), **({"quality": 60} if kind == "jpeg" else {}))
            planted = sent + buffer.getvalue() + b"more"
    found = raw_pixels(planted, [real]) if kind == "raw" else copies(planted, [real], limit=NEARLY_EQUAL)
    assert found


def test_no_file_name_or_patient_key_left_a_site(out: Path, sent: bytes) -> None:
    names = {path.name for path in (out / "work" / "data").glob("*/images/*")}
    patients = {
        line.split(",")[1]
        for path in (out / "work" / "data").glob("*/patients.csv")
        for line in path.read_text().splitlines()[1:]
    }
    assert names
    assert patients
    for name in names | {patient for patient in patients if len(patient) > 3}:
        assert name.encode() not in sent


@pytest.mark.parametrize("stage", ["study", "training"])
def test_ctrl_c_leaves_no_process_behind(tmp_path: Path, stage: str) -> None:
    process = demo(tmp_path / "out")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(f"· {stage}"):
            break
    assert at_work(tmp_path / "out")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)  # a machine may be busy with other work
    assert process.returncode == 130
    assert left_behind(tmp_path / "out") == []
