"""A review on the page: what a steward opens, sees and decides, what is on record of it, and what stays blind."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from shared.bundle import RejectionReason, Verdict
from shared.pairs import Pair
from shared.release import Action, State
from site_node.airlock.review_app import words
from site_node.airlock.review_app.pictures import difference, turned_to_fit
from site_node.airlock.review_app.plots import nearness_plot, share_plot
from site_node.airlock.workflow import Airlock
from site_node.phantoms.scenes import scene
from site_node.policy import write_policy
from site_node.screening.controls import PLANTED
from site_node.screening.positions import positions
from site_node.screening.report import CHECK_WORDS, Histogram, Share
from site_node.screening.screen import DATE_KIND
from tests.helpers import signing_key
from tests.review_page import Browser, Page, pictures
from tests.review_site import POLICY, TITLE, review_site

TWO = POLICY.model_copy(update={"required_approvals": 2})
HOSTILE = "<script>alert(1)</script><b>'\"&"


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """A page with a release of four pairs."""
    return Page(review_site(tmp_path / "site", samples=4, cases=4))


def approve(page: Page, browser: Browser, digest: str | None = None, looked: str = "yes") -> str:
    """Sends the form; where it led, or the error page."""
    answer = browser.post(f"{page.path}/approve", digest=digest or page.site.digest, looked=looked)
    return answer.headers.get("location", answer.text)


def test_pages_and_pictures_are_shown_after_opening_and_the_journal_has_the_view(page: Page) -> None:
    browser = page.signed_in()
    assert browser.get("/").status_code == 200
    assert "You have not opened it" in browser.get(page.path).text
    for path in pictures(page):
        assert browser.get(path).status_code == 303, path
    assert page.site.actions("ada") == []
    browser.open(page.site.release_id)
    assert page.site.actions("ada") == ["review"]
    for path in (page.path, f"{page.path}/samples/1", *pictures(page)):
        assert browser.get(path).status_code == 200, path


def test_another_session_of_the_same_person_opens_for_itself(page: Page) -> None:
    page.opened()
    again = page.signed_in()
    assert again.get(pictures(page)[0]).status_code == 303
    again.open(page.site.release_id)
    assert page.site.actions("ada") == ["review", "review"]


def test_looking_at_a_decided_release_is_on_record_too(page: Page) -> None:
    browser = page.opened()
    approve(page, browser)
    later = page.signed_in("grace")
    later.open(page.site.release_id)
    assert later.get(page.path).status_code == 200
    assert page.site.actions("grace") == ["view"]
    assert page.state is State.APPROVED


def test_an_approval_is_for_the_digest_that_was_shown(page: Page) -> None:
    browser = page.opened()
    assert f'name="digest" value="{page.site.digest}"' in browser.get(page.path).text
    assert "airlock.changed" in approve(page, browser, digest="0" * 64)
    assert page.state is State.IN_REVIEW
    assert approve(page, browser) == "/?done=approved"
    assert page.state is State.APPROVED
    assert page.site.actions("ada") == ["review", "vote", "approve"]


def test_an_approval_needs_the_word_that_all_was_looked_at(page: Page) -> None:
    browser = page.opened()
    assert "review.form" in approve(page, browser, looked="")
    assert page.state is State.IN_REVIEW


def test_a_vote_without_having_opened_it_is_refused(page: Page) -> None:
    page.opened("ada")
    grace = page.signed_in("grace")
    assert "airlock.not-opened" in approve(page, grace)
    assert page.state is State.IN_REVIEW


def test_votes_are_blind_until_one_has_voted_oneself(page: Page) -> None:
    write_policy(page.site.home.policy_file, TWO)
    ada, grace = page.opened("ada"), page.opened("grace")
    before = [grace.get(path).text for path in (page.path, "/")]
    assert approve(page, ada) == "/?done=voted"
    after = [grace.get(path).text for path in (page.path, "/")]
    assert before == after
    assert "You have voted" in ada.get(page.path).text
    assert approve(page, grace) == "/?done=approved"
    assert "voted for it" in grace.get(page.path).text


def test_a_rejection_stands_with_its_reason(page: Page) -> None:
    browser = page.opened()
    assert browser.post(f"{page.path}/reject", reason="two pairs show a frame that I know").status_code == 303
    assert page.state is State.REJECTED
    assert "two pairs show a frame that I know" in browser.get(page.path).text


def test_a_question_makes_everybody_look_again(page: Page) -> None:
    write_policy(page.site.home.policy_file, TWO)
    ada, grace = page.opened("ada"), page.opened("grace")
    approve(page, ada)
    grace.post(f"{page.path}/ask", text="Is sample 3 from our archive?")
    assert page.state is State.SCREENED
    assert "You have not opened it" in ada.get(page.path).text
    ada.open(page.site.release_id)
    shown = ada.get(page.path).text
    assert "Is sample 3 from our archive?" in shown
    assert "You have voted" not in shown


def test_a_release_can_be_withdrawn_and_a_step_that_is_not_possible_says_so(page: Page) -> None:
    browser = page.opened()
    assert browser.post(f"{page.path}/withdraw", reason="consent was withdrawn").status_code == 303
    assert page.state is State.WITHDRAWN
    answer = browser.post(f"{page.path}/reject", reason="r")
    assert (answer.status_code, "airlock.state" in answer.text, "What to do" in answer.text) == (409, True, True)


def test_a_policy_that_cannot_be_read_is_told_as_such_and_nothing_is_shown(page: Page) -> None:
    browser = page.opened()
    page.site.home.policy_file.write_text("stewards = 7\n")
    for path in ("/", page.path, *pictures(page)):
        answer = browser.get(path)
        assert (answer.status_code, "policy.file" in answer.text) == (400, True), path


def test_an_accepted_release_can_be_revoked(page: Page) -> None:
    browser = page.opened()
    approve(page, browser)
    airlock = page.site.airlock
    airlock.seal(page.site.release_id, signing_key(page.site.home), page.site.home.outbox)
    airlock.sent(page.site.release_id, actor="link")
    airlock.accepted(page.site.release_id, actor="link")
    assert "Revoke this release" in browser.get(page.path).text
    assert browser.post(f"{page.path}/revoke", reason="consent was withdrawn").headers["location"] == "/?done=revoked"
    assert page.state is State.REVOKING


def test_what_people_write_is_shown_as_text(page: Page) -> None:
    browser = page.opened()
    browser.post(f"{page.path}/ask", text=HOSTILE)
    browser.open(page.site.release_id)
    for text in (browser.get(page.path).text, browser.get(f"/?done={HOSTILE}").text):
        assert "<script>alert" not in text
    assert "&lt;script&gt;" in browser.get(page.path).text
    failed = page.browser().sign_in(HOSTILE, "x" * 20)
    assert "<script>alert" not in failed.text


def test_the_page_shows_the_whole_audit(page: Page) -> None:
    shown = page.opened().get(page.path).text
    manifest = page.site.manifest
    named = (TITLE, manifest.privacy.label(), words.CONTROL_WORDS["blocks-shuffled"], "0.53 (0.44 to 0.62)")
    for text in (*named, "✓ passed", "Nearest real"):
        assert text in shown
    assert shown.count('<svg class="nearness" viewBox="0 0 640') == 7
    assert shown.count("/real.png") == 7 * 4
    assert "style=" not in shown  # the content policy would drop it


def test_every_sample_is_on_some_page(tmp_path: Path) -> None:
    page = Page(review_site(tmp_path / "site", samples=50, cases=4))
    browser = page.opened()
    shown = "".join(browser.get(f"{page.path}/samples/{number}").text for number in (1, 2))
    for line in page.site.manifest.pairs:
        assert shown.count(f"{line.image}/small.png") == 1
    assert f"{page.path}#decide" in browser.get(f"{page.path}/samples/2").text


def test_cases_that_were_imported_anew_are_missed_and_not_guessed(page: Page) -> None:
    browser = page.opened()
    page.site.store.replace_cases([("somebody", scene("fundus", 3, 64))], actor="test")
    assert browser.get(page.path).text.count("not here any more") == 7 * 4
    assert browser.get(f"{page.path}/nearest/whole/0/real.png").status_code == 404


def test_a_report_of_an_older_version_is_shown_as_it_is(tmp_path: Path) -> None:
    site = review_site(tmp_path / "site", samples=2)
    older = site.manifest.model_copy(update={"release_id": "release-older"})
    folder = site.airlock.release(site.release_id).folder
    (folder.parent / "release-older").symlink_to(folder)
    Airlock(site.store).draft(older, {"format": "synthward.audit/1", "sampled": 41}, made_by="trainer")
    browser = Page(site).signed_in()
    browser.open("release-older")
    shown = browser.get("/releases/release-older")
    assert (shown.status_code, "older version" in shown.text, "41" in shown.text) == (200, True, True)


def test_everything_that_a_report_can_say_has_words() -> None:
    assert {*PLANTED, DATE_KIND} <= words.CONTROL_WORDS.keys()
    assert words.CHECK_TITLES.keys() == CHECK_WORDS.keys()
    assert words.STATE_WORDS.keys() == set(State)
    assert words.REJECTION_WORDS.keys() == set(get_args(RejectionReason))
    assert words.VERDICT_WORDS.keys() == set(get_args(Verdict))
    assert {action.value for action in Action} <= words.ACTION_WORDS.keys()


# Pictures and plots


@pytest.mark.parametrize("place", range(8))
def test_a_turned_copy_is_turned_back_for_the_difference(place: int) -> None:
    real = scene("endoscopy_warm", 5, 64)
    sample = positions(real.image)[place]
    fitted = turned_to_fit(sample, real)
    assert not difference(sample, fitted.image).any()
    assert np.array_equal(fitted.mask, positions(real.mask)[place])


def test_a_difference_is_white_where_nothing_agrees() -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert (difference(black, white) == 255).all()
    assert (difference(black[..., 0], black[..., 0]) == 0).all()


def test_a_grey_studys_pictures_are_drawn_too() -> None:
    real = scene("fundus", 2, 32)
    grey = Pair(np.ascontiguousarray(real.image[..., 0]), real.mask)
    assert turned_to_fit(grey.image, grey).image.shape == (32, 32)


def test_a_sample_is_its_own_pixels_enlarged(page: Page) -> None:
    browser = page.opened()
    line = page.site.manifest.pairs[0]
    shown = np.asarray(Image.open(io.BytesIO(browser.get(f"{page.path}/pictures/{line.image}/image.png").content)))
    stored = page.site.airlock.release(page.site.release_id).folder / "objects" / f"{line.image}.png"
    assert np.array_equal(shown[::8, ::8], np.asarray(Image.open(stored)))


@pytest.mark.parametrize("counts", [(0, 0, 0), (0, 5, 0), (1, 0, 0)])
def test_a_plot_of_any_counts_stays_within_its_frame(counts: tuple[int, ...]) -> None:
    histogram = Histogram(edges=(-1.0, 0.0, 0.5, 1.0), samples=counts, between_patients=(0, 0, 0))
    for limit in (-1.3, -0.9, 0.9, 1.2):
        drawn = str(nearness_plot(histogram, limit, name="whole"))
        corners = re.findall(r"(-?[\d.]+),(-?[\d.]+)", " ".join(re.findall(r'points="([^"]+)"', drawn)))
        assert len(corners) >= 4
        places = [float(x) for x, _ in corners] + [float(x) for x in re.findall(r'<line x1="(-?[\d.]+)"', drawn)]
        assert all(0 <= x <= 640 for x in places)
        assert all(0 <= float(y) <= 210 for _, y in corners)
        assert f"limit {limit:.3f}" in drawn


def test_a_share_of_nothing_has_no_dot() -> None:
    nothing, some = Share.of(0, 0), Share.of(3, 4)
    assert "circle" not in str(share_plot(nothing, 0.95, nothing))
    assert "circle" in str(share_plot(some, 0.95, nothing))
