"""What the intake promises about a hospital's folder: good files in one form, bad ones named with what to do."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import SynthwardError
from site_node.intake.folders import Findings, FoundCase, IntakeLimits, Problem, load_case, read_folder

LIMITS = IntakeLimits()
SIDE = 40
NOBODY = 65534


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with one good pair, called good."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    add(tmp_path, "good")
    return tmp_path


def picture(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def lesion(height: int = SIDE, width: int = SIDE, value: int = 255) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[5:20, 8:18] = value
    return mask


def add(folder: Path, stem: str) -> None:
    Image.fromarray(picture()).save(folder / "images" / f"{stem}.png")
    Image.fromarray(lesion()).save(folder / "masks" / f"{stem}.png")


def only(found: Findings) -> Problem:
    """The one problem there is; the good pair must not suffer from it."""
    assert len(found.problems) == 1, found.problems
    assert "good" in [case.stem for case in found.cases]
    assert found.problems[0].do
    return found.problems[0]


def load(folder: Path, stem: str = "a") -> tuple[np.ndarray, np.ndarray]:
    case = next(case for case in read_folder(folder, LIMITS).cases if case.stem == stem)
    pair = load_case(case, LIMITS)
    return pair.image, pair.mask


def refused(folder: Path) -> str:
    """The code with which load_case refuses a pair called a, read before it went bad."""
    found = next((folder / "images").glob("a.*")), next((folder / "masks").glob("a.*"))
    with pytest.raises(SynthwardError) as caught:
        load_case(FoundCase("a", *found, "p"), LIMITS)
    return caught.value.code


def png(width: int, height: int, rows: bytes, *, interlaced: int = 0) -> bytes:
    """A grey 8-bit PNG made by hand, whose rows need not fit its header."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


# Pairs ---------------------------------------------------------------------------------------------------------------


def test_a_good_folder_has_cases_and_no_problem(folder: Path) -> None:
    add(folder, "b")
    found = read_folder(folder, LIMITS)
    assert [case.stem for case in found.cases] == ["b", "good"]
    assert found.problems == ()


def test_an_image_without_mask_is_named(folder: Path) -> None:
    Image.fromarray(picture()).save(folder / "images/a.png")
    problem = only(read_folder(folder, LIMITS))
    assert (problem.code, problem.file) == ("intake.image-without-mask", "images/a.png")


def test_a_mask_without_image_is_named(folder: Path) -> None:
    Image.fromarray(lesion()).save(folder / "masks/a.png")
    problem = only(read_folder(folder, LIMITS))
    assert (problem.code, problem.file) == ("intake.mask-without-image", "masks/a.png")


@pytest.mark.parametrize(("kind", "second"), [("images", "a.bmp"), ("masks", "a.tif"), ("images", "A.png")])
def test_two_files_with_one_name_are_ambiguous(folder: Path, kind: str, second: str) -> None:
    add(folder, "a")
    Image.fromarray(picture() if kind == "images" else lesion()).save(folder / kind / second)
    problem = only(read_folder(folder, LIMITS))
    assert problem.code == "intake.ambiguous-name"
    assert second in problem.text
    assert "a.png" in problem.text


def test_sizes_that_differ_are_stated_as_width_by_height(folder: Path) -> None:
    add(folder, "a")
    Image.fromarray(lesion(40, 50)).save(folder / "masks/a.png")
    problem = only(read_folder(folder, LIMITS))
    assert problem.code == "intake.size-differs"
    assert "40 x 40 and 50 x 40" in problem.text
    assert refused(folder) == "intake.size-differs"


@pytest.mark.parametrize("ending", [".png", ".JPG", ".jpeg", ".Bmp", ".TIF", ".tiff"])
def test_endings_in_any_case_are_read_and_pair_with_any_other(folder: Path, ending: str) -> None:
    Image.fromarray(picture()).save(folder / f"images/a{ending}")
    Image.fromarray(lesion()).save(folder / "masks/A.PNG")
    image, mask = load(folder)
    assert image.shape == (SIDE, SIDE, 3)
    np.testing.assert_array_equal(mask, lesion())


def test_hidden_files_are_ignored(folder: Path) -> None:
    for name in (".DS_Store", "._good.png", "Thumbs.db"):
        (folder / "images" / name).write_bytes(b"\0")
    assert read_folder(folder, LIMITS).problems == ()


