"""Random histories of release, outbox and admission against a plain model: nothing is lost, nothing is twice.

People decide, the trainer and the link take their turns, lines break, answers are lost, calls come again and out of
order, either side is killed before any of its commits. After each step what the coordinator holds, what the site says
and what the people decided agree; and once everything may run, each approved release is accepted, once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest
import stamina
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select

from coordinator.datasets.build import build, read_pair
from coordinator.quarantine import discard
from coordinator.settings import Home as CoordinatorHome
from coordinator.store.schema import bundles, shares
from coordinator.store.shares import in_quarantine
from shared import journal as chain
from shared.bundle import Manifest
from shared.documents import canonical, verify
from shared.pairs import Pair, sha256_hex
from shared.release import State
from shared.study import Study
from site_node.cases import journal as private_journal
from site_node.policy import Policy
from site_node.revocations import Revocations
from tests.helpers import manifest_of, noise_pair, png_objects
from tests.loopback import Aborted, Line, SiteKilled, code_of, make_both, open_both, study_sha256

STEWARDS = ("ada", "grace", "mary")
TWO = Policy(stewards=STEWARDS, required_approvals=2)
BELOW_FLOOR, GREY_MASK = "below the study's floor", "a mask with grey in it"
REFUSED_WITH = {BELOW_FLOOR: "admission.floor", GREY_MASK: "pairs.mask-not-binary"}
# Two releases in three are such as a coordinator takes.
KINDS = st.sampled_from(["good", "good", "good", "good", BELOW_FLOOR, GREY_MASK])
WHICH = st.integers(0, 2)
WHO = st.sampled_from([*STEWARDS, "mallory"])
# Commits that still go through before a side is killed; mostly it is not.
COMMITS = st.one_of(st.none(), st.none(), st.none(), st.integers(0, 9))
FAULTS = st.fixed_dictionaries(
    {
        "breaks_at": st.one_of(st.none(), st.integers(0, 20)),
        "ends": st.sampled_from(["line", "site", "coordinator"]),
        "changes": st.one_of(st.none(), st.none(), st.integers(0, 20)),
        "loses": st.sampled_from(["", "", "Begin", "Upload", "Finish", "Revoke", "Checkpoint"]),
        "for_good": st.booleans(),
    }
)


def step(what: str, **draws: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A step of a history: the method of that name, and what it is given."""
    return st.fixed_dictionaries({"what": st.just(what), **draws})


KILLED = st.booleans()
DECISIONS = (
    step("review", which=WHICH, who=WHO, killed=KILLED),
    step("vote", which=WHICH, who=WHO, killed=KILLED, about=st.sampled_from(["", "", "another"])),
    step("ask", which=WHICH, who=WHO, killed=KILLED),
    step("reject", which=WHICH, who=WHO, killed=KILLED),
    step("withdraw", which=WHICH, commits=COMMITS),
    step("revoke", which=WHICH, killed=KILLED),
)
TURNS = step(
    "machines_take_turns",
    turns=st.sampled_from(["trainer", "link", "both", "both"]),
    commits=COMMITS,
    their_commits=COMMITS,
    faults=st.one_of(st.just({}), FAULTS),
)
OTHERS = (
    *(step("a_call_comes_again", which=st.integers(0, 60), chunks=st.integers(0, 12)),) * 3,
    step("both_restart"),
    step("build_a_dataset"),
    step("discard", which=WHICH),
)
LEFT = (State.SUBMITTED, State.ACCEPTED)


def release_of(study: Study, number: int, kind: str) -> tuple[Manifest, dict[str, bytes]]:
    """A release's manifest and files. All share one mask, as releases of one site may."""
    pairs = [noise_pair(3 * number + each) for each in range(2)]
    pairs.append(Pair(noise_pair(3 * number + 2).image, noise_pair(99).mask))
    if kind == GREY_MASK:
        pairs[0].mask[0, 0] = 128
    entries, objects = png_objects(pairs)
    patients = 1 if kind == BELOW_FLOOR else 9
    return manifest_of(study, "north", entries, release_id=f"release-{number}", training_patients=patients), objects


