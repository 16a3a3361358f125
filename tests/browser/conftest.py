"""One Chromium for all browser tests, and a site for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import browser, need_chromium
from tests.review_site import ReviewSite, review_site


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless Chromium; skips, or in CI fails, where there is none."""
    need_chromium()
    with browser() as started:
        yield started


@pytest.fixture
def site(tmp_path: Path) -> ReviewSite:
    """A site whose release has two pages of samples."""
    return review_site(tmp_path / "site", samples=52, cases=6)
