"""Which patient an image shows: what the intake reads from a hospital's table, and what it refuses to guess."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import SynthwardError
from site_node.intake.folders import Findings, IntakeLimits, Problem, read_folder

LIMITS = IntakeLimits()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with one good pair, called good."""
    add(tmp_path, "good")
    return tmp_path


def add(folder: Path, stem: str) -> None:
    ramp = np.tile(np.arange(40, dtype=np.uint8), (40, 1))
    for kind, pixels in (("images", ramp), ("masks", (ramp > 20).astype(np.uint8))):
        (folder / kind).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / kind / f"{stem}.png")


def only(found: Findings) -> Problem:
    """The one problem there is; the good pair must not suffer from it."""
    assert len(found.problems) == 1, found.problems
    assert "good" in [case.stem for case in found.cases]
    assert found.problems[0].do
    return found.problems[0]


def test_without_a_table_each_pair_is_a_patient_and_the_findings_say_so(folder: Path) -> None:
    add(folder, "B1")
    found = read_folder(folder, LIMITS)
    assert found.patients_from == "one patient a pair"
    assert [(case.stem, case.patient) for case in found.cases] == [("B1", "B1"), ("good", "good")]


def test_patients_csv_wins_over_index_csv(folder: Path) -> None:
    (folder / "index.csv").write_text("stem,group,width\ngood,g1,40\n")
    by_index = read_folder(folder, LIMITS)
    assert (by_index.patients_from, by_index.cases[0].patient) == ("index.csv", "g1")
    (folder / "patients.csv").write_text("image,patient\ngood.png,p1\n")
    by_patients = read_folder(folder, LIMITS)
    assert (by_patients.patients_from, by_patients.cases[0].patient) == ("patients.csv", "p1")


def test_patient_keys_are_stripped_and_normalised(folder: Path) -> None:
    add(folder, "b")
    (folder / "patients.csv").write_text(
        "\ufeffImage, Patient\r\ngood,  Zoe\u0301 \r\n\r\nb,Zo\u00e9\r\n", encoding="utf-8"
    )
    assert {case.patient for case in read_folder(folder, LIMITS).cases} == {"Zo\u00e9"}


@pytest.mark.parametrize(
    "spelling", ["été", "ÉTÉ.PNG", "été.jpg", " été.png ", "./été.png", "images/été", ".\\images\\été.png"]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_one_image_in_two_spellings_is_a_duplicate(folder: Path, spelling: str, form: str) -> None:
    add(folder, unicodedata.normalize("NFD", "été"))
    again = unicodedata.normalize(form, spelling)  # type: ignore[arg-type]
    (folder / "patients.csv").write_text(f"image,patient\ngood,p1\nété.png,p2\n{again},p3\n", encoding="utf-8")
    problem = only(read_folder(folder, LIMITS))
    assert (problem.code, problem.file) == ("intake.patients-duplicate", "patients.csv")
    assert "line 3" in problem.text
    assert "line 4" in problem.text


def test_an_image_that_the_table_lacks_is_named(folder: Path) -> None:
    add(folder, "a")
    (folder / "patients.csv").write_text("image,patient\ngood,p1\n")
    problem = only(read_folder(folder, LIMITS))
    assert problem.code == "intake.patients-missing-image"
    assert "images/a.png" in problem.text


def test_an_image_that_only_the_table_knows_is_named_with_its_line(folder: Path) -> None:
    (folder / "patients.csv").write_text("image,patient\ngood,p1\ngone.png,p2\n")
    problem = only(read_folder(folder, LIMITS))
    assert problem.code == "intake.patients-unknown-image"
    assert "line 3" in problem.text
    assert "gone.png" in problem.text


def test_a_line_without_patient_is_named(folder: Path) -> None:
    add(folder, "a")
    (folder / "patients.csv").write_text("image,patient\ngood,p1\na,  \n")
    problem = only(read_folder(folder, LIMITS))
    assert problem.code == "intake.patients-format"
    assert "line 3" in problem.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"file,name\ngood,p1\n",
        b"image;patient\ngood;p1\n",
        b"image,patient\ngood,p1,x\n",
        b"image,patient\n\xff\xfe\n",
    ],
    ids=["empty", "other columns", "semicolons", "too many columns", "not UTF-8"],
)
def test_a_table_that_cannot_be_understood_says_what_it_should_have(folder: Path, content: bytes) -> None:
    (folder / "patients.csv").write_bytes(content)
    with pytest.raises(SynthwardError) as caught:
        read_folder(folder, LIMITS)
    assert caught.value.code == "intake.patients-format"
    assert "image,patient" in caught.value.do