def test_what_cannot_be_an_image_is_named_and_not_passed_over(folder: Path) -> None:
    (folder / "images/notes.txt").write_text("x")
    (folder / "images/more").mkdir()
    (folder / "images/link.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "images/pipe.png")  # opening it would wait for ever
    found = read_folder(folder, LIMITS)
    assert {problem.file.removeprefix("images/") for problem in found.problems} == {
        "notes.txt",
        "more",
        "link.png",
        "pipe.png",
    }
    assert {problem.code for problem in found.problems} == {"intake.not-an-image"}


def test_all_problems_are_reported_and_not_only_the_first(folder: Path) -> None:
    add(folder, "a")
    (folder / "images/a.png").write_text("text")
    Image.fromarray(lesion(value=0)).save(folder / "masks/a.png")
    (folder / "images/b.png").write_text("text")  # and it has no mask
    (folder / "patients.csv").write_text("image,patient\ngood,p\na,p\nc,p\n")
    found = read_folder(folder, LIMITS)
    assert sorted((problem.code.removeprefix("intake."), problem.file) for problem in found.problems) == [
        ("image-without-mask", "images/b.png"),
        ("mask-empty", "masks/a.png"),
        ("not-an-image", "images/a.png"),
        ("not-an-image", "images/b.png"),
        ("patients-missing-image", "patients.csv"),
        ("patients-unknown-image", "patients.csv"),
    ]
    assert [case.stem for case in found.cases] == ["good"]


# Damaged, hostile and useless files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.98])
def test_a_truncated_file_is_refused(folder: Path, ending: str, kept: float) -> None:
    add(folder, "a")
    whole = folder / f"whole.{ending}"
    Image.fromarray(picture()).save(whole)
    (folder / "images/a.png").write_bytes(whole.read_bytes()[: int(kept * whole.stat().st_size)])
    assert only(read_folder(folder, LIMITS)).code == "intake.truncated"
    assert refused(folder) == "intake.truncated"


@pytest.mark.parametrize("interlaced", [0, 1])
def test_a_png_with_too_few_rows_is_not_filled_up_with_zeros(folder: Path, interlaced: int) -> None:
    add(folder, "a")
    (folder / "images/a.png").write_bytes(png(SIDE, SIDE, bytes(range(41)) * 30, interlaced=interlaced))
    assert only(read_folder(folder, LIMITS)).code == "intake.truncated"


def test_an_interlaced_png_that_is_whole_is_read(folder: Path) -> None:
    add(folder, "a")
    # 8 x 8 blocks of Adam7 at 40 x 40: rows of 5, 5, 10, 10, 20, 20 and 40 pixels, each after its filter byte.
    passes = [(5, 5), (5, 5), (10, 5), (10, 10), (20, 10), (20, 20), (40, 20)]
    rows = b"".join((b"\0" + bytes(range(1, width + 1))) * height for width, height in passes)
    (folder / "images/a.png").write_bytes(png(SIDE, SIDE, rows, interlaced=1))
    image, _ = load(folder)
    assert image.shape == (SIDE, SIDE)
    assert image.min() == 1


def test_a_text_file_named_png_is_not_an_image(folder: Path) -> None:
    add(folder, "a")
    (folder / "images/a.png").write_text("Dear colleague, the images follow.")
    assert only(read_folder(folder, LIMITS)).code == "intake.not-an-image"
    assert refused(folder) == "intake.not-an-image"


def test_a_format_that_is_not_named_is_refused_whatever_its_ending(folder: Path) -> None:
    add(folder, "a")
    Image.fromarray(picture()).save(folder / "images/a.png", format="GIF")
    assert only(read_folder(folder, LIMITS)).code == "intake.not-an-image"


@pytest.mark.parametrize("side", [60_000, 12_000, 5_000])  # beyond Pillow's error, its warning, and our limit alone
def test_a_png_bomb_is_refused_from_its_header(folder: Path, side: int) -> None:
    add(folder, "a")
    (folder / "images/a.png").write_bytes(png(side, side, b"\0" * 100))
    tracemalloc.start()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own warning must not reach the user
        problem = only(read_folder(folder, LIMITS))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert problem.code == "intake.too-large"
    assert "16777216" in problem.text
    assert peak < 4 * 2**20
    assert refused(folder) == "intake.too-large"


def test_the_size_limits_are_the_sites(folder: Path) -> None:
    assert read_folder(folder, IntakeLimits(max_pixels=SIDE * SIDE, min_side_px=SIDE)).problems == ()
    large = read_folder(folder, IntakeLimits(max_pixels=SIDE * SIDE - 1))
    small = read_folder(folder, IntakeLimits(min_side_px=SIDE + 1))
    assert {problem.code for problem in large.problems} == {"intake.too-large"}
    assert {problem.code for problem in small.problems} == {"intake.too-small"}


def test_a_constant_image_is_refused(folder: Path) -> None:
    add(folder, "a")
    Image.new("RGB", (SIDE, SIDE), (10, 200, 30)).save(folder / "images/a.png")
    assert only(read_folder(folder, LIMITS)).code == "intake.constant-image"


def test_a_file_with_several_pages_is_refused(folder: Path) -> None:
    Image.fromarray(lesion()).save(folder / "masks/a.png")
    page = Image.fromarray(picture())
    page.save(folder / "images/a.tif", save_all=True, append_images=[page])
    assert "pages" in only(read_folder(folder, LIMITS)).text


# The form that images come in ----------------------------------------------------------------------------------------


def test_an_exif_rotated_jpeg_stands_upright_and_fits_its_mask(folder: Path) -> None:
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[:, :20] = 250  # bright on the left as stored
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise: left becomes top
    Image.fromarray(stored).save(folder / "images/a.jpg", exif=exif, quality=95)
    Image.fromarray(lesion(60, 40)).save(folder / "masks/a.png")
    image, mask = load(folder)
    assert image.shape == (60, 40, 3)
    assert mask.shape == (60, 40)
    assert image[:18].mean() > 240
    assert image[22:].mean() < 10


def test_16_bits_are_scaled_by_the_files_full_range_and_not_by_the_images(folder: Path) -> None:
    add(folder, "a")
    deep = np.full((SIDE, SIDE), 256 * 100, np.uint16)
    deep[0, 0], deep[0, 1] = 256 * 50, 65535
    Image.fromarray(deep).save(folder / "images/a.png")
    image, _ = load(folder)
    assert image.dtype == np.uint8
    assert [image[0, 0], image[0, 1], image[1, 1]] == [50, 255, 100]


def test_a_grey_image_stays_grey(folder: Path) -> None:
    add(folder, "a")
    Image.fromarray(picture()[..., 0]).save(folder / "images/a.png")
    np.testing.assert_array_equal(load(folder)[0], picture()[..., 0])


def test_a_palette_becomes_its_colours(folder: Path) -> None:
    add(folder, "a")
    indexed = Image.fromarray(picture()).quantize(64)
    indexed.save(folder / "images/a.png")
    np.testing.assert_array_equal(load(folder)[0], np.asarray(indexed.convert("RGB")))


def test_what_alpha_hides_stays_hidden(folder: Path) -> None:
    add(folder, "a")
    alpha = np.full((SIDE, SIDE, 1), 255, np.uint8)
    alpha[:10] = 0
    Image.fromarray(np.concatenate([picture(), alpha], axis=2)).save(folder / "images/a.png")
    image, _ = load(folder)
    assert not image[:10].any()
    np.testing.assert_array_equal(image[10:], picture()[10:])


def test_samples_without_a_full_range_are_refused(folder: Path) -> None:
    Image.fromarray(lesion()).save(folder / "masks/a.png")
    Image.fromarray(picture()[..., 0].astype(np.float32)).save(folder / "images/a.tif")
    assert only(read_folder(folder, LIMITS)).code == "intake.not-an-image"


# Masks ---------------------------------------------------------------------------------------------------------------


def with_palette(colours: list[int]) -> Image.Image:
    indexed = Image.fromarray(lesion(value=1))
    indexed.putpalette(colours)
    return indexed


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image.fromarray(lesion(value=1)),
        lambda: Image.fromarray(lesion(value=255)),
        lambda: Image.fromarray(lesion(value=38)),
        lambda: Image.fromarray(lesion()).convert("1"),
        lambda: Image.fromarray(lesion(value=1).astype(np.uint16)),
        lambda: Image.fromarray(lesion().astype(np.uint16) * 257),
        lambda: Image.fromarray(lesion()).convert("RGB"),
        lambda: Image.fromarray(lesion()).convert("RGBA"),
        lambda: with_palette([0, 0, 0, 128, 0, 0]),
        lambda: with_palette([0, 0, 0, 255, 255, 255]),
    ],
    ids=["0-1", "0-255", "0-38", "1 bit", "16 bit 0-1", "16 bit", "RGB", "RGBA", "coloured palette", "grey palette"],
)
def test_a_two_valued_mask_becomes_0_and_255(folder: Path, make: Callable[[], Image.Image]) -> None:
    add(folder, "a")
    make().save(folder / "masks/a.png")
    np.testing.assert_array_equal(load(folder)[1], lesion())


