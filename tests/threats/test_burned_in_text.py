"""Who wants a patient's name to come out: in the pixels of an image, in its metadata, in a sample that repeats it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from shared.errors import SynthwardError
from shared.identity import new_signing_key
from site_node.cases import PrivateStore
from site_node.importing import import_folder
from site_node.phantoms.scenes import scene, write_site
from site_node.settings import Home
from site_node.text.reader import TextReader
from tests.sites import make_site
from tests.writing import written

SECRET = "ROE 1947"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_site(tmp_path / "site", new_signing_key())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_site(tmp_path / "data", "endoscopy_warm", patients=3, cases_per_patient=1, size_px=64, seed=1)
    return tmp_path / "data"


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "tif"])
def test_a_name_in_the_pixels_is_stopped_at_intake(home: Home, data: Path, ending: str) -> None:
    path = data / "images" / "0001.png"
    image, _ = written(scene("endoscopy_warm", 7, 128).image, SECRET, at=(0.2, 0.3), font_px=14)
    path.unlink()
    Image.fromarray(image).save(path.with_suffix(f".{ending}"))
    Image.new("L", (128, 128)).save(data / "masks" / "0001.png")
    mask = Image.new("L", (128, 128))
    mask.paste(255, (80, 80, 100, 100))
    mask.save(data / "masks" / "0001.png")
    (data / "patients.csv").unlink()
    with pytest.raises(SynthwardError) as caught:
        import_folder(home, data, skip_unusable=False)
    assert caught.value.code == "intake.burned-in-text"
    assert "ROE" not in caught.value.public()


@pytest.mark.parametrize("size_px", [64, 128, 256])
def test_a_sample_that_repeats_a_name_is_found(size_px: int) -> None:
    reader = TextReader()
    sample = scene("endoscopy_cool", 5, size_px).image
    assert not reader.has_text(sample)
    repeated, _ = written(sample, SECRET, at=(0.1, 0.4), font_px=max(8, size_px // 12))
    assert reader.has_text(repeated)


def _with_metadata(source: Path, target: Path) -> None:
    """source again as target, with SECRET wherever its format has room beside the pixels."""
    picture = Image.open(source)
    exif = Image.Exif()
    exif[0x010E], exif[0x9286] = SECRET, SECRET  # description, user comment
    if target.suffix == ".png":
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("PatientName", SECRET)
        chunks.add_itxt("Comment", SECRET)
        chunks.add_text("Packed", SECRET, zip=True)
        picture.save(target, pnginfo=chunks, exif=exif)
    elif target.suffix == ".jpg":
        picture.save(target, exif=exif, comment=SECRET.encode(), quality=95)
    else:
        picture.save(target, tiffinfo={270: SECRET, 315: SECRET})


@pytest.mark.parametrize("ending", ["png", "jpg", "tif"])
def test_no_metadata_survives_import(home: Home, data: Path, ending: str) -> None:
    for path in sorted((data / "images").iterdir()):
        target = path.with_name(f"new-{path.stem}.{ending}")
        _with_metadata(path, target)
        target.write_bytes(target.read_bytes() + SECRET.encode())  # and after the end
        path.unlink()
        target.rename(path.with_suffix(f".{ending}"))
    assert any(SECRET.encode() in path.read_bytes() for path in (data / "images").iterdir())
    (data / "patients.csv").unlink()
    import_folder(home, data, skip_unusable=False)
    files = [path for path in home.private.rglob("*") if path.is_file()]
    assert any(path.suffix == ".png" for path in files)
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path.name
        if path.suffix == ".png":
            assert set(Image.open(path).info) == set()
    assert len(PrivateStore(home.private).cases()) == 3
