"""The airlock: a release leaves only through every step, by the right people, as it was reviewed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared import journal as chain
from shared.bundle import bundle_sha256
from shared.documents import canonical, verify
from shared.errors import SynthwardError
from shared.identity import new_signing_key, save_key
from shared.journal import Entry
from shared.release import STEPS, Action, State, step
from site_node.airlock.permissions import may
from site_node.airlock.workflow import Airlock, Release, release_folder
from site_node.cases import PrivateStore, journal, releases
from site_node.jobs import Queue
from site_node.policy import Policy
from tests.helpers import manifest_of, noise_pair, png_objects, refused, small_study

ONE = Policy(stewards=("ada", "grace"))
TWO = Policy(stewards=("ada", "grace", "mary"), required_approvals=2)
MADE_BY = "trainer"

# Written out by hand, state by state: what may be done, and where it leads.
ALLOWED = """
drafted    screen -> screened       withdraw -> withdrawn
screened   review -> in_review      withdraw -> withdrawn
in_review  review -> in_review      approve -> approved     reject -> rejected   withdraw -> withdrawn
approved   seal -> sealed           withdraw -> withdrawn
sealed     submit -> submitted      withdraw -> withdrawn
submitted  accept -> accepted       refuse -> rejected
accepted   revoke -> revoked
rejected
withdrawn
revoked
"""


def by_hand() -> dict[tuple[str, str], str]:
    """ALLOWED as (state, action) -> state."""
    table = {}
    for line in ALLOWED.strip().splitlines():
        state, *words = line.split()
        for action, after in zip(words[0::3], words[2::3], strict=True):  # action -> state
            table[state, action] = after
    return table


@pytest.mark.parametrize(("state", "action"), list(itertools.product(State, Action)))
def test_every_step_is_allowed_or_refused_as_the_table_says(state: State, action: Action) -> None:
    expected = by_hand().get((state.value, action.value))
    if expected is None:
        with refused("airlock.state"):
            step(state, action)
    else:
        assert step(state, action).value == expected


def test_the_table_names_every_state_and_no_further_step() -> None:
    assert {line.split()[0] for line in ALLOWED.strip().splitlines()} == {state.value for state in State}
    assert len(STEPS) == len(by_hand())


def test_no_way_out_goes_round_the_steward() -> None:
    reached, fringe = {State.DRAFTED}, [State.DRAFTED]
    while fringe:
        before = fringe.pop()
        for (state, action), after in STEPS.items():
            if state is before and action is not Action.APPROVE and after not in reached:
                reached.add(after)
                fringe.append(after)
    assert not reached & {State.APPROVED, State.SEALED, State.SUBMITTED, State.ACCEPTED}


def test_a_refusal_says_what_is_possible_instead() -> None:
    with pytest.raises(SynthwardError, match="possible now: review, withdraw"):
        step(State.SCREENED, Action.SEAL)


# Who


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("person", ["ada", "nobody", "", "trainer", "Ada"])
def test_only_named_stewards_decide_and_nobody_does_the_machines_work(person: str, action: Action) -> None:
    a_persons = {Action.REVIEW, Action.APPROVE, Action.REJECT, Action.WITHDRAW}
    assert may(ONE, person, action, made_by="grace") == (person == "ada" and action in a_persons)


def test_who_made_a_release_may_reject_but_not_approve_it() -> None:
    assert not may(ONE, "ada", Action.APPROVE, made_by="ada")
    assert may(ONE, "ada", Action.REJECT, made_by="ada")
    assert may(ONE, "grace", Action.APPROVE, made_by="ada")


# A release on its way


class Site:
    """A private store with one screened release, and what was written into its journal."""

    def __init__(self, folder: Path, *, made_by: str = MADE_BY, size_px: int = 32) -> None:
        self.private, self.outbox = folder / "private", folder / "outbox"
        for each in (self.private, self.outbox):
            each.mkdir()
        self.store = PrivateStore(self.private)
        self.airlock = Airlock(self.store)
        entries, objects = png_objects([noise_pair(seed, size_px) for seed in (1, 2)])
        manifest = manifest_of(small_study(image={"size_px": size_px}), "north", entries)
        target = release_folder(self.store, manifest.release_id) / "objects"
        target.mkdir(parents=True)
        for name, data in objects.items():
            (target / f"{name}.png").write_bytes(data)
        self.id = self.airlock.draft(manifest, {"accepted": 2}, made_by=made_by).release_id
        self.key: Ed25519PrivateKey = new_signing_key()

    @property
    def release(self) -> Release:
        return self.airlock.release(self.id)

    @property
    def sha256(self) -> str:
        return self.release.bundle_sha256

    def approve(self, person: str = "ada", policy: Policy = ONE, *, sha256: str | None = None) -> State:
        return self.airlock.approve(policy, self.id, person, reviewed_sha256=sha256 or self.sha256).state

    def approved(self) -> Site:
        self.airlock.review(ONE, self.id, "ada")
        self.approve()
        return self

    def journal(self) -> list[Entry]:
        with self.store.reading.begin() as connection:
            found = chain.entries(connection, journal)
        chain.verify(found)
        return found

    def actions(self) -> list[str]:
        return [entry.action for entry in self.journal()]


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
    site.airlock.review(ONE, site.id, "ada")
    with refused("policy.own-release"):
        site.approve("ada")
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
    site.airlock.review(TWO, site.id, "ada")
    assert site.approve("ada", TWO) is State.IN_REVIEW
    assert site.approve("ada", TWO) is State.IN_REVIEW  # the same person twice counts once
    assert site.actions().count("vote") == 1
    assert site.approve("mary", TWO) is State.APPROVED


def test_the_vote_of_somebody_who_is_no_steward_any_more_does_not_count(site: Site) -> None:
    site.airlock.review(TWO, site.id, "ada")
    site.approve("ada", TWO)
    without = TWO.model_copy(update={"stewards": ("grace", "mary")})
    assert site.approve("grace", without) is State.IN_REVIEW
    assert site.approve("mary", without) is State.APPROVED


def test_a_vote_for_something_else_does_not_count_for_what_lies_there_now(site: Site) -> None:
    site.airlock.review(TWO, site.id, "ada")
    site.approve("ada", TWO)
    forged = site.release.manifest.model_copy(update={"training_patients": 10_000})
    with site.store.engine.begin() as connection:  # manifest and digest, both: what the digest alone cannot show
        connection.execute(releases.update().values(manifest=canonical(forged), bundle_sha256=bundle_sha256(forged)))
    assert site.approve("grace", TWO) is State.IN_REVIEW
    assert site.approve("ada", TWO) is State.APPROVED  # she has now seen this one


# Taking back


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
    assert site.release.state is State.SEALED
    site.airlock.sent(site.id, actor="link")
    with refused("airlock.state"):
        site.airlock.withdraw(ONE, site.id, "ada", "a doubt", take_back=lambda _sha256: True)


def test_a_withdrawal_that_was_killed_halfway_is_finished_by_repeating_it(site: Site, tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    site.approved()
    site.airlock.seal(site.id, site.key, site.outbox)
    queue.offer(site.sha256)
    assert queue.withdraw(site.sha256)  # then the power went
    site.airlock.withdraw(ONE, site.id, "ada", "a doubt", take_back=queue.withdraw)
    assert site.release.state is State.WITHDRAWN


def test_an_unknown_release_has_its_code(site: Site) -> None:
    for call in (lambda: site.airlock.release("x"), lambda: site.airlock.review(ONE, "x", "ada")):
        with refused("airlock.unknown"):
            call()


# Sealing


def test_a_sealed_bundle_holds_what_was_approved_under_the_sites_signature(site: Site) -> None:
    folder = site.approved().airlock.seal(site.id, site.key, site.outbox)
    assert folder == site.outbox / site.sha256
    payload = (folder / "manifest.json").read_bytes()
    assert payload == canonical(site.release.manifest)
    verify(site.key.public_key(), "manifest", payload, (folder / "manifest.sig").read_bytes())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"manifest.json", "manifest.sig"} | {f"objects/{n}.png" for n in site.release.manifest.objects()}


@pytest.mark.parametrize("state", ["screened", "in_review"])
def test_nothing_is_sealed_before_it_is_approved(site: Site, state: str) -> None:
    if state == "in_review":
        site.airlock.review(ONE, site.id, "ada")
    with refused("airlock.state"):
        site.airlock.seal(site.id, site.key, site.outbox)
    assert list(site.outbox.iterdir()) == []


SEAL = """
import resource, signal, sys
from pathlib import Path
from shared.errors import SynthwardError
from shared.identity import load_signing_key
from site_node.airlock.workflow import Airlock
from site_node.cases import PrivateStore

