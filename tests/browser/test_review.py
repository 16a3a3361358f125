"""A whole review in a real browser: by keyboard alone, without script, light and dark, and asking nobody else."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Browser

from shared.release import State
from tests.browser.chromium import Steward, need_chromium, served, steward
from tests.review_site import PASSWORD, ReviewSite

# Every place at which an element is wider than the window, which would make a page scroll sideways.
TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Texts whose contrast with what is behind them is under 4.5 (WCAG 2, level AA).
HARD_TO_READ = """() => {
  const parts = colour => colour.match(/[\\d.]+/g).map(Number);
  const light = colour => parts(colour).slice(0, 3).map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const own = e => getComputedStyle(e).backgroundColor;
  const ground = e => !e ? 'rgb(255, 255, 255)' : parts(own(e))[3] === 0 ? ground(e.parentElement) : own(e);
  const found = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const style = getComputedStyle(e), text = e instanceof SVGElement ? style.fill : style.color;
    const [dark, bright] = [light(text), light(ground(e))].sort((a, b) => a - b);
    if ((bright + 0.05) / (dark + 0.05) < 4.5) found.push(e.textContent.trim().slice(0, 40));
  }
  return found;
}"""
BROKEN = "() => [...document.images].filter(i => i.complete && i.naturalWidth === 0).map(i => i.src)"


def state(site: ReviewSite) -> State:
    """Where the release stands."""
    return site.airlock.release(site.release_id).state


def test_a_whole_review_by_keyboard_alone(chromium: Browser, site: ReviewSite) -> None:
    home = f"/releases/{site.release_id}"
    with served(site) as address, steward(chromium, address) as ada:
        ada.sign_in()
        ada.tab_to(f"Open {site.release_id}")
        ada.press("Enter", leads_to=home)
        ada.press("j", leads_to=f"{home}/samples/1")
        ada.press("j", leads_to=f"{home}/samples/2")
        ada.press("k", leads_to=f"{home}/samples/1")
        ada.press("j", leads_to=f"{home}/samples/2")
        ada.press("j", leads_to=f"{home}#decide")
        ada.page.keyboard.press("a")
        assert state(site) is State.IN_REVIEW
        ada.page.keyboard.press("Space")
        ada.tab_to("Approve this release")
        assert state(site) is State.IN_REVIEW
        ada.press("Enter", leads_to="/?done=approved")
        assert "The release is approved" in ada.page.inner_text("[role=status]")
        assert state(site) is State.APPROVED
        assert site.actions("ada") == ["review", "vote", "approve"]
        assert ada.elsewhere() == []
        assert ada.complaints == []


def test_no_single_key_sends_anything(chromium: Browser, site: ReviewSite) -> None:
    with served(site) as address, steward(chromium, address) as ada:
        ada.sign_in()
        ada.page.get_by_role("button", name="Open").click()
        ada.page.wait_for_url("**/releases/*")
        before = len(ada.sent)
        for key in "abcdefghilmnopqrstvwxyz0123456789":
            ada.page.keyboard.press(key)
            ada.page.evaluate("() => document.activeElement.blur()")
        for key, field in (("a", "looked"), ("r", "reason"), ("q", "text")):
            ada.page.evaluate("() => document.activeElement.blur()")
            ada.page.keyboard.press(key)
            assert ada.page.evaluate("() => document.activeElement.name") == field
        ada.page.keyboard.type("jk: turning pages must not happen while one writes")
        assert ada.page.input_value("#text").startswith("jk")
        assert len(ada.sent) == before
        assert state(site) is State.IN_REVIEW


def test_a_whole_review_without_script(chromium: Browser, site: ReviewSite) -> None:
    with served(site) as address, steward(chromium, address, java_script_enabled=False) as ada:
        page = ada.page
        page.goto(f"{address}/")
        page.fill("#name", "ada")
        page.fill("#password", PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name="Open").click()
        page.get_by_role("link", name="Look at all samples").click()
        page.get_by_role("link", name="Page 2").first.click()
        page.get_by_role("link", name="To the decision").first.click()
        page.get_by_label("Why should it not leave?").fill("I know this frame")
        page.get_by_role("button", name="Reject this release").click()
        page.wait_for_url("**/?done=rejected")
        assert state(site) is State.REJECTED
        assert ada.elsewhere() == []


def test_the_browser_itself_holds_a_hurried_approval_back(chromium: Browser, site: ReviewSite) -> None:
    with served(site) as address, steward(chromium, address) as ada:
        ada.sign_in()
        ada.page.get_by_role("button", name="Open").click()
        ada.page.get_by_role("button", name="Approve this release").click()
        assert ada.page.evaluate("() => document.querySelector('[name=looked]').validity.valueMissing")
        assert state(site) is State.IN_REVIEW


def test_every_page_fits_its_window_and_can_be_read_light_and_dark(chromium: Browser, site: ReviewSite) -> None:
    with served(site) as address, steward(chromium, address) as ada:
        ada.page.goto(f"{address}/sign-in")
        fits(ada)
        ada.sign_in()
        fits(ada)
        ada.page.get_by_role("button", name="Open").click()
        ada.page.wait_for_url("**/releases/*")
        home = ada.page.url
        for path in ("", "/samples/2", "/sample/2"):
            ada.page.goto(home + path)
            ada.page.evaluate("() => document.querySelectorAll('img').forEach(i => { i.loading = 'eager'; })")
            ada.page.wait_for_function("() => [...document.images].every(i => i.complete)")
            assert ada.page.evaluate(BROKEN) == []
            fits(ada)
        assert ada.elsewhere() == []
        assert ada.complaints == []
        ada.page.evaluate("() => { document.querySelector('h1').style.color = '#333a44'; }")  # on the dark page
        assert ada.page.evaluate(HARD_TO_READ) == ["Sample 2 of 52"]  # the check itself can fail


def fits(ada: Steward) -> None:
    """In a wide and a narrow window nothing scrolls sideways; light and dark, every text stands out from its ground."""
    for width in (1280, 800):
        ada.page.set_viewport_size({"width": width, "height": 900})
        assert ada.page.evaluate(TOO_WIDE) <= 0, (ada.page.url, width)
    grounds = []
    for scheme in ("light", "dark"):
        ada.page.emulate_media(color_scheme=scheme)
        grounds.append(ada.page.evaluate("() => getComputedStyle(document.body).backgroundColor"))
        assert ada.page.evaluate(HARD_TO_READ) == [], (ada.page.url, scheme)
    assert grounds[0] != grounds[1]


def test_nothing_of_a_review_is_left_in_the_browser_after_signing_out(chromium: Browser, site: ReviewSite) -> None:
    with served(site) as address, steward(chromium, address) as ada:
        ada.sign_in()
        ada.page.get_by_role("button", name="Open").click()
        ada.page.wait_for_url("**/releases/*")
        ada.page.get_by_role("button", name="Sign out").click()
        ada.page.wait_for_url("**/sign-in")
        ada.page.go_back()
        ada.page.wait_for_url("**/sign-in")
        assert ada.page.context.cookies() == [] or all("-form" in c["name"] for c in ada.page.context.cookies())


def test_without_chromium_a_test_is_skipped_and_in_ci_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.browser import chromium as module

    monkeypatch.setattr(module, "CHROMIUM", module.Path("/nowhere/chromium"))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=re.escape("install Debian's package chromium")):
        need_chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="install Debian's package chromium"):
        need_chromium()
