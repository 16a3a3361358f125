"""T15: a whole study over data with canary words in every name, and every byte that is written or sent searched.

Where they may stand, and nowhere else:

    patient keys                     the site's private/
    file names                       what `import` prints for the administrator
    the hospital's and data's path   settings.toml, and what commands print on the site's own console
    metadata of the images           nowhere, not even in private/: import keeps pixels alone
"""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from prometheus_client import generate_latest

from shared.errors import ExitCode
from shared.messages import Answer
from site_node.jobs import JobKind, Queue
from site_node.metrics import site_registry
from site_node.metrics_contact import Contact
from site_node.policy import read_policy, write_policy
from site_node.settings import Home
from tests.canaries import ALL, FILE, FOLDER, HOSPITAL, PATIENT, TEXT, found_in, found_under
from tests.canary_study import CanaryStudy, hospital_data, join, printed_to, quick, run
from tests.helpers import Coordinator, running

PATHS = {FOLDER, HOSPITAL}


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CanaryStudy]:
    """A study that has run to its end, with its coordinator still up."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch, running(Coordinator(folder / "coordinator")) as coordinator:
        quick(patch)
        with printed_to(folder / "printed.log"):
            done = join(folder, coordinator)
            run(done)
        yield done


# The search finds what is there


@pytest.mark.parametrize(
    "hidden",
    [
        FILE.encode(), FILE.upper().encode(), FILE.encode("utf-16-le"), FILE.encode("utf-16-be"),
        FILE.encode().hex().encode(), FILE.encode().hex().upper().encode(), gzip.compress(FILE.encode() * 3),
        *(base64.b64encode(b"x" * shift + FILE.encode() + b"yz") for shift in range(3)),
        *(base64.urlsafe_b64encode(b"x" * shift + FILE.lower().encode() + b"yz") for shift in range(3)),
        "".join(f"%{byte:02X}" for byte in FILE.encode()).encode(),
    ],
)  # fmt: skip
def test_the_search_finds_a_word_in_every_spelling(hidden: bytes) -> None:
    assert found_in(b"\x00 before " + hidden + b" after \xff") == {FILE}


def test_the_search_finds_what_the_hospital_has(trial: CanaryStudy) -> None:
    in_data = set().union(*found_under(trial.data.parent.parent).values())
    assert in_data == set(ALL)
    image = next((trial.data / "images").iterdir())
    assert found_in(image.read_bytes()) == {TEXT}


def test_the_study_came_to_its_end(trial: CanaryStudy) -> None:
    report = json.loads((trial.out / "report.json").read_text(encoding="utf-8"))
    (site,) = report["sites"]
    assert {row["arm"] for row in site["comparison"]["arms"]} == {"real_own", "synthetic_pooled"}
    assert [bool(row["found"]) for row in site["distributions"]] == [True, True]
    done = {(job.kind, job.state.value) for job in trial.site.queue.jobs()}
    assert {kind for kind, _ in done} == set(JobKind)
    assert {state for _, state in done} == {"done"}
    assert len(trial.pages) > 20
    assert trial.client.replies


# What left, and what the coordinator has


def test_no_word_is_on_the_wire(trial: CanaryStudy) -> None:
    captured = {path.name: path.read_bytes() for path in trial.coordinator.capture.iterdir()}
    assert sum(map(len, captured.values())) > 10_000
    assert {name: found_in(body) for name, body in captured.items() if found_in(body)} == {}
    assert found_in(b"".join(trial.client.replies)) == set()


def test_no_word_is_in_the_coordinators_folder_dataset_or_report(trial: CanaryStudy) -> None:
    assert found_under(trial.coordinator.folder) == {}
    assert found_under(trial.out) == {}
    assert any((trial.out / "dataset" / "images").iterdir())


# What stays, outside of the private half


def test_what_the_link_can_read_holds_no_word_but_the_settings_path(trial: CanaryStudy) -> None:
    home = trial.site.home
    assert found_under(home.path, leaving_out=[home.private]) == {"settings.toml": PATHS}


def test_the_private_half_knows_patients_by_their_key_and_no_file_by_its_name(trial: CanaryStudy) -> None:
    found = found_under(trial.site.home.private)
    assert found, "the keys are needed: consent is withdrawn by them"
    assert set().union(*found.values()) == {PATIENT}
    assert all(name.startswith("site.db") for name in found)


def test_no_word_is_in_any_log(trial: CanaryStudy) -> None:
    assert trial.printed.stat().st_size > 0
    assert found_in(trial.printed.read_bytes()) == set()


def test_no_word_is_in_the_metrics(trial: CanaryStudy) -> None:
    """Of the site, whose figures come from where the words are; the coordinator has been searched whole."""
    page = generate_latest(site_registry(trial.site.home, trial.site.queue, Contact()))
    assert len(page.splitlines()) > 20
    assert found_in(page) == set()


def test_no_word_is_on_the_review_page(trial: CanaryStudy) -> None:
    assert {address: found_in(body) for address, body in trial.pages.items() if found_in(body)} == {}


def test_commands_tell_paths_at_most(trial: CanaryStudy) -> None:
    assert {"import", "status", "review", "approve", "verify", "ledger", "doctor"} <= {
        words.split()[0] for words in trial.consoles
    }
    told = {words: found_in(text.encode()) - PATHS for words, text in trial.consoles.items()}
    assert {words: found for words, found in told.items() if found} == {}


# Failures


def test_an_import_that_fails_names_the_files_to_the_administrator_and_to_nobody_else(
    trial: CanaryStudy, tmp_path: Path
) -> None:
    folder = hospital_data(tmp_path / FOLDER, patients=4)
    images, masks = (sorted((folder / kind).iterdir()) for kind in ("images", "masks"))
    images[0].write_bytes(images[0].read_bytes()[:200])
    masks[1].unlink()
    with Image.open(masks[2]) as mask:
        larger = mask.resize((80, 80), Image.Resampling.NEAREST)
    larger.save(masks[2])
    with (folder / "patients.csv").open("a", encoding="utf-8") as file:
        file.write(f"{FILE}_999.png,{PATIENT}-999\r\n")
    logged = trial.printed.stat().st_size
    with printed_to(trial.printed):
        result = trial.command("import", str(folder))
    assert result.exit_code == ExitCode.INPUT
    for name, code in (
        (images[0].name, "intake.truncated"), (images[1].name, "intake.image-without-mask"),
        (images[2].name, "intake.size-differs"), (f"{FILE}_999.png", "intake.patients-unknown-image"),
    ):  # fmt: skip
        assert any(name in line and f"[{code}]" in line for line in result.output.splitlines()), result.output
    assert found_in(result.output.encode()) <= {FILE, *PATHS}
    assert found_in(trial.printed.read_bytes()[logged:]) == set()
    assert found_under(trial.site.home.path, leaving_out=[trial.site.home.private]) == {"settings.toml": PATHS}


def test_an_order_beyond_the_hospitals_limit_is_answered_by_a_code(trial: CanaryStudy) -> None:
    home, sent = trial.site.home, len(trial.client.replies)
    policy = read_policy(home.policy_file)
    write_policy(home.policy_file, policy.model_copy(update={"max_measurements": 1}))
    try:
        answers = trial.ask_once_more(version=2)
    finally:
        write_policy(home.policy_file, policy)
    assert answers == [Answer("refused", "policy.repeated-reading")]
    assert len(trial.client.replies) > sent
    assert found_in(b"".join(trial.client.replies)) == set()


@pytest.fixture
def spoilt(trial: CanaryStudy, tmp_path: Path) -> Home:
    """The site once more, with a measurement to do; its images and one of its keys are gone."""
    home = Home(tmp_path / HOSPITAL / "site")
    shutil.copytree(trial.site.home.path, home.path)
    order = trial.order(version=3)
    Queue(home.exchange).add_order("measure-again", JobKind.MEASURE, order.study_sha256, order.model_dump(mode="json"))
    for image in (home.private / "cases").rglob("*.png"):
        image.unlink()
    (home.link_keys / "executor.secret").unlink()
    return home


@pytest.mark.parametrize(
    ("module", "arguments"), [("site_node.work.child", ["measure-again"]), ("site_node.link.service", [])]
)
def test_a_process_that_dies_of_something_unforeseen_logs_where_and_not_which_file(
    spoilt: Home, module: str, arguments: list[str]
) -> None:
    """What it was about to open stands in the exception's text, with the hospital's path."""
    ended = subprocess.run(
        [sys.executable, "-m", module, str(spoilt.path), *arguments], capture_output=True, check=False, timeout=120
    )
    assert ended.returncode == 1
    line = json.loads(ended.stderr.splitlines()[-1])
    assert (line["event"], line["error"]) == ("died", "FileNotFoundError")
    assert line["trace"]
    assert found_in(ended.stderr + ended.stdout) == set()
