"""What import promises about text in images: none goes in unseen, and what was done is kept, without what was read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from shared.errors import SynthwardError
from shared.identity import new_signing_key
from shared.journal import entries
from shared.pairs import Pair, Pixels
from site_node.cases import PrivateStore, case_texts
from site_node.cases import journal as private_journal
from site_node.cli import app
from site_node.importing import import_folder
from site_node.intake.text_choice import TextChoice
from site_node.intake.text_found import Treatment, decide, treated
from site_node.intake.text_record import text_counts
from site_node.phantoms.scenes import scene
from site_node.settings import Home
from site_node.text.reader import TextLine, TextReader
from tests.sites import make_site
from tests.writing import written

SIDE = 96
NAME = "JANE DOE"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_site(tmp_path / "site", new_signing_key())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four patients' pairs; the image of the second says who it is, away from its lesion."""
    for kind in ("images", "masks"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number in range(4):
        pair = framed(number)
        image = written(pair.image, NAME, at=(0.2, 0.12), font_px=12)[0] if number == 1 else pair.image
        Image.fromarray(image).save(tmp_path / "data" / "images" / f"p{number}.png")
        Image.fromarray(pair.mask).save(tmp_path / "data" / "masks" / f"p{number}.png")
    return tmp_path / "data"


def framed(number: int) -> Pair:
    """A phantom in the lower part of a frame whose upper third is black; the mask lies below."""
    pair = scene("endoscopy_cool", number, SIDE)
    image, mask = pair.image.copy(), np.zeros((SIDE, SIDE), np.uint8)
    image[32:] = np.maximum(image[32:], 70)
    image[:32] = 0
    mask[60:80, 30:70] = 255
    return Pair(image, mask)


def records(home: Home) -> list[tuple[int, str, float]]:
    with PrivateStore(home.private).reading.begin() as connection:
        return sorted((row.lines, row.action, row.share_painted) for row in connection.execute(case_texts.select()))


def journal_text(home: Home) -> str:
    with PrivateStore(home.private).reading.begin() as connection:
        return entries(connection, private_journal)[-1].detail


def stored(home: Home) -> list[Pair]:
    return [case.load() for case in PrivateStore(home.private).cases()]


def test_text_is_refused_with_its_place_and_without_its_words(home: Home, data: Path) -> None:
    with pytest.raises(SynthwardError) as caught:
        import_folder(home, data, skip_unusable=False)
    assert caught.value.code == "intake.burned-in-text"
    assert "images/p1.png" in str(caught.value)
    assert "% of the width" in str(caught.value)
    assert "--text paint" in str(caught.value)
    assert "JANE" not in str(caught.value)
    with pytest.raises(SynthwardError, match="no data was imported"):
        PrivateStore(home.private).cases()


def test_the_rest_can_be_imported(home: Home, data: Path) -> None:
    told: dict[str, str] = {}
    done = import_folder(
        home, data, skip_unusable=True, tell=lambda file, lines: told.update({file: " ".join(x.text for x in lines)})
    )
    assert done.cases == 3
    assert [problem.code for problem in done.problems] == ["intake.burned-in-text"]
    assert done.texts == {"with_text": 0, "none": 3, "painted": 0, "cropped": 0, "kept": 0}
    assert list(told) == ["images/p1.png"]
    assert "JANE" in told["images/p1.png"]


def test_painting_takes_the_text_out_and_is_recorded(home: Home, data: Path) -> None:
    done = import_folder(home, data, skip_unusable=False, text="paint")
    assert done.texts == {"with_text": 1, "none": 3, "painted": 1, "cropped": 0, "kept": 0}
    reader = TextReader()
    assert not any(reader.lines(pair.image) for pair in stored(home))
    clean, painted = records(home)[0], records(home)[-1]
    assert clean == (0, "none", 0.0)
    assert painted[:2] == (1, "painted")
    assert 0 < painted[2] < 0.3
    assert journal_text(home) == "text in 1 of 4 images: painted 1, cropped 0, kept 0"
    assert b"JANE" not in (home.private / "site.db").read_bytes()


def test_cropping_takes_the_border_off_image_and_mask(home: Home, data: Path) -> None:
    done = import_folder(home, data, skip_unusable=False, text="crop")
    assert done.texts == {"with_text": 1, "none": 0, "painted": 0, "cropped": 4, "kept": 0}
    reader = TextReader()
    for pair in stored(home):
        assert pair.mask.shape[0] < SIDE - 25
        assert (pair.mask > 0).sum() == 20 * 40
        assert reader.lines(pair.image) == []


def test_text_inside_the_field_is_refused_after_cropping(home: Home, data: Path) -> None:
    image, _ = written(framed(2).image, "00:05:02", at=(0.2, 0.45), font_px=12)
    Image.fromarray(image).save(data / "images" / "p2.png")
    done = import_folder(home, data, skip_unusable=True, text="crop")
    assert done.cases == 3
    assert ["field of view" in problem.text for problem in done.problems] == [True]


def test_text_is_kept_with_a_reason_and_the_journal_says_so(home: Home, data: Path) -> None:
    done = import_folder(home, data, skip_unusable=False, text="keep", because="a phantom's label, no patient's")
    assert done.texts["kept"] == 1
    assert journal_text(home).endswith("kept 1; because: a phantom's label, no patient's")
    assert any(TextReader().has_text(pair.image) for pair in stored(home))


@pytest.mark.parametrize(
    ("text", "because"), [("keep", ""), ("keep", "  "), ("keep", "two\nlines"), ("keep", "x" * 301), ("paint", "why")]
)
def test_a_reason_belongs_to_keeping_alone(home: Home, data: Path, text: TextChoice, because: str) -> None:
    with pytest.raises(SynthwardError) as caught:
        import_folder(home, data, skip_unusable=False, text=text, because=because)
    assert caught.value.code == "intake.text-reason"


def test_a_new_import_replaces_the_record(home: Home, data: Path) -> None:
    import_folder(home, data, skip_unusable=False, text="paint")
    import_folder(home, data, skip_unusable=False, text="crop")
    assert [action for _, action, _ in records(home)] == ["cropped"] * 4
    with PrivateStore(home.private).reading.begin() as connection:
        assert text_counts(connection, case_texts)["painted"] == 0


def test_the_command_shows_counts_and_no_words(home: Home, data: Path) -> None:
    done = CliRunner().invoke(app, ["import", str(data), "--text", "paint", "--home", str(home.path)])
    assert done.exit_code == 0, done.output
    assert "found in 1; painted over in 1" in done.output
    assert "JANE" not in done.output


class Pretended:
    """A reader with these answers, one after the other; then it finds nothing."""

    def __init__(self, *answers: list[TextLine]) -> None:
        self._answers = list(answers)

    def lines(self, image: Pixels) -> list[TextLine]:
        return self._answers.pop(0) if self._answers else []


def line(left: int, top: int, right: int, bottom: int) -> TextLine:
    return TextLine(((left, top), (right, top), (right, bottom), (left, bottom)), NAME, 0.9)


def decided(choice: TextChoice, *answers: list[TextLine]) -> Treatment:
    reader = Pretended(*answers)
    pair = framed(0)
    return decide(pair, "images/a.png", choice, reader.lines(pair.image), reader)


@pytest.mark.parametrize(("bottom", "refused"), [(55, False), (65, True)])
def test_a_lesion_is_not_painted_over(bottom: int, refused: bool) -> None:
    lines = [line(30, 45, 70, bottom)]  # the lesion begins at row 60; the margin is 2 px
    if refused:
        with pytest.raises(SynthwardError, match="on the lesion"):
            decided("paint", lines)
    else:
        assert decided("paint", lines).action == "painted"


def test_a_fainter_line_is_painted_too_and_a_stubborn_one_refused() -> None:
    first, second = [line(5, 5, 40, 12)], [line(50, 5, 80, 12)]
    found = decided("paint", first, second)
    assert found.rounds == ((first[0],), (second[0],))
    assert len(found.found) == 1
    with pytest.raises(SynthwardError, match="still read"):
        decided("paint", *([first] * 9))


def test_what_is_only_read_after_cropping_is_refused_too() -> None:
    with pytest.raises(SynthwardError, match="inside the field of view"):
        decided("crop", [], [line(5, 40, 40, 50)])


def test_what_changed_after_it_was_read_does_not_go_in() -> None:
    with pytest.raises(SynthwardError, match="changed while"):
        treated(framed(1), decided("paint"))


def test_treating_a_case_without_text_changes_nothing() -> None:
    pair = treated(framed(0), decided("refuse"))
    np.testing.assert_array_equal(pair.image, framed(0).image)
    np.testing.assert_array_equal(pair.mask, framed(0).mask)
