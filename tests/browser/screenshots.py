"""Makes the runbook's pictures anew, from phantoms: python -m tests.browser.screenshots

Every page of the review, as Chromium shows it; each PNG under MAX_BYTES.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from shared.bundle import Verdict
from tests.browser.chromium import Steward, browser, served, steward
from tests.review_site import PASSWORD, ReviewSite, review_site

RUNBOOK = Path(__file__).resolve().parents[2] / "deploy" / "runbook"
MAX_BYTES = 250_000
_WINDOW = {"width": 1000, "height": 720}


def main() -> int:
    """Writes all pictures."""
    with browser() as chromium, tempfile.TemporaryDirectory() as folder:
        site = make(Path(folder) / "passed", "passed")
        with served(site) as address, steward(chromium, address, viewport=_WINDOW) as ada:
            review(ada, site)
        dark(chromium, make(Path(folder) / "blocked", "blocked"))
    for path in sorted(RUNBOOK.glob("*.png")):
        print(f"{path.name}: {path.stat().st_size:,} bytes")  # noqa: T201
    return 0


def make(folder: Path, verdict: Verdict) -> ReviewSite:
    """A site with a release of 60 pairs of 128 px."""
    return review_site(folder, samples=60, size_px=128, cases=16, verdict=verdict)


def review(ada: Steward, site: ReviewSite) -> None:
    """One review, page by page."""
    page, home = ada.page, f"{ada.address}/releases/{site.release_id}"
    page.goto(f"{ada.address}/sign-in")
    keep("1-sign-in", page.screenshot(clip={"x": 0, "y": 0, "width": 1000, "height": 480}))
    ada.sign_in()
    keep("2-queue", page.screenshot(clip={"x": 0, "y": 0, "width": 1000, "height": 520}))
    page.get_by_role("button", name="Open").click()
    page.wait_for_url("**/releases/*")
    settle(ada)
    keep("3-release", page.screenshot())
    for name, section in (("4-planted-copies", "controls"), ("6-who-took-part", "membership"), ("9-decision", "decide"),
                          ("10-history", "history")):  # fmt: skip
        keep(name, page.locator(f"section[aria-labelledby={section}]").screenshot())
    keep("5-nearest", page.locator("article[aria-labelledby=check-whole]").screenshot())
    page.goto(f"{home}/samples/1")
    settle(ada)
    keep("7-samples", page.screenshot())
    page.goto(f"{home}/sample/3")
    settle(ada)
    keep("8-sample", page.screenshot())
    page.goto(f"{ada.address}/releases/release-of-nobody")
    keep("11-error", page.screenshot(clip={"x": 0, "y": 0, "width": 1000, "height": 480}))


def dark(chromium: Browser, site: ReviewSite) -> None:
    """The release page of a blocked release, on a dark screen."""
    with served(site) as address, steward(chromium, address, viewport=_WINDOW, color_scheme="dark") as ada:
        ada.sign_in("ada", PASSWORD)
        ada.page.get_by_role("button", name="Open").click()
        ada.page.wait_for_url("**/releases/*")
        settle(ada)
        keep("12-blocked-dark", ada.page.screenshot())
        keep("13-copies-dark", ada.page.locator("article[aria-labelledby=check-whole]").screenshot())


def settle(ada: Steward) -> None:
    """Returns when every picture of the page is there."""
    ada.page.evaluate("() => document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
    ada.page.wait_for_function("() => [...document.images].every(i => i.complete)")


def keep(name: str, png: bytes) -> None:
    """Writes a picture with as many colours as fit."""
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        Image.open(io.BytesIO(png)).convert("RGB").quantize(colours).save(buffer, format="PNG", optimize=True)
        if buffer.tell() <= MAX_BYTES:
            (RUNBOOK / f"{name}.png").write_bytes(buffer.getvalue())
            return
    raise AssertionError(f"{name} does not fit into {MAX_BYTES} bytes")


if __name__ == "__main__":
    sys.exit(main())
