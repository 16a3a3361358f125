"""Taking a release back: withdrawn before its first byte has left, revoked after; and whom a release rests on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.documents import canonical, parse, sign
from shared.errors import SynthwardError
from shared.identity import new_signing_key
from shared.release import State
from shared.revocation import Revocation, RevocationReceipt
from site_node.cohort import Split
from site_node.jobs import Queue
from site_node.revocations import Revocations
from site_node.work.taking_back import take_back
from tests.airlock_site import ONE, Site
from tests.helpers import refused
from tests.sites import make_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_a_steward_withdraws_at_every_step_before_the_first_byte_leaves(tmp_path: Path) -> None:
    for name, steps in (("screened", 0), ("in_review", 1), ("approved", 2), ("sealed", 3), ("offered", 4)):
        folder = tmp_path / name
        folder.mkdir()
        site, queue = Site(folder), Queue(folder)
        if steps >= 1:
            site.airlock.review(ONE, site.id, "ada")
        if steps >= 2:
            site.approve()
        if steps >= 3:
            site.airlock.seal(site.id, site.key, site.outbox)
        if steps >= 4:
            queue.offer(site.sha256)
        site.airlock.withdraw(ONE, site.id, "ada", "a doubt", take_back=queue.withdraw)
        assert site.release.state is State.WITHDRAWN
        assert not queue.start_sending(site.sha256)


def test_a_withdrawal_that_comes_too_late_is_refused_and_says_what_is_left(site: Site, tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    site.approved()
    site.airlock.seal(site.id, site.key, site.outbox)
    queue.offer(site.sha256)
    assert queue.start_sending(site.sha256)
    with pytest.raises(SynthwardError, match="revoke") as caught:
        site.airlock.withdraw(ONE, site.id, "ada", "a doubt", take_back=queue.withdraw)
    assert caught.value.code == "airlock.state"
    assert site.release.state is State.SUBMITTED, "what the refusal says can be done at once"
    with refused("airlock.state"):
        site.airlock.withdraw(ONE, site.id, "ada", "a doubt", take_back=lambda _sha256: True)
    assert site.airlock.revoke(ONE, site.id, "ada", "a doubt").state is State.REVOKING


def test_a_withdrawal_that_was_killed_halfway_is_finished_by_repeating_it(site: Site, tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    site.approved()
    site.airlock.seal(site.id, site.key, site.outbox)
    queue.offer(site.sha256)
    assert queue.withdraw(site.sha256)  # then the power went
    site.airlock.withdraw(ONE, site.id, "ada", "a doubt", take_back=queue.withdraw)
    assert site.release.state is State.WITHDRAWN


# Revoking


@pytest.mark.parametrize("state", ["screened", "in_review", "approved", "sealed"])
def test_what_has_not_left_is_not_revoked(site: Site, state: str) -> None:
    {"screened": lambda: None, "in_review": site.open, "approved": site.approved, "sealed": site.sealed}[state]()
    with refused("airlock.state"):
        site.airlock.revoke(ONE, site.id, "ada", "consent withdrawn")
    assert site.release.state.value == state


def test_a_revocation_needs_a_steward_and_a_reason(site: Site) -> None:
    site.accepted()
    with refused("policy.steward"):
        site.airlock.revoke(ONE, site.id, "nobody", "consent withdrawn")
    with refused("airlock.reason"):
        site.airlock.revoke(ONE, site.id, "ada", "")
    assert site.release.state is State.ACCEPTED


def test_a_revocation_that_is_killed_between_its_steps_goes_on(tmp_path: Path) -> None:
    key = new_signing_key()
    home = make_site(tmp_path / "north", key)
    (tmp_path / "airlock").mkdir()
    site = Site(tmp_path / "airlock").accepted()
    queue = Queue(home.exchange)
    queue.offer(site.sha256)
    queue.start_sending(site.sha256)
    site.airlock.revoke(ONE, site.id, "ada", "patient 4711 withdraws")
    for _ in range(2):
        take_back(home, site.airlock, queue)
    (row,) = Revocations(queue).waiting()
    document = parse(Revocation, row.payload)
    assert (document.bundle_sha256, document.site) == (site.sha256, "north")
    assert b"patient" not in row.payload, "the reason stays here"
    assert not queue.start_sending(site.sha256), "nothing more of it is sent"
    queue.settle(site.sha256, "accepted", code="", receipt=b"r", signature=b"s")  # an answer that was under way
    assert [row.state for row in queue.offered("accepted", "revoked")] == ["revoked"]
    assert [entry.action for entry in queue.journal()].count("revocation-signed") == 1
    assert site.release.state is State.REVOKING


@pytest.mark.parametrize("forged", [False, True])
def test_a_release_is_revoked_on_the_coordinators_own_receipt_alone(tmp_path: Path, forged: bool) -> None:
    key = new_signing_key()
    home = make_site(tmp_path / "north", key)
    (tmp_path / "airlock").mkdir()
    site = Site(tmp_path / "airlock").accepted()
    queue = Queue(home.exchange)
    site.airlock.revoke(ONE, site.id, "ada", "consent withdrawn")
    take_back(home, site.airlock, queue)
    receipt = RevocationReceipt(bundle_sha256=site.sha256, site="north", noted_at=datetime.now(UTC))
    payload = canonical(receipt)
    signature = sign(new_signing_key() if forged else key, "revocation-receipt", payload)
    Revocations(queue).settle(site.sha256, payload, signature)
    take_back(home, site.airlock, queue)
    assert site.release.state is (State.REVOKING if forged else State.REVOKED)


# Whom it rests on


def test_the_releases_that_rest_on_a_patient_are_found_by_the_key(tmp_path: Path) -> None:
    split = Split(training=frozenset({"p1", "p2"}), holdout=frozenset({"p3"}))
    site = Site(tmp_path, patients=split)
    for patient, side in (("p1", "training"), ("p3", "holdout")):
        (touch,), unknown = site.airlock.touched(patient)
        assert (touch.release_id, touch.side, touch.state) == (site.id, side, State.SCREENED)
        assert unknown == []
    assert site.airlock.touched("p4") == ([], [])
    assert not [entry for entry in site.journal() if "p1" in f"{entry.subject} {entry.detail}".split()]


def test_a_release_of_which_it_was_not_written_down_may_rest_on_anybody(site: Site) -> None:
    assert site.airlock.touched("p1") == ([], [site.id])
