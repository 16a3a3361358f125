"""The review page against other pages and made-up addresses: a browser that is signed in cannot be used by them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.release import State
from site_node.settings import Settings
from tests.review_page import HERE, Page, pictures
from tests.review_site import PASSWORD, ReviewSite, review_site

ELSEWHERE = "https://elsewhere.example"
PROXIED = Settings(
    review_behind_proxy=True, review_bind="0.0.0.0", review_host="review.example", review_proxy="10.0.0.9",  # noqa: S104
    review_user_header="X-Remote-User",
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """A page with a release of four pairs."""
    return Page(review_site(tmp_path / "site", samples=4, cases=4))


# From elsewhere


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": ELSEWHERE}, {"origin": "null"}, {"origin": ""}, {"origin": "http://127.0.0.1:7453"},
        {"origin": HERE, "sec-fetch-site": "cross-site"}, {"origin": HERE, "sec-fetch-site": "same-site"},
    ],
)  # fmt: skip
def test_a_form_of_another_page_is_refused(page: Page, headers: dict[str, str]) -> None:
    browser = page.opened()
    answer = browser.post(f"{page.path}/reject", headers=headers, reason="r")
    assert (answer.status_code, "review.forged" in answer.text) == (403, True)
    assert page.state is State.IN_REVIEW


def test_a_form_without_an_origin_is_refused(page: Page) -> None:
    browser = page.opened()
    answer = browser.client.post(f"{page.path}/reject", data={"token": browser.token, "reason": "r"})
    assert answer.status_code == 403
    assert page.state is State.IN_REVIEW


def test_a_form_without_this_sessions_token_is_refused(page: Page) -> None:
    browser, other = page.opened(), page.signed_in("grace")
    for token in ("", "0" * 64, other.token, browser.client.cookies["synthward-review"], "ÿ"):
        browser.token = token
        for what in ("open", "approve", "reject", "ask", "withdraw", "revoke"):
            answer = browser.post(f"{page.path}/{what}", reason="r", text="t", digest=page.site.digest, looked="yes")
            assert (answer.status_code, "review.forged" in answer.text) == (403, True), (token, what)
    assert page.state is State.IN_REVIEW


def test_a_sign_in_from_another_page_is_refused(page: Page) -> None:
    browser = page.browser()
    answer = browser.post("/sign-in", name="ada", password=PASSWORD)  # no page was shown: no token, no cookie
    assert (answer.status_code, "review.forged" in answer.text) == (403, True)
    browser.get("/sign-in")
    assert browser.post("/sign-in", {"origin": ELSEWHERE}, name="ada", password=PASSWORD).status_code == 403


@pytest.mark.parametrize(
    "host", ["elsewhere.example", "127.0.0.1", "127.0.0.1:80", "127.0.0.1:7452.elsewhere.example", ""]
)
def test_another_host_name_is_refused_even_when_it_leads_here(page: Page, host: str) -> None:
    browser = page.signed_in()
    answer = browser.get("/", host=host)
    assert (answer.status_code, "review.forged" in answer.text) == (403, True)


def test_a_forms_size_is_limited(page: Page) -> None:
    browser = page.opened()
    assert browser.post(f"{page.path}/reject", reason="r" * 100_000).status_code == 400
    assert browser.post(f"{page.path}/reject", reason="r" * 2_001).status_code == 400
    assert browser.post(f"{page.path}/reject", reason=" \n ").status_code == 400
    answer = browser.client.post(
        f"{page.path}/reject", files={"token": ("x", b"y")}, data={"reason": "r"}, headers={"origin": HERE}
    )
    assert answer.status_code in (400, 403)
    assert page.state is State.IN_REVIEW


# What every answer carries


def test_every_answer_forbids_caches_frames_and_foreign_content(page: Page) -> None:
    browser, stranger = page.opened(), page.browser()
    answers = [browser.get(path) for path in ("/", page.path, "/nowhere", "/static/review.css", *pictures(page))]
    answers += [stranger.get("/"), stranger.get("/sign-in"), stranger.get("/", host="elsewhere.example")]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers


def test_nothing_describes_the_application_to_strangers(page: Page) -> None:
    for path in ("/docs", "/redoc", "/openapi.json", "/static/", "/static/../app.py", "/static/%2e%2e/app.py"):
        assert page.browser().get(path).status_code == 404, path


# Addresses


NAMES = st.sampled_from(
    ["..", "%2e%2e", "%2e%2e%2f%2e%2e%2fsite.db", "release-1", "a/b", "%00", "-1", "1e9", "é", "0" * 64]
)


@settings(max_examples=60)
@given(
    st.lists(NAMES, min_size=1, max_size=3), st.sampled_from(["", "/samples/", "/sample/", "/pictures/", "/nearest/"])
)
def test_no_address_leads_out_of_the_release(shared_page: Page, names: list[str], room: str) -> None:
    browser = shared_page.readers
    for path in (f"{shared_page.path}{room}{'/'.join(names)}", f"/releases/{'/'.join(names)}{room}"):
        answer = browser.get(path)
        assert answer.status_code in (200, 303, 307, 404), path
        assert "image/png" not in answer.headers.get("content-type", ""), path
        assert "Traceback" not in answer.text


class SharedPage(Page):
    """A page whose signed-in browser many examples use."""

    def __init__(self, site: ReviewSite) -> None:
        super().__init__(site)
        self.readers = self.opened()


@pytest.fixture(scope="module")
def shared_page(tmp_path_factory: pytest.TempPathFactory) -> SharedPage:
    """One page for many examples, which only read."""
    return SharedPage(review_site(tmp_path_factory.mktemp("shared") / "site", samples=4, cases=4))


def test_pictures_are_of_this_release_alone(shared_page: SharedPage) -> None:
    for path in pictures(shared_page):
        answer = shared_page.readers.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png"), path
    name = shared_page.site.manifest.pairs[0]
    case = shared_page.site.store.cases()[0].case_id
    for path in (f"pictures/{name.mask}/large.png", f"pictures/{case}/large.png", f"pictures/{name.image}/real.png",
                 "nearest/whole/99/real.png", "nearest/whole/-1/real.png", "nearest/other/0/real.png",
                 f"nearest/whole/{case}/real.png"):  # fmt: skip
        assert shared_page.readers.get(f"{shared_page.path}/{path}").status_code == 404, path