private, outbox, key, release_id, limit = sys.argv[1:]
airlock = Airlock(PrivateStore(Path(private)))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing past the limit is then an error, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    airlock.seal(release_id, load_signing_key(Path(key)), Path(outbox))
except SynthwardError as error:
    sys.exit(error.code)
"""


def test_on_a_full_disk_a_bundle_is_whole_or_not_there_and_sealing_again_works(tmp_path: Path) -> None:
    site = Site(tmp_path, size_px=512).approved()
    save_key(tmp_path / "signing.key", site.key)
    limit = min(size for size in site.release.manifest.objects().values() if size > 100_000) - 1
    site.store.engine.dispose()
    arguments = [site.private, site.outbox, tmp_path / "signing.key", site.id, limit]
    ended = subprocess.run([sys.executable, "-c", SEAL, *map(str, arguments)], capture_output=True, text=True)
    assert ended.stderr.strip() == "storage.full"
    assert list(site.outbox.iterdir()) == []
    assert site.release.state is State.APPROVED
    assert "seal" not in site.actions()
    folder = site.airlock.seal(site.id, site.key, site.outbox)
    assert len(list((folder / "objects").iterdir())) == len(site.release.manifest.objects())
    assert site.release.state is State.SEALED


def test_a_kill_between_writing_and_recording_is_finished_by_repeating_it(site: Site) -> None:
    site.approved()
    folder = site.airlock.seal(site.id, site.key, site.outbox)
    before = (folder / "manifest.sig").read_bytes()
    with site.store.engine.begin() as connection:  # as if the record had never been written
        connection.execute(releases.update().values(state=State.APPROVED.value))
    assert site.airlock.seal(site.id, site.key, site.outbox) == folder
    assert (folder / "manifest.sig").read_bytes() == before
    assert site.release.state is State.SEALED