def test_a_palette_mask_goes_by_colour_and_not_by_index(folder: Path) -> None:
    add(folder, "a")
    with_palette([255, 255, 255, 0, 0, 0]).save(folder / "masks/a.png")
    np.testing.assert_array_equal(load(folder)[1], 255 - lesion())


def test_the_values_of_a_mask_that_is_not_binary_are_listed(folder: Path) -> None:
    add(folder, "a")
    mask = lesion()
    mask[0, :20] = np.arange(20)
    Image.fromarray(mask).save(folder / "masks/a.png")
    problem = only(read_folder(folder, LIMITS))
    assert problem.code == "intake.mask-not-binary"
    assert "0, 1, 2, 3, 4, 5, 6, 7 and 13 more" in problem.text
    assert refused(folder) == "intake.mask-not-binary"


@pytest.mark.parametrize(
    "make",
    [
        lambda: Image.fromarray(lesion(value=50) + 100),
        lambda: Image.fromarray(picture()),
        lambda: with_palette([0, 0, 200, 128, 0, 0]),
    ],
    ids=["two values without 0", "a picture", "a palette without black"],
)
def test_a_mask_whose_background_is_not_clear_is_refused(folder: Path, make: Callable[[], Image.Image]) -> None:
    add(folder, "a")
    make().save(folder / "masks/a.png")
    assert only(read_folder(folder, LIMITS)).code == "intake.mask-not-binary"


