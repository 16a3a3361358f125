"""The review page without a real browser: requests as one would send them, and a clock that tests move."""

from __future__ import annotations

import re
from dataclasses import dataclass

from httpx2 import Response
from starlette.testclient import TestClient

from shared.release import State
from site_node.airlock.review_app.app import create_app
from site_node.airlock.review_app.sessions import Sessions
from tests.review_site import PASSWORD, ReviewSite

HERE = "http://127.0.0.1:7452"


class Clock:
    """A time that tests move."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Browser:
    """A browser without script: keeps cookies, sends its origin, fills in the token of the page that it shows."""

    client: TestClient
    origin: str = HERE
    token: str = ""

    def get(self, path: str, **headers: str) -> Response:
        """A page; its form's token is remembered."""
        answer = self.client.get(path, headers=headers)
        html = "html" in answer.headers.get("content-type", "")
        if html and (found := re.search(r'name="token" value="(\w+)"', answer.text)):
            self.token = found[1]
        return answer

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> Response:
        """Sends a form of the page that was shown last."""
        return self.client.post(
            path, data={"token": self.token} | fields, headers={"origin": self.origin} | (headers or {})
        )

    def sign_in(self, name: str = "ada", password: str = PASSWORD) -> Response:
        """Signs in as a person does."""
        self.get("/sign-in")
        answer = self.post("/sign-in", name=name, password=password)
        if answer.status_code == 303:
            self.get("/")
        return answer

    def open(self, release_id: str) -> Response:
        """Opens a release from the queue."""
        self.get("/")
        return self.post(f"/releases/{release_id}/open")


class Page:
    """A site's review page, and browsers that use it."""

    def __init__(self, site: ReviewSite) -> None:
        self.site, self.clock = site, Clock()
        self.app = create_app(site.home, accounts=site.accounts, sessions=Sessions(site.store, now=self.clock))
        self.path = f"/releases/{site.release_id}"

    def browser(self, base: str = HERE, peer: str = "127.0.0.1") -> Browser:
        """A fresh browser."""
        client = TestClient(
            self.app, base_url=base, follow_redirects=False, client=(peer, 1), raise_server_exceptions=False
        )
        return Browser(client, origin=base)

    def signed_in(self, name: str = "ada") -> Browser:
        """A browser that has signed in."""
        browser = self.browser()
        assert browser.sign_in(name).status_code == 303
        return browser

    def opened(self, name: str = "ada") -> Browser:
        """A browser that shows the release."""
        browser = self.signed_in(name)
        assert browser.open(self.site.release_id).status_code == 303
        assert browser.get(self.path).status_code == 200
        return browser

    @property
    def state(self) -> State:
        """Where the release stands."""
        return self.site.airlock.release(self.site.release_id).state


def pictures(page: Page) -> list[str]:
    """One address of each kind of picture."""
    name = page.site.manifest.pairs[0].image
    return [f"{page.path}/pictures/{name}/{kind}.png" for kind in ("small", "large", "image", "mask")] + [
        f"{page.path}/nearest/whole/0/{kind}.png" for kind in ("sample", "real", "difference")
    ]
