"""The steward's runbook shows each page, with pictures that are there and small, and names codes that exist."""

from __future__ import annotations

import re

from PIL import Image

from shared.errors import CODES
from tests.browser.screenshots import MAX_BYTES, RUNBOOK

TEXT = (RUNBOOK / "steward.md").read_text(encoding="utf-8")


def test_every_picture_is_shown_once_and_every_shown_one_is_there() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)
    assert sorted(shown) == sorted(path.name for path in RUNBOOK.glob("*.png"))
    assert len(shown) >= 10


def test_pictures_are_small_enough_to_be_kept_with_the_code() -> None:
    for path in RUNBOOK.glob("*.png"):
        assert path.stat().st_size <= MAX_BYTES, path.name
        with Image.open(path) as picture:
            assert picture.width <= 1000


def test_the_codes_that_it_explains_exist() -> None:
    codes = re.findall(r"^\| `([a-z]+\.[a-z-]+)` \|", TEXT, re.M)
    assert len(codes) >= 5
    assert set(codes) <= CODES.keys()