class Histories(RuleBasedStateMachine):
    """One site, one coordinator, at most three releases."""

    template: ClassVar[Path]
    study: ClassVar[Study]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=self.template.parent))
        shutil.copytree(self.template, self.folder, dirs_exist_ok=True)
        self.coordinator, self.site = open_both(self.folder)
        # The model: what people have done to each release, by its id.
        self.manifests: dict[str, Manifest] = {}
        self.digests: dict[str, str] = {}
        self.kinds: dict[str, str] = {}
        self.opened: dict[str, set[str]] = {}
        self.votes: dict[str, set[str]] = {}
        self.approved: set[str] = set()
        self.kept_in: set[str] = set()  # rejected or withdrawn by a steward
        self.revoked: set[str] = set()
        self.half_withdrawn: set[str] = set()  # the site was killed in the middle of it
        self.sent: list[tuple[str, Any]] = []

    @initialize(drafts=st.lists(st.tuples(KINDS, st.sampled_from([True, True, False])), min_size=2, max_size=3))
    def drafts(self, drafts: list[tuple[str, bool]]) -> None:
        """Some are approved at once, so that histories get past the stewards."""
        for number, (kind, approved) in enumerate(drafts):
            self.draft(kind)
            for who in STEWARDS[: 2 * approved]:
                self.review(number, who, False)
                self.vote(number, who, False)

    # Steps of people

    @rule(step=st.sampled_from((TURNS,) * 14 + DECISIONS + OTHERS).flatmap(lambda chosen: chosen))
    def something_happens(self, step: dict[str, Any]) -> None:
        """One rule for all: of several, Hypothesis leaves some out, and a history without a link is a short one."""
        getattr(self, step["what"])(**{name: value for name, value in step.items() if name != "what"})

    def draft(self, kind: str) -> None:
        manifest, objects = release_of(self.study, len(self.manifests), kind)
        release_id = manifest.release_id
        self.site.draft(manifest, objects)
        self.manifests[release_id], self.kinds[release_id] = manifest, kind
        self.digests[release_id] = sha256_hex(canonical(manifest))
        self.opened[release_id], self.votes[release_id] = set(), set()

    def review(self, which: int, who: str, killed: bool) -> None:
        release_id = self.one(which)
        expected = "policy.steward" if who == "mallory" else "" if self.undecided(release_id) else "airlock.state"
        if self.decides(lambda: self.site.airlock.review(TWO, release_id, who), expected, killed):
            self.opened[release_id].add(who)

    def vote(self, which: int, who: str, killed: bool, about: str = "") -> None:
        """about: what they say that they reviewed, where it is not what lies there."""
        release_id = self.one(which)
        digest = sha256_hex(about.encode()) if about else self.digest(release_id)
        expected = "policy.steward" if who == "mallory" else self.unless_in_review(release_id)
        if not expected and about:
            expected = "airlock.changed"
        elif not expected and who not in self.opened[release_id]:
            expected = "airlock.not-opened"
        if self.decides(
            lambda: self.site.airlock.approve(TWO, release_id, who, reviewed_sha256=digest), expected, killed
        ):
            self.votes[release_id].add(who)
            if len(self.votes[release_id]) == 2:
                self.approved.add(release_id)

    def ask(self, which: int, who: str, killed: bool) -> None:
        release_id = self.one(which)
        expected = "policy.steward" if who == "mallory" else self.unless_in_review(release_id)
        if self.decides(lambda: self.site.airlock.ask(TWO, release_id, who, "why so many?"), expected, killed):
            self.opened[release_id].clear()
            self.votes[release_id].clear()

    def reject(self, which: int, who: str, killed: bool) -> None:
        release_id = self.one(which)
        expected = "policy.steward" if who == "mallory" else self.unless_in_review(release_id)
        if self.decides(lambda: self.site.airlock.reject(TWO, release_id, who, "blurred"), expected, killed):
            self.kept_in.add(release_id)

    def withdraw(self, which: int, commits: int | None) -> None:
        release_id = self.one(which)
        state, lies = self.state(release_id), self.outbox().get(self.digest(release_id), "")
        inside = state in (State.SCREENED, State.IN_REVIEW, State.APPROVED)
        unsent = state is State.SEALED and lies in ("", "waiting", "withdrawn")
        self.site.fuse.left = commits
        try:
            code = code_of(lambda: self.take_out(release_id))
        except SiteKilled:
            self.half_withdrawn.add(release_id)
            self.restart_site()
            return
        finally:
            self.site.fuse.left = None
        assert code == ("" if inside or unsent else "airlock.state")
        if not code:
            self.kept_in.add(release_id)
            self.half_withdrawn.discard(release_id)

    def revoke(self, which: int, killed: bool) -> None:
        release_id = self.one(which)
        expected = "" if self.state(release_id) in LEFT else "airlock.state"
        if self.decides(lambda: self.site.airlock.revoke(TWO, release_id, "ada", "consent"), expected, killed):
            self.revoked.add(release_id)

    # Steps of machines

    def machines_take_turns(
        self, turns: str, commits: int | None, their_commits: int | None, faults: dict[str, Any]
    ) -> None:
        if turns != "link":
            self.trainer(commits if turns == "trainer" else None)
        if turns != "trainer":
            self.link(commits, their_commits, faults)

    def trainer(self, commits: int | None) -> None:
        self.site.fuse.left = commits
        try:
            self.site.trainer()
        except SiteKilled:
            self.restart_site()
        self.site.fuse.left = None

    def link(self, commits: int | None, their_commits: int | None, faults: dict[str, Any]) -> None:
        line = Line(self.coordinator, self.site.home, sent=self.sent, **faults)
        self.site.fuse.left, self.coordinator.fuse.left = commits, their_commits
        try:
            self.site.link(line)
        except SiteKilled:
            self.restart_site()
        finally:
            self.site.fuse.left = self.coordinator.fuse.left = None
        if not self.coordinator.up:
            self.coordinator.open()
        assert "internal" not in line.codes

    def a_call_comes_again(self, which: int, chunks: int) -> None:
        """Also long after it was made, and of an upload only some chunks, in another order."""
        if not self.sent:
            return
        method, request = self.sent[which % len(self.sent)]
        line = Line(self.coordinator, self.site.home)
        with suppress(Aborted):
            line.call(method, iter([*request[chunks:], *request[:chunks]]) if method == "Upload" else request)
        assert "internal" not in line.codes

    def both_restart(self) -> None:
        self.restart_site()
        self.coordinator.drop()
        self.coordinator.open()

    def restart_site(self) -> None:
        self.site.drop()
        self.site.open()

    def build_a_dataset(self) -> None:
        store, name, accepted = self.coordinator.store, study_sha256(self.study), self.coordinator.accepted()
        if not accepted:
            assert code_of(lambda: build(store, name, actor="operator")) == "dataset.empty"
            return
        _, _, dataset = build(store, name, actor="operator")
        of = {self.digest(release_id): manifest for release_id, manifest in self.manifests.items()}
        named = {(pair.image, pair.mask) for sha256 in accepted for pair in of[sha256].pairs}
        assert set(dataset.bundles) == set(accepted)
        assert {(pair.image, pair.mask) for pair in dataset.pairs} == named
        for pair in dataset.pairs:
            read_pair(self.coordinator.objects, pair)

    def discard(self, which: int) -> None:
        """The operator's: of what lies in quarantine, and of nothing else."""
        sha256, store = self.digest(self.one(which)), self.coordinator.store
        kept = sha256 in {line.sha256 for line in in_quarantine(store)}
        row, home = store.bundle(sha256), CoordinatorHome(self.coordinator.folder)
        before = row is not None and row.state == "quarantined"
        code = code_of(lambda: discard(home, store, sha256, "looked at", actor="operator"))
        assert code == ("" if kept or before else "admission.not-quarantined")
        assert sha256 not in {line.sha256 for line in in_quarantine(store)}

    # What always holds

    @invariant()
    def all_agree(self) -> None:
        self.releases = {release.release_id: release.state for release in self.site.airlock.releases()}
        with self.coordinator.store.reading.begin() as connection:
            self.bundles = {row.sha256: row for row in connection.execute(select(bundles))}
        self.the_site_is_where_its_people_brought_it()
        self.what_was_admitted_was_approved_and_sealed_and_only_once()
        self.the_site_is_never_ahead_of_a_receipt()
        self.nothing_lies_at_the_coordinator_that_is_not_counted()

    def the_site_is_where_its_people_brought_it(self) -> None:
        for release_id, state in self.releases.items():
            if release_id in self.kept_in:
                assert state in (State.REJECTED, State.WITHDRAWN)
            elif release_id in self.revoked:
                assert state in (State.REVOKING, State.REVOKED)
            elif release_id not in self.approved:
                assert state is (State.IN_REVIEW if self.opened[release_id] else State.SCREENED)

    def what_was_admitted_was_approved_and_sealed_and_only_once(self) -> None:
        journal = self.coordinator.store.journal()
        chain.verify(journal)
        admitted = [line.subject for line in journal if line.action == "accept-bundle"]
        assert len(admitted) == len(set(admitted))
        by_digest = {self.digest(release_id): release_id for release_id in self.manifests}
        for sha256 in admitted:
            release_id, row = by_digest[sha256], self.bundles[sha256]
            assert release_id in self.approved - self.kept_in
            assert self.kinds[release_id] == "good"
            assert row.state in ("accepted", "revoked")
            assert bytes(row.manifest) == canonical(self.manifests[release_id])
            assert (self.site.home.outbox / sha256 / "manifest.json").read_bytes() == bytes(row.manifest)
            assert self.manifests[release_id].objects().keys() <= self.objects_there()

    def the_site_is_never_ahead_of_a_receipt(self) -> None:
        key = self.coordinator.key.public_key()
        journal = self.site.queue.journal()
        chain.verify(journal)
        with self.site.store.reading.begin() as connection:
            chain.verify(chain.entries(connection, private_journal))
        accepted = {row.bundle_sha256: row for row in self.site.queue.offered("accepted")}
        for sha256, row in accepted.items():
            verify(key, "receipt", row.receipt, row.signature)
            assert bytes(self.bundles[sha256].receipt) == row.receipt
        confirmed = {row.bundle_sha256: row for row in Revocations(self.site.queue).all() if row.receipt is not None}
        for sha256, row in confirmed.items():
            verify(key, "revocation-receipt", row.receipt, row.receipt_signature)
            assert sha256 not in self.bundles or self.bundles[sha256].state == "revoked"
        for release_id, state in self.releases.items():
            assert state is not State.ACCEPTED or self.digest(release_id) in accepted
            assert state is not State.REVOKED or self.digest(release_id) in confirmed

    def nothing_lies_at_the_coordinator_that_is_not_counted(self) -> None:
        with self.coordinator.store.reading.begin() as connection:
            counted = {row.sha256 for row in connection.execute(select(shares)) if row.objects > 0}
        found = {
            path.name for room in ("incoming", "quarantine") for path in (self.coordinator.folder / room).iterdir()
        }
        assert found | {sha256 for sha256, row in self.bundles.items() if row.receipt is not None} <= counted

    def teardown(self) -> None:
        try:
            self.let_everything_run()
        finally:
            self.site.drop()
            self.coordinator.drop()
            shutil.rmtree(self.folder)

    def let_everything_run(self) -> None:
        for release_id in self.half_withdrawn - self.kept_in - self.revoked:
            # The steward does again what the kill cut off; where bytes have left, it is told.
            if not code_of(lambda release_id=release_id: self.take_out(release_id)):
                self.kept_in.add(release_id)
        for _ in range(3):
            self.site.trainer()
            self.site.link(Line(self.coordinator, self.site.home))
        self.site.trainer()
        assert self.site.link(Line(self.coordinator, self.site.home)), "nothing is left to do"
        for release_id in self.approved - self.kept_in:
            good = self.kinds[release_id] == "good"
            expected = State.REVOKED if release_id in self.revoked else State.ACCEPTED if good else State.REJECTED
            assert self.state(release_id) is expected
            if expected is State.REJECTED:
                row = next(r for r in self.site.queue.offered("refused") if r.bundle_sha256 == self.digest(release_id))
                assert row.code in (REFUSED_WITH[self.kinds[release_id]], "admission.quarantined")
        wanted = {
            self.digest(release_id)
            for release_id in self.approved - self.kept_in - self.revoked
            if self.kinds[release_id] == "good"
        }
        assert set(self.coordinator.accepted()) == wanted
        assert not [path for path in (self.coordinator.folder / "incoming").iterdir() if path.name in wanted]
        self.all_agree()
        self.build_a_dataset()

    # The model

    def one(self, which: int) -> str:
        return f"release-{which % len(self.manifests)}"

    def digest(self, release_id: str) -> str:
        return self.digests[release_id]

    def objects_there(self) -> set[str]:
        return {path.stem for path in (self.coordinator.folder / "objects").rglob("*.png")}

    def undecided(self, release_id: str) -> bool:
        return release_id not in self.approved | self.kept_in

    def unless_in_review(self, release_id: str) -> str:
        """The code of a step that needs a release in review; empty where it is."""
        return "" if self.undecided(release_id) and self.opened[release_id] else "airlock.state"

    def state(self, release_id: str) -> State:
        return self.site.airlock.release(release_id).state

    def outbox(self) -> dict[str, str]:
        states = ("waiting", "sending", "accepted", "refused", "withdrawn", "revoked")
        return {row.bundle_sha256: row.state for row in self.site.queue.offered(*states)}

    def take_out(self, release_id: str) -> None:
        self.site.airlock.withdraw(TWO, release_id, "ada", "not this one", take_back=self.site.queue.withdraw)

    def decides(self, work: Callable[[], object], expected: str, killed: bool) -> bool:
        """Whether a person's step was taken; it is one transaction, so a kill before its commit leaves nothing."""
        self.site.fuse.left = 0 if killed else None
        try:
            code = code_of(work)
        except SiteKilled:
            self.restart_site()
            return False
        finally:
            self.site.fuse.left = None
        assert code == expected
        return not code


def test_whatever_happens_each_approved_release_is_accepted_once_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of an object of some kilobytes too, a part may have arrived.
    monkeypatch.setattr("site_node.link.outbox.CHUNK_BYTES", 1000)

    class Here(Histories):
        template = tmp_path / "template"
        study = make_both(template)

    chosen = settings(
        max_examples=15,
        stateful_step_count=20,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    with stamina.set_testing(True, attempts=2, cap=True):  # a turn that fails is one step; the next one is another
        run_state_machine_as_test(Here, settings=chosen)