@pytest.mark.parametrize(
    ("value", "code"), [(0, "intake.mask-empty"), (1, "intake.mask-full"), (255, "intake.mask-full")]
)
def test_a_mask_that_marks_nothing_or_everything_is_refused(folder: Path, value: int, code: str) -> None:
    add(folder, "a")
    Image.fromarray(np.full((SIDE, SIDE), value, np.uint8)).save(folder / "masks/a.png")
    assert only(read_folder(folder, LIMITS)).code == code
    assert refused(folder) == code


# The folder as a whole -----------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_or_is_a_file_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path, reason in ((tmp_path / "gone", "does not exist"), (tmp_path / "file", "not a folder")):
        with pytest.raises(SynthwardError, match=reason) as caught:
            read_folder(path, LIMITS)
        assert caught.value.code == "intake.folder-unreadable"


@contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root may read everything, so where tests run as root they step down for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("closed", [".", "images"])
def test_a_folder_without_permission_cannot_be_read(folder: Path, closed: str) -> None:
    with tempfile.TemporaryDirectory() as public:
        Path(public).chmod(0o755)
        here = Path(public) / "data"
        shutil.copytree(folder, here)
        for each in (here, here / "images", here / "masks"):
            each.chmod(0o755)
        with an_ordinary_user():
            assert read_folder(here, LIMITS).cases, "readable before it is closed"
        (here / closed).chmod(0)
        try:
            with an_ordinary_user(), pytest.raises(SynthwardError) as caught:
                read_folder(here, LIMITS)
        finally:
            (here / closed).chmod(0o700)
    assert caught.value.code == "intake.folder-unreadable"


@pytest.mark.parametrize("missing", ["images", "masks"])
def test_a_folder_without_images_or_masks_says_how_to_lay_it_out(folder: Path, missing: str) -> None:
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(SynthwardError, match=missing) as caught:
        read_folder(folder, LIMITS)
    assert caught.value.code == "intake.layout"


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(SynthwardError) as caught:
        read_folder(tmp_path, LIMITS)
    assert caught.value.code == "intake.nothing"
