"""The airlock: a release leaves only through every step, by the right people, as it was reviewed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shared.bundle import bundle_sha256
from shared.documents import canonical
from shared.release import State
from site_node.cases import releases
from tests.airlock_site import ONE, TWO, Site
from tests.helpers import refused


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_release_goes_its_whole_way_and_each_step_has_exactly_one_entry(site: Site) -> None:
    site.approved()
    site.airlock.seal(site.id, site.key, site.outbox)
    site.airlock.sent(site.id, actor="link")
    site.airlock.accepted(site.id, actor="coordinator")
    assert site.release.state is State.ACCEPTED
    assert site.actions() == ["draft", "screen", "review", "vote", "approve", "seal", "submit", "accept"]
    who = {entry.action: entry.actor for entry in site.journal()}
    assert (who["approve"], who["seal"], who["accept"]) == ("ada", "trainer", "coordinator")
    assert {entry.detail for entry in site.journal() if entry.action in ("review", "vote", "approve")} == {site.sha256}


def test_what_the_machine_repeats_is_written_once(site: Site) -> None:
    site.approved()
    for _ in range(3):
        site.airlock.seal(site.id, site.key, site.outbox)
    for _ in range(3):
        site.airlock.sent(site.id, actor="link")
    for _ in range(3):
        site.airlock.accepted(site.id, actor="coordinator")
    site.airlock.refused(site.id, "admission.size", actor="coordinator")  # too late: it is accepted
    assert site.actions()[-3:] == ["seal", "submit", "accept"]


def test_drafting_again_changes_nothing(site: Site) -> None:
    before = site.release
    site.airlock.draft(before.manifest, {"accepted": 99}, made_by="eve")
    assert site.release == before
    assert site.actions() == ["draft", "screen"]


@pytest.mark.parametrize("person", ["nobody", "trainer", ""])
def test_a_stranger_changes_nothing(site: Site, person: str) -> None:
    for _ in range(2):
        before = (site.release, site.actions())
        with refused("policy.steward"):
            site.airlock.review(ONE, site.id, person)
        with refused("policy.steward"):
            site.approve(person)
        with refused("policy.steward"):
            site.airlock.ask(ONE, site.id, person, "why?")
        with refused("policy.steward"):
            site.airlock.history(ONE, site.id, person)
        with refused("policy.steward"):
            site.airlock.reject(ONE, site.id, person, "no")
        with refused("policy.steward"):
            site.airlock.withdraw(ONE, site.id, person, "no", take_back=lambda _sha256: True)
        assert (site.release, site.actions()) == before
        site.airlock.review(ONE, site.id, "ada")


def test_what_was_not_reviewed_cannot_be_approved(site: Site) -> None:
    with refused("airlock.state"):
        site.approve()
    assert site.release.state is State.SCREENED


def test_nobody_approves_their_own_release(tmp_path: Path) -> None:
    site = Site(tmp_path, made_by="ada")
    for person in ("ada", "grace"):
        site.open(person)
    with refused("policy.own-release"):
        site.approve("ada")
    assert site.approve("grace") is State.APPROVED


def test_nobody_approves_what_they_asked_for(tmp_path: Path) -> None:
    site = Site(tmp_path, asked_by="grace")
    for person in ("ada", "grace"):
        site.open(person)
    with refused("policy.own-release"):
        site.approve("grace")
    assert site.approve("ada") is State.APPROVED


def test_nobody_approves_what_another_opened(site: Site) -> None:
    site.open("ada")
    with refused("airlock.not-opened"):
        site.approve("grace")
    assert "vote" not in site.actions()
    site.open("grace")
    assert site.approve("grace") is State.APPROVED


def test_a_vote_holds_only_for_the_digest_that_was_reviewed(site: Site) -> None:
    site.airlock.review(ONE, site.id, "ada")
    with refused("airlock.changed"):
        site.approve(sha256="0" * 64)
    assert site.actions()[-1] == "review"


def change_one_byte(site: Site) -> None:
    path = next((site.release.folder / "objects").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def put_one_in(site: Site) -> None:
    (site.release.folder / "objects" / "note.txt").write_text("patient 4711")


def take_one_out(site: Site) -> None:
    next((site.release.folder / "objects").iterdir()).unlink()


def swap_two(site: Site) -> None:
    first, second, *_ = sorted((site.release.folder / "objects").iterdir())
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)


def rewrite_manifest(site: Site) -> None:
    forged = site.release.manifest.model_copy(update={"training_patients": 10_000})
    with site.store.engine.begin() as connection:
        connection.execute(releases.update().values(manifest=canonical(forged)))


CHANGES = [change_one_byte, put_one_in, take_one_out, swap_two, rewrite_manifest]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_after_the_draft_is_not_approved(site: Site, change: Callable[[Site], None]) -> None:
    site.airlock.review(ONE, site.id, "ada")
    change(site)
    with refused("airlock.changed"):
        site.approve()
    assert site.release.state is State.IN_REVIEW
    assert "vote" not in site.actions()


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_after_the_approval_is_not_sealed(site: Site, change: Callable[[Site], None]) -> None:
    site.approved()
    change(site)
    with refused("airlock.changed"):
        site.airlock.seal(site.id, site.key, site.outbox)
    assert site.release.state is State.APPROVED
    assert list(site.outbox.iterdir()) == []


# Two approvals


def test_two_different_stewards_are_needed_when_the_policy_says_two(site: Site) -> None:
    for person in ("ada", "mary"):
        site.open(person, TWO)
    assert site.approve("ada", TWO) is State.IN_REVIEW
    assert site.approve("ada", TWO) is State.IN_REVIEW  # the same person twice counts once
    assert site.actions().count("vote") == 1
    assert site.approve("mary", TWO) is State.APPROVED


def test_the_vote_of_somebody_who_is_no_steward_any_more_does_not_count(site: Site) -> None:
    for person in ("ada", "grace", "mary"):
        site.open(person, TWO)
    site.approve("ada", TWO)
    without = TWO.model_copy(update={"stewards": ("grace", "mary")})
    assert site.approve("grace", without) is State.IN_REVIEW
    assert site.approve("mary", without) is State.APPROVED


def test_a_vote_for_something_else_does_not_count_for_what_lies_there_now(site: Site) -> None:
    site.open("ada", TWO)
    site.approve("ada", TWO)
    forged = site.release.manifest.model_copy(update={"training_patients": 10_000})
    with site.store.engine.begin() as connection:  # manifest and digest, both: what the digest alone cannot show
        connection.execute(releases.update().values(manifest=canonical(forged), bundle_sha256=bundle_sha256(forged)))
    with refused("airlock.not-opened"):
        site.approve("ada", TWO)  # what she opened was something else
    for person in ("grace", "ada"):
        site.open(person, TWO)
    assert site.approve("grace", TWO) is State.IN_REVIEW
    assert site.approve("ada", TWO) is State.APPROVED  # she has now seen this one


# Asking for more


def test_a_question_voids_the_votes_and_everybody_looks_again(site: Site) -> None:
    for person in ("ada", "grace"):
        site.open(person, TWO)
    site.approve("ada", TWO)
    assert site.airlock.ask(TWO, site.id, "grace", " why is pair 7 so dark? ").state is State.SCREENED
    assert not site.airlock.has_voted(site.id, "ada")
    site.open("mary", TWO)
    with refused("airlock.not-opened"):
        site.approve("ada", TWO)  # she looked before the question was asked
    site.open("ada", TWO)
    assert site.approve("ada", TWO) is State.IN_REVIEW
    assert site.approve("mary", TWO) is State.APPROVED


def test_a_question_stays_on_record_in_the_journal(site: Site) -> None:
    for number in (1, 2):
        site.open()
        site.airlock.ask(ONE, site.id, "ada", f"question {number}")
    assert [(event.actor, event.detail) for event in site.airlock.questions(site.id)] == [
        ("ada", "question 1"), ("ada", "question 2"),
    ]  # fmt: skip
    assert site.actions()[-4:] == ["review", "ask", "review", "ask"]


def test_a_question_without_words_changes_nothing(site: Site) -> None:
    site.open()
    with refused("airlock.reason"):
        site.airlock.ask(ONE, site.id, "ada", "  ")
    with refused("airlock.reason"):
        site.airlock.reject(ONE, site.id, "ada", "")
    assert site.release.state is State.IN_REVIEW


# Blind votes


def test_votes_are_told_only_to_those_who_have_voted(site: Site) -> None:
    for person in ("ada", "grace"):
        site.open(person, TWO)
    site.approve("ada", TWO)
    assert [vote.actor for vote in site.airlock.votes(TWO, site.id, "ada")] == ["ada"]
    with refused("airlock.blind"):
        site.airlock.votes(TWO, site.id, "grace")
    assert "vote" not in [event.action for event in site.airlock.history(TWO, site.id, "grace")]
    assert "vote" in [event.action for event in site.airlock.history(TWO, site.id, "ada")]
    site.approve("grace", TWO)
    assert [vote.actor for vote in site.airlock.votes(TWO, site.id, "mary")] == ["ada", "grace"], "it is decided"


def test_a_history_without_the_votes_shows_no_gap(site: Site, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Site(tmp_path / "other")
    for each in (site, other):
        for person in ("ada", "grace"):
            each.open(person, TWO)
    site.approve("ada", TWO)
    with_vote, without = (
        [(event.actor, event.action, event.detail) for event in each.airlock.history(TWO, each.id, "grace")]
        for each in (site, other)
    )
    assert [line[:2] for line in with_vote] == [line[:2] for line in without]


def test_an_unknown_release_has_its_code(site: Site) -> None:
    for call in (lambda: site.airlock.release("x"), lambda: site.airlock.review(ONE, "x", "ada")):
        with refused("airlock.unknown"):
            call()
