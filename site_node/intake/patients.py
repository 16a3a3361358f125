"""Which patient an image shows, as the hospital's own table says: patients.csv, or index.csv, or nothing.

Promise: every image has exactly one patient or is reported. One image written in two ways (a.PNG, ./a, a with a
combining accent) is one image: otherwise two lines about it could put a patient on both sides of the split.
"""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.errors import SynthwardError
from site_node.intake.opening import ENDINGS
from site_node.intake.problems import Problem, printable

PatientsFrom = Literal["patients.csv", "index.csv", "one patient a pair"]
_TABLES: tuple[tuple[PatientsFrom, str, str], ...] = (  # file, column of the image, column of the patient
    ("patients.csv", "image", "patient"),
    ("index.csv", "stem", "group"),
)


@dataclass(frozen=True)
class Patients:
    """by_key: image key -> patient, for the images about which there is no problem."""

    by_key: Mapping[str, str]
    problems: tuple[Problem, ...]
    source: PatientsFrom


@dataclass(frozen=True)
class _Line:
    number: int
    name: str
    patient: str


def image_key(stem: str) -> str:
    """What makes two spellings of one stem equal: NFC, and neither case nor outer spaces count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold()).strip()


def read_patients(folder: Path, images: Mapping[str, str]) -> Patients:
    """Patients of the images. images: image key -> name to show.

    patients.csv wins over index.csv; without either, each image is a patient of its own under its stem's key.
    Raises SynthwardError (intake.patients-format), and OSError where the folder or the table cannot be read.
    """
    present = {path.name.casefold(): path for path in sorted(folder.iterdir())}  # Patients.CSV must not be overlooked
    for source, image_column, patient_column in _TABLES:
        if source in present:
            lines = _read_table(present[source], image_column, patient_column)
            return _assign(lines, images, source)
    return Patients({key: key for key in images}, (), "one patient a pair")


def _assign(lines: list[_Line], images: Mapping[str, str], source: PatientsFrom) -> Patients:
    problems: list[Problem] = []
    by_image: dict[str, list[_Line]] = {}
    for line in lines:
        key = _resolve(line.name, images)
        if key is None:
            text = f"line {line.number} names {printable(line.name)!r}, which is not in images/"
            do = "correct the name, add the image, or take the line out"
            problems.append(Problem("intake.patients-unknown-image", source, text, do))
        else:
            by_image.setdefault(key, []).append(line)
    accepted: dict[str, str] = {}
    for key, name in images.items():
        about = by_image.get(key, [])
        if not about:
            text, do = f"no line names {name}", "add a line with its patient"
            problems.append(Problem("intake.patients-missing-image", source, text, do))
        elif len(about) > 1:
            spelt = ", ".join(f"line {line.number} {printable(line.name)!r}" for line in about)
            text, do = f"{name} is named {len(about)} times: {spelt}", "keep the line that is right"
            problems.append(Problem("intake.patients-duplicate", source, text, do))
        elif not about[0].patient:
            text, do = f"line {about[0].number} gives no patient for {name}", "fill in its patient"
            problems.append(Problem("intake.patients-format", source, text, do))
        else:
            accepted[key] = about[0].patient
    return Patients(accepted, tuple(problems), source)


def _resolve(name: str, images: Mapping[str, str]) -> str | None:
    """The key of the image that a table means: with or without ending, folder images/ or a leading ./ or not."""
    path = name.replace("\\", "/")
    while path.startswith("./"):
        path = path[2:].lstrip("/")
    key = image_key(path).removeprefix("images/")
    ending = next((ending for ending in ENDINGS if key.endswith(ending)), None)
    # Without its ending first: 'a.png' means the file a.png rather than one called a.png.png.
    for candidate in (key.removesuffix(ending).strip() if ending else key, key):
        if candidate in images:
            return candidate
    return None


def _read_table(path: Path, image_column: str, patient_column: str) -> list[_Line]:
    name = path.name
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip().casefold() for cell in next(reader, [])]
            if header.count(image_column) != 1 or header.count(patient_column) != 1:
                raise _bad_table(
                    name, f"its first line is {printable(','.join(header))!r}", image_column, patient_column
                )
            at = header.index(image_column), header.index(patient_column)
            lines = []
            for row in reader:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(header):
                    found = f"line {reader.line_num} has {len(row)} columns, the first line {len(header)}"
                    raise _bad_table(name, found, image_column, patient_column)
                patient = unicodedata.normalize("NFC", row[at[1]]).strip()
                lines.append(_Line(reader.line_num, row[at[0]].strip(), patient))
            return lines
    except UnicodeDecodeError as error:
        raise _bad_table(name, f"byte {error.start} is not UTF-8", image_column, patient_column) from error
    except csv.Error as error:
        raise _bad_table(name, f"line {reader.line_num}: {error}", image_column, patient_column) from error


def _bad_table(name: str, found: str, image_column: str, patient_column: str) -> SynthwardError:
    return SynthwardError(
        "intake.patients-format",
        f"{name} cannot be used: {found}",
        why="without it, images of one patient could end up in both training and hold-out",
        do=f"save it as UTF-8 with commas and a first line that has {image_column},{patient_column}",
    )
