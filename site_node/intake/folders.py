"""A data folder -> the cases in it, and everything that is wrong with it at once.

    folder/images/0007.jpg  folder/masks/0007.png  [folder/patients.csv: image,patient | folder/index.csv: stem,group]

Promise: every file is looked at, one case's pixels at a time, and every problem is reported, so that a hospital puts
its folder right once and not once for each file. Never here: a copy, a change to the folder, a search in subfolders.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from shared.errors import SynthwardError
from shared.pairs import Pair
from site_node.intake.images import read_image, read_mask
from site_node.intake.opening import ENDINGS, IntakeLimits
from site_node.intake.patients import PatientsFrom, image_key, read_patients
from site_node.intake.problems import Problem, printable, shown

__all__ = ["Findings", "FoundCase", "IntakeLimits", "PatientsFrom", "Problem", "load_case", "read_folder"]

_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")  # hidden files too, on the systems that write them


@dataclass(frozen=True)
class FoundCase:
    """One image with its mask. stem: the image's name without ending, NFC; patient: stripped and NFC."""

    stem: str
    image: Path
    mask: Path
    patient: str


@dataclass(frozen=True)
class Findings:
    """cases: those without any problem, by stem; problems: by file; patients_from: who says which patient it is."""

    cases: tuple[FoundCase, ...]
    problems: tuple[Problem, ...]
    patients_from: PatientsFrom


def read_folder(folder: Path, limits: IntakeLimits) -> Findings:
    """Everything there is to say about a data folder. `cases` may be empty where `problems` is not.

    Raises SynthwardError for the folder as a whole: intake.folder-unreadable, intake.layout, intake.patients-format,
    and intake.nothing where there is neither a case nor a problem.
    """
    problems: list[Problem] = []
    try:
        if not folder.is_dir():
            raise _unreadable(folder, "it is a file, not a folder" if folder.exists() else "it does not exist")
        images, masks = _list_files(folder, "images", problems), _list_files(folder, "masks", problems)
        patients = read_patients(folder, {key: shown(paths[0]) for key, paths in images.items()})
    except OSError as error:
        raise _unreadable(folder, str(error.strerror)) from error
    cases = []
    for key in sorted(images.keys() | masks.keys()):
        found = list(_problems_of(images.get(key, []), masks.get(key, []), limits))
        problems += found
        if not found and key in patients.by_key:
            image = images[key][0]
            stem = unicodedata.normalize("NFC", image.stem)
            patient = stem if patients.source == "one patient a pair" else patients.by_key[key]
            cases.append(FoundCase(stem, image, masks[key][0], patient))
    problems += patients.problems
    if not cases and not problems:
        raise SynthwardError(
            "intake.nothing",
            f"{folder} has an images/ and a masks/, and nothing in them",
            do="put each image into images/ and its mask, under the same name, into masks/",
        )
    return Findings(tuple(cases), tuple(problems), patients.source)


def load_case(case: FoundCase, limits: IntakeLimits) -> Pair:
    """The case's pixels: image uint8 [H, W] or [H, W, 3], mask uint8 [H, W] with 0 and 255 (see read_image, read_mask).

    Raises SynthwardError with the codes of read_image and read_mask, and intake.size-differs: files may have changed
    since the folder was read.
    """
    image, mask = read_image(case.image, limits), read_mask(case.mask, limits)
    if image.shape[:2] != mask.shape:
        raise _size_differs(case.image, case.mask, image.shape, mask.shape)
    return Pair(image, mask)


def _problems_of(images: list[Path], masks: list[Path], limits: IntakeLimits) -> Iterator[Problem]:
    """All problems of the files that share one key, holding at most one image's and one mask's pixels."""
    for paths in (images, masks):
        if len(paths) > 1:
            names = ", ".join(shown(path) for path in paths)
            text = f"{names} differ only in their ending or spelling, so it is not clear which is meant"
            yield Problem("intake.ambiguous-name", shown(paths[0]), text, "keep one of them, or give them other names")
    if not masks:
        text = f"{shown(images[0])} has no mask"
        do = f"put its mask into masks/, named {printable(images[0].stem)}.png, or take the image out"
        yield Problem("intake.image-without-mask", shown(images[0]), text, do)
    if not images:
        text = f"{shown(masks[0])} has no image"
        do = f"put its image into images/, named {printable(masks[0].stem)} with its own ending, or take the mask out"
        yield Problem("intake.mask-without-image", shown(masks[0]), text, do)
    shapes: dict[str, tuple[int, ...]] = {}
    for read, paths, kind in ((read_image, images, "image"), (read_mask, masks, "mask")):
        for path in paths:
            try:
                shapes[kind] = read(path, limits).shape
            except SynthwardError as error:
                yield Problem.of(error, shown(path))
    if len(images) == len(masks) == 1 and len(shapes) == 2 and shapes["image"][:2] != shapes["mask"]:
        yield Problem.of(_size_differs(images[0], masks[0], shapes["image"], shapes["mask"]), shown(images[0]))


def _list_files(folder: Path, kind: str, problems: list[Problem]) -> dict[str, list[Path]]:
    """The image files of folder/kind by image key; what cannot be one is added to problems, hidden files are not."""
    found: dict[str, list[Path]] = {}
    try:
        for path in sorted((folder / kind).iterdir()):
            if path.name.startswith(".") or path.name.casefold() in _LEFT_BY_SYSTEMS:
                continue
            if reason := _not_a_candidate(path):
                do = f"move it out of {kind}/, or export it as PNG under a plain name"
                problems.append(Problem("intake.not-an-image", shown(path), f"{shown(path)} {reason}", do))
            else:
                found.setdefault(image_key(path.stem), []).append(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SynthwardError(
            "intake.layout",
            f"{folder} has no folder {kind}/",
            why="images and masks are found by their folder, and belong together by their name",
            do="lay it out as images/NAME.jpg and masks/NAME.png, and give the folder that holds both",
        ) from error
    return found


def _not_a_candidate(path: Path) -> str:
    """Why an entry of the folder is not even opened, or nothing."""
    if path.is_dir():
        return "is a folder; subfolders are not searched"
    if not path.is_file():
        return "is not a regular file, or a link that leads nowhere"
    if path.suffix.casefold() not in ENDINGS:
        return f"ends in none of {', '.join(ENDINGS)}"
    try:
        path.name.encode()
    except UnicodeEncodeError:
        return "has a name that is not valid UTF-8"
    return ""


def _unreadable(folder: Path, reason: str) -> SynthwardError:
    return SynthwardError(
        "intake.folder-unreadable",
        f"{folder} cannot be read: {reason}",
        do="give the folder that holds images/ and masks/, readable for the account that runs synthward-site",
    )


def _size_differs(image: Path, mask: Path, image_shape: tuple[int, ...], mask_shape: tuple[int, ...]) -> SynthwardError:
    """Shapes are [H, W, ...]; people read width x height."""
    sizes = " and ".join(f"{width} x {height}" for height, width in (image_shape[:2], mask_shape[:2]))
    return SynthwardError(
        "intake.size-differs",
        f"{shown(image)} and {shown(mask)} differ in size: {sizes} pixels, after EXIF orientation",
        why="a mask that does not lie on its image teaches the wrong pixels",
        do="export both at the same size; draw the mask on the image as a viewer shows it, not as it is stored",
    )
