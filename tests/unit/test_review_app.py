"""The review page's door: who is not signed in sees and changes nothing; how one signs in, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.files import write_atomic
from shared.release import State
from shared.settings_files import to_toml
from site_node.airlock.accounts import MAX_WRONG
from site_node.airlock.review_app.guards import door
from site_node.airlock.review_app.sessions import IDLE_S, MOST_S
from site_node.policy import write_policy
from site_node.settings import Settings
from tests.helpers import refused
from tests.review_page import HERE, Page, pictures
from tests.review_site import PASSWORD, POLICY, ReviewSite, review_site

ELSEWHERE = "https://elsewhere.example"
PROXIED = Settings(
    review_behind_proxy=True, review_bind="0.0.0.0", review_host="review.example", review_proxy="10.0.0.9",  # noqa: S104
    review_user_header="X-Remote-User",
)  # fmt: skip


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """A page with a release of four pairs."""
    return Page(review_site(tmp_path / "site", samples=4, cases=4))


# Without a session


def test_nobody_sees_anything_before_signing_in(page: Page) -> None:
    stranger = page.browser()
    for path in ("/", page.path, f"{page.path}/samples/1", f"{page.path}/sample/1", *pictures(page)):
        answer = stranger.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in"), path
        assert answer.content == b""


def test_nobody_does_anything_before_signing_in(page: Page) -> None:
    stranger = page.browser()
    for what in ("open", "approve", "reject", "ask", "withdraw", "revoke"):
        assert stranger.post(f"{page.path}/{what}", reason="r", text="t").headers["location"] == "/sign-in"
    assert stranger.post("/sign-out").headers["location"] == "/sign-in"
    assert page.state is State.SCREENED


def test_a_made_up_session_is_none(page: Page) -> None:
    stranger = page.browser()
    stranger.client.cookies.set("synthward-review", "a" * 43)
    assert stranger.get("/").headers["location"] == "/sign-in"


# Signing in


def test_signing_in_needs_the_password_and_a_place_in_the_policy(page: Page) -> None:
    assert page.browser().sign_in("ada", "not the password").status_code == 403
    page.site.accounts.add("mallory", PASSWORD)
    answer = page.browser().sign_in("mallory")
    assert (answer.status_code, "policy.steward" in answer.text) == (403, True)
    assert page.browser().sign_in("ada").status_code == 303


def test_guessing_ends_after_five_passwords(page: Page) -> None:
    guesser = page.browser()
    codes = [guesser.sign_in("ada", f"guess number {number}").status_code for number in range(MAX_WRONG + 1)]
    assert codes == [403] * MAX_WRONG + [429]
    assert guesser.sign_in("ada", PASSWORD).status_code == 429
    assert page.browser().sign_in("grace").status_code == 303


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(page: Page) -> None:
    given = page.browser().sign_in().headers["set-cookie"].lower()
    for word in ("httponly", "samesite=strict", "path=/"):
        assert word in given


def test_a_token_from_before_signing_in_is_no_session(page: Page) -> None:
    browser = page.signed_in()
    first = browser.client.cookies["synthward-review"]
    browser.client.cookies.clear()
    browser.client.cookies.set("synthward-review", first)
    browser.get("/sign-in")  # still signed in: led to the queue
    page.site.accounts.remove("ada")
    page.site.accounts.add("ada", PASSWORD)
    assert browser.get("/").headers["location"] == "/sign-in"  # ended with the account
    second = page.signed_in().client.cookies["synthward-review"]
    assert first != second


def test_signing_in_again_ends_the_session_before(page: Page) -> None:
    browser = page.signed_in()
    before = browser.client.cookies["synthward-review"]
    browser.client.cookies.delete("synthward-review")
    browser.get("/sign-in")
    browser.client.cookies.set("synthward-review", before, domain="127.0.0.1", path="/")
    answer = browser.post("/sign-in", name="grace", password=PASSWORD)
    assert answer.status_code == 303
    stale = page.browser()
    stale.client.cookies.set("synthward-review", before)
    assert stale.get("/").headers["location"] == "/sign-in"


def test_signing_out_ends_the_session(page: Page) -> None:
    browser = page.signed_in()
    token = browser.client.cookies["synthward-review"]
    browser.post("/sign-out")
    browser.client.cookies.set("synthward-review", token)
    assert browser.get("/").headers["location"] == "/sign-in"


def test_a_session_ends_when_it_is_left_alone_and_at_the_end_of_a_day(page: Page) -> None:
    begun, idle, busy = page.clock.now, page.signed_in(), page.signed_in()
    for _ in range(MOST_S // (IDLE_S - 60)):
        page.clock.now += IDLE_S - 60
        assert busy.get("/").status_code == 200
    page.clock.now = begun + MOST_S + 1
    assert busy.get("/").status_code == 303
    page.clock.now = begun + IDLE_S - 1
    assert idle.get("/").status_code == 200
    page.clock.now += IDLE_S + 1
    assert idle.get("/").status_code == 303


def test_who_is_no_steward_any_more_is_out_at_once(page: Page) -> None:
    browser = page.opened()
    write_policy(page.site.home.policy_file, POLICY.model_copy(update={"stewards": ("grace",)}))
    for path in ("/", page.path, *pictures(page)):
        assert browser.get(path).headers["location"] == "/sign-in"


# Behind the hospital's proxy


def behind_proxy(site: ReviewSite, settings: Settings = PROXIED) -> Page:
    """The same page with other settings."""
    write_atomic(site.home.settings_file, to_toml(settings.model_dump()).encode())
    return Page(site)


def test_a_users_header_means_nothing_unless_the_settings_say_so(page: Page) -> None:
    for header in ("X-Remote-User", "Remote-User", "X-Forwarded-User"):
        assert page.browser().get("/", **{header: "ada"}).headers["location"] == "/sign-in"
        assert "location" not in page.browser().get("/sign-in", **{header: "ada"}).headers


def test_the_proxys_header_signs_in_the_steward_whom_it_names(page: Page) -> None:
    proxied = behind_proxy(page.site)
    browser = proxied.browser("https://review.example", peer="10.0.0.9")
    answer = browser.get("/sign-in", **{"X-Remote-User": "ada"})
    assert answer.headers["location"] == "/"
    assert "secure" in answer.headers["set-cookie"].lower()
    assert "__Host-" in answer.headers["set-cookie"]
    assert browser.get("/", **{"X-Remote-User": "ada"}).status_code == 200
    # The session is only as good as the proxy's word at each request.
    assert browser.get("/", **{"X-Remote-User": "grace"}).headers["location"] == "/sign-in"
    assert browser.get("/").headers["location"] == "/sign-in"


def test_the_proxys_header_gives_no_right_that_the_policy_does_not_give(page: Page) -> None:
    browser = behind_proxy(page.site).browser("https://review.example", peer="10.0.0.9")
    for name in ("mallory", "", "ada, grace"):
        assert browser.get("/sign-in", **{"X-Remote-User": name}).status_code == 403


def test_whoever_goes_round_the_proxy_is_refused(page: Page) -> None:
    proxied = behind_proxy(page.site)
    for peer in ("10.0.0.8", "127.0.0.1"):
        browser = proxied.browser("https://review.example", peer=peer)
        answer = browser.get("/sign-in", **{"X-Remote-User": "ada", "X-Forwarded-For": "10.0.0.9"})
        assert answer.status_code == 403
    assert proxied.browser(HERE, peer="10.0.0.9").get("/sign-in").status_code == 403


def test_with_the_proxys_header_there_are_no_passwords(page: Page) -> None:
    browser = behind_proxy(page.site).browser("https://review.example", peer="10.0.0.9")
    assert browser.post("/sign-in", name="ada", password=PASSWORD).status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"review_bind": "0.0.0.0"}, {"review_bind": "192.168.1.5"},  # noqa: S104
        {"review_behind_proxy": True},
        {"review_behind_proxy": True, "review_host": "r.example", "review_proxy": "", "review_user_header": "X-User"},
    ],
)  # fmt: skip
def test_settings_that_would_open_the_page_to_others_are_refused(wrong: dict[str, object]) -> None:
    with refused("settings.invalid"):
        door(Settings.model_validate(wrong))


def test_by_default_it_listens_on_loopback_alone() -> None:
    assert door(Settings()).bind == "127.0.0.1"
    assert door(Settings(review_user_header="X-Remote-User")).user_header == ""
