"""What the reader of burned-in text promises: it finds writing, takes no texture for it, and needs no network."""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import SynthwardError
from site_node.phantoms.scenes import Look, scene
from site_node.text import reader as module
from site_node.text.reader import TextLine, TextReader, _starts, counts_as_text, place
from tests.writing import written

LOOKS: tuple[Look, ...] = ("endoscopy_warm", "endoscopy_cool", "fundus")


@pytest.fixture(scope="module")
def reader() -> TextReader:
    return TextReader()


def read(lines: list[TextLine]) -> str:
    return "".join(sign for line in lines for sign in line.text if sign.isalnum())


@pytest.mark.parametrize(("side", "font"), [(64, 9), (128, 10), (256, 9), (256, 20)])
def test_writing_is_read_where_it_stands(reader: TextReader, side: int, font: int) -> None:
    image, box = written(scene("endoscopy_cool", 3, side).image, "15/03/2012", at=(0.1, 0.4), font_px=font)
    (line,) = reader.lines(image)
    assert read([line]) == "15032012"
    assert 0.5 < line.confidence <= 1
    # The box covers the writing; it is at most a line's height too large.
    assert np.allclose(line.bounds, box, atol=max(3, font))
    assert reader.has_text(image)


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark_writing_is_found_on_grey_images_too(reader: TextReader, dark: bool) -> None:
    grey = np.full((128, 160), 130, np.uint8) + np.random.default_rng(0).integers(0, 20, (128, 160), np.uint8)
    image, _ = written(grey, "JANE DOE", at=(0.2, 0.5), font_px=14, value=10 if dark else 240)
    assert read(reader.lines(image)) == "JANEDOE"
    assert reader.has_text(image)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("side", [64, 128])
def test_no_texture_is_taken_for_writing(reader: TextReader, look: Look, side: int) -> None:
    for seed in range(2):
        image = scene(look, seed, side).image
        assert reader.lines(image) == []
        assert not reader.has_text(image)


@pytest.mark.parametrize("shape", [(32, 32), (32, 400, 3), (40, 40, 3)])
def test_noise_is_not_writing(reader: TextReader, shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    assert reader.lines(noise) == []


def test_a_line_across_two_windows_is_found_once(reader: TextReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WINDOW_PX", 320)
    image, box = written(scene("fundus", 2, 256).image, "00:05:02", at=(0.35, 0.3), font_px=14)
    (line,) = reader.lines(image)
    assert np.allclose(line.bounds, box, atol=14)


def test_a_long_strip_is_read(reader: TextReader) -> None:
    strip = np.full((40, 5000), 90, np.uint8)  # longer than any window, and than images are reduced to
    image, box = written(strip, "15/03/2012", at=(0.5, 0.2), font_px=20)
    (line,) = reader.lines(image)
    assert read([line]) == "15032012"
    assert np.allclose(line.bounds, box, atol=20)


def test_the_same_image_gives_the_same_lines(reader: TextReader) -> None:
    image, _ = written(scene("fundus", 1, 128).image, "ID 4711", at=(0.3, 0.3), font_px=12)
    assert reader.lines(image) == reader.lines(image.copy()) == TextReader().lines(image)


def test_it_is_made_and_reads_without_network_and_without_a_word(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the reader asked for the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    module._engine.cache_clear()
    image, _ = written(scene("fundus", 1, 64).image, "JANE DOE", at=(0.1, 0.4), font_px=10)
    with caplog.at_level(logging.DEBUG):
        assert TextReader().has_text(image)
        assert not TextReader().has_text(scene("fundus", 1, 64).image)
    assert "JANE" not in caplog.text
    assert capfd.readouterr() == ("", "")


def test_a_package_without_its_networks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_DETECTOR", "gone.onnx")
    with pytest.raises(SynthwardError) as caught:
        TextReader()
    assert caught.value.code == "text.models-missing"


@pytest.mark.parametrize("shape", [(31, 40, 3), (40, 31), (40, 40, 4)])
def test_what_is_no_image_of_ours_is_our_mistake(reader: TextReader, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"not"):
        reader.lines(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("text", "confidence", "counts"),
    [("9", 0.99, False), ("PO", 0.86, False), ("RT", 0.97, True), ("RT5", 0.5, True), ("::/-", 1.0, False),
     ("00:05", 0.39, False), ("王小明", 0.9, True)],
)  # fmt: skip
def test_what_counts_as_text(text: str, confidence: float, counts: bool) -> None:
    assert counts_as_text(text, confidence) == counts


def test_a_place_is_told_in_per_cent_of_width_and_height() -> None:
    line = TextLine(((10, 5), (30, 5), (30, 10), (10, 10)), "x", 1.0)
    assert place(line, (50, 100, 3)) == "10 to 30 % of the width and 10 to 20 % of the height"


@given(st.integers(1, 4096))
def test_windows_cover_a_side_and_overlap(length: int) -> None:
    starts = _starts(length)
    ends = [min(length, start + module._WINDOW_PX) for start in starts]
    assert starts[0] == 0
    assert ends[-1] == length
    for end, start in zip(ends[:-1], starts[1:], strict=True):
        assert end - start >= module._OVERLAP_PX - 1  # starts are rounded


def test_the_command_line_does_not_wait_for_the_reader() -> None:
    code = "import sys, site_node.cli, site_node.cases; sys.exit('rapidocr' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_opencv_is_the_one_without_windows() -> None:
    assert "GUI:                           NONE" in cv2.getBuildInformation()


def test_reading_leaves_nothing_behind_in_the_users_home(tmp_path: Path) -> None:
    """onnxruntime would keep a device id there, and records of each start for its maker."""
    code = (
        "import numpy as np\nfrom site_node.text.reader import TextReader\n"
        "TextReader().lines(np.full((64, 64, 3), 90, np.uint8))\n"
    )
    home = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=home, cwd=Path(__file__).parents[2], timeout=120)
    assert list(tmp_path.rglob("*")) == []
