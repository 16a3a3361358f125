"""The review page in a real headless Chromium: Debian's, never one that is downloaded."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Request, sync_playwright

from shared.files import write_atomic
from shared.settings_files import to_toml
from site_node.airlock.review_app.app import create_app
from site_node.settings import Settings
from tests.helpers import free_port
from tests.review_site import PASSWORD, ReviewSite

CHROMIUM = Path("/usr/bin/chromium")
_ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
_PATIENCE_MS = 30_000


def need_chromium() -> None:
    """Skips a test where there is no Chromium; fails it where CI promises one."""
    if not CHROMIUM.exists():
        if os.environ.get("CI"):
            pytest.fail(f"CI has no {CHROMIUM}: install Debian's package chromium")
        pytest.skip(f"no {CHROMIUM}: install Debian's package chromium to run the browser tests")


@contextmanager
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(_ARGUMENTS))
        try:
            yield started
        finally:
            started.close()


@contextmanager
def served(site: ReviewSite) -> Iterator[str]:
    """Serves a site's review page on a free port of this machine; its address."""
    port = free_port()
    settings = Settings(review_port=port)
    write_atomic(site.home.settings_file, to_toml(settings.model_dump()).encode())
    application = create_app(site.home, accounts=site.accounts)
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=port, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@dataclass
class Steward:
    """A steward at a browser. asked: every address that the browser asked for; sent: forms among them;
    complaints: of its console."""

    page: Page
    address: str
    asked: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(_PATIENCE_MS)
        self.page.on("request", self._note)
        self.page.on("console", lambda line: self.complaints.append(line.text) if line.type != "log" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, request: Request) -> None:
        self.asked.append(request.url)
        if request.method == "POST":
            self.sent.append(request.url)

    def sign_in(self, name: str = "ada", password: str = PASSWORD) -> None:
        """With the keyboard only: the cursor is in the name already."""
        self.page.goto(f"{self.address}/sign-in")
        self.page.locator("#name:focus").wait_for()
        self.type(name, "Tab", password_of=password)
        self.page.wait_for_url(f"{self.address}/")

    def type(self, text: str, key: str, *, password_of: str) -> None:
        """Text, a key, the password, Enter."""
        self.page.keyboard.type(text)
        self.page.keyboard.press(key)
        self.page.keyboard.type(password_of)
        self.page.keyboard.press("Enter")

    def tab_to(self, name: str) -> None:
        """Presses Tab until the element with this accessible text has the focus."""
        for _ in range(80):
            self.page.keyboard.press("Tab")
            focused = self.page.evaluate(
                "() => { const e = document.activeElement; return e.getAttribute('aria-label') || e.innerText || ''; }"
            )
            if re.fullmatch(name, focused.strip()):
                return
        raise AssertionError(f"no Tab leads to {name}")

    def press(self, key: str, *, leads_to: str) -> None:
        """Presses a key that leads to another page of ours."""
        self.page.keyboard.press(key)
        self.page.wait_for_url(f"{self.address}{leads_to}")

    def elsewhere(self) -> list[str]:
        """What it asked of anybody but the review page."""
        here = urlsplit(self.address).netloc
        return [url for url in self.asked if urlsplit(url).netloc != here]


@contextmanager
def steward(chromium: Browser, address: str, **options: Any) -> Iterator[Steward]:
    """A steward with a browser profile of their own. options: of Playwright's new_context."""
    context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    try:
        yield Steward(context.new_page(), address)
    finally:
        context.close()
