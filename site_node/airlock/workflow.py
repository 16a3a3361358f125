"""The airlock: takes a release through its states, each step in one transaction with its journal entry.

permissions.py says who may, policies.py when one may, records.py what is known; this file does it.

What is reviewed is what is sealed: a release is its manifest, drafted once; votes are bound to the manifest's digest,
and sealing hashes every object again before it signs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Row, delete, select

from shared.bundle import Manifest, bundle_sha256, object_path
from shared.documents import canonical, parse, sign
from shared.errors import SynthwardError
from shared.files import sync_folder, sync_tree, whole_folder
from shared.journal import append
from shared.pairs import sha256_hex
from shared.release import Action, State, step
from site_node.airlock.permissions import check_steward
from site_node.airlock.policies import check_may_see_votes, check_step, check_words, enough, may_see_votes
from site_node.airlock.records import VOTE, Event, Touch, events, note_patients, standing, touches, without_patients
from site_node.cases import PrivateStore, asked_for, journal, releases, votes
from site_node.cohort import Split
from site_node.policy import Policy


@dataclass(frozen=True)
class Release:
    """A release as the airlock knows it. folder holds objects/HEX.png; report is the screening's, for the steward."""

    release_id: str
    study_sha256: str
    state: State
    manifest: Manifest
    bundle_sha256: str
    report: dict[str, Any]
    made_by: str
    folder: Path


class Airlock:
    """The releases of one site."""

    def __init__(self, store: PrivateStore) -> None:
        self._store = store

    def releases(self) -> list[Release]:
        """All releases, oldest first."""
        with self._store.reading.begin() as connection:
            rows = connection.execute(select(releases).order_by(releases.c.at)).all()
        return [self._release(row) for row in rows]

    def release(self, release_id: str) -> Release:
        """One release. Raises airlock.unknown."""
        with self._store.reading.begin() as connection:
            return self._release(self._row(connection, release_id))

    def draft(
        self,
        manifest: Manifest,
        report: Mapping[str, Any],
        *,
        made_by: str,
        asked_by: str = "",
        patients: Split | None = None,
    ) -> Release:
        """Registers a drafted release, whose objects lie in its folder, as screened; drafting it again is nothing.

        asked_by: the person who asked for it to be made, if one did. patients: whom it rests on, for `touched`.
        """
        payload = canonical(manifest)
        _flush(release_folder(self._store, manifest.release_id), self._store.folder)
        with self._store.engine.begin() as connection:
            known = connection.execute(select(releases).where(releases.c.release_id == manifest.release_id)).first()
            if known is None:
                connection.execute(
                    releases.insert().values(
                        release_id=manifest.release_id,
                        study_sha256=manifest.study_sha256,
                        state=State.DRAFTED.value,
                        manifest=payload,
                        bundle_sha256=sha256_hex(payload),
                        report=json.dumps(dict(report), sort_keys=True).encode(),
                        made_by=made_by,
                        at=datetime.now(UTC).isoformat(),
                    )
                )
                if asked_by:
                    connection.execute(asked_for.insert().values(release_id=manifest.release_id, person=asked_by))
                if patients is not None:
                    note_patients(connection, manifest.release_id, patients)
                append(connection, journal, actor=made_by, action="draft", subject=manifest.release_id)
                self._step(connection, manifest.release_id, Action.SCREEN, actor=made_by)
        return self.release(manifest.release_id)

    # What stewards decide

    def review(self, policy: Policy, release_id: str, person: str) -> Release:
        """A steward opens a release; the journal says so."""
        with self._store.engine.begin() as connection:
            row = self._row(connection, release_id)
            check_step(policy, standing(connection, row), person, Action.REVIEW)
            self._step(connection, release_id, Action.REVIEW, actor=person, detail=row.bundle_sha256)
        return self.release(release_id)

    def approve(self, policy: Policy, release_id: str, person: str, *, reviewed_sha256: str) -> Release:
        """A steward's vote for what they opened; voting twice is voting once. With enough votes it is approved.

        Raises airlock.changed when what was reviewed is not what lies there, airlock.not-opened when this person has
        not opened it.
        """
        with self._store.engine.begin() as connection:
            row = self._row(connection, release_id)
            before = standing(connection, row)
            check_step(policy, before, person, Action.APPROVE, reviewed_sha256=reviewed_sha256)
            check_objects(self._release(row))
            if person not in before.votes:
                connection.execute(
                    votes.insert().values(
                        release_id=release_id,
                        bundle_sha256=reviewed_sha256,
                        person=person,
                        at=datetime.now(UTC).isoformat(),
                    )
                )
                append(connection, journal, actor=person, action=VOTE, subject=release_id, detail=reviewed_sha256)
            if enough(policy, replace(before, votes=before.votes | {person})):
                self._step(connection, release_id, Action.APPROVE, actor=person, detail=reviewed_sha256)
        return self.release(release_id)

    def ask(self, policy: Policy, release_id: str, person: str, text: str) -> Release:
        """A steward asks for more. The question stays on record, votes so far are void, and it is opened afresh."""
        words = check_words(text)
        with self._store.engine.begin() as connection:
            check_step(policy, standing(connection, self._row(connection, release_id)), person, Action.ASK)
            connection.execute(delete(votes).where(votes.c.release_id == release_id))
            self._step(connection, release_id, Action.ASK, actor=person, detail=words)
        return self.release(release_id)

    def reject(self, policy: Policy, release_id: str, person: str, reason: str) -> Release:
        """A steward keeps a release in, for good."""
        return self._decide(policy, release_id, person, Action.REJECT, reason)

    def withdraw(
        self, policy: Policy, release_id: str, person: str, reason: str, *, take_back: Callable[[str], bool]
    ) -> Release:
        """A steward takes a release back before its first byte has left.

        take_back(bundle_sha256) takes a sealed one out of the link's hands, and is False when it is too late.
        """
        words = check_words(reason)
        with self._store.engine.begin() as connection:  # from the look to the step, so that no sealing comes in between
            found = standing(connection, self._row(connection, release_id))
            check_step(policy, found, person, Action.WITHDRAW)
            left = found.state is State.SEALED and not take_back(found.bundle_sha256)
            if left:  # true, only not yet written here: from now on it can be revoked
                self._step(connection, release_id, Action.SUBMIT, actor="link")
            else:
                self._step(connection, release_id, Action.WITHDRAW, actor=person, detail=words)
        if left:
            raise SynthwardError(
                "airlock.state",
                f"{release_id} is being sent already",
                why="bytes of it have left",
                do="revoke it: the coordinator is then told to use it no more",
            )
        return self.release(release_id)

    def revoke(self, policy: Policy, release_id: str, person: str, reason: str) -> Release:
        """A steward takes back a release that has left, in whole or in part. The reason stays here.

        From now on nothing more of it is sent; the trainer signs the revocation, the link carries it.
        """
        return self._decide(policy, release_id, person, Action.REVOKE, reason)

    def _decide(self, policy: Policy, release_id: str, person: str, action: Action, reason: str) -> Release:
        words = check_words(reason)
        with self._store.engine.begin() as connection:
            check_step(policy, standing(connection, self._row(connection, release_id)), person, action)
            self._step(connection, release_id, action, actor=person, detail=words)
        return self.release(release_id)

    # What is told, and to whom

    def votes(self, policy: Policy, release_id: str, person: str) -> list[Event]:
        """The votes that stand, for a steward who may know them. Raises policy.steward or airlock.blind."""
        with self._store.reading.begin() as connection:
            row = self._row(connection, release_id)
            check_may_see_votes(policy, standing(connection, row), person)
            given = (votes.c.release_id == release_id) & (votes.c.bundle_sha256 == row.bundle_sha256)
            rows = connection.execute(select(votes).where(given).order_by(votes.c.seq)).all()
        return [Event(vote.at, vote.person, VOTE, vote.bundle_sha256) for vote in rows]

    def history(self, policy: Policy, release_id: str, person: str) -> list[Event]:
        """A release's history for a steward, oldest first; without others' votes while those are blind."""
        with self._store.reading.begin() as connection:
            check_steward(policy, person, "read about")
            found = standing(connection, self._row(connection, release_id))
            told = events(connection, release_id)
        if may_see_votes(policy, found, person):
            return told
        return [event for event in told if event.action != VOTE or event.actor == person]

    def questions(self, release_id: str) -> list[Event]:
        """What stewards have asked about a release, oldest first; `detail` is the question."""
        with self._store.reading.begin() as connection:
            self._row(connection, release_id)
            return events(connection, release_id, (Action.ASK.value,))

    def has_voted(self, release_id: str, person: str) -> bool:
        """Whether this person's own vote stands: to be told to that person alone."""
        with self._store.reading.begin() as connection:
            return person in standing(connection, self._row(connection, release_id)).votes

    def touched(self, patient: str) -> tuple[list[Touch], list[str]]:
        """(releases that rest on a patient, releases of which it is not known), each oldest first."""
        with self._store.reading.begin() as connection:
            return touches(connection, patient), without_patients(connection)

    # What the machinery does on what was decided

    def seal(self, release_id: str, key: Ed25519PrivateKey, outbox: Path) -> Path:
        """Writes an approved release into the outbox, whole or not at all, and signs it; its folder there.

        Safe to repeat after a crash: a folder of that digest is complete by construction.
        """
        release = self.release(release_id)
        target = outbox / release.bundle_sha256
        if release.state is State.APPROVED:
            check_objects(release)
            if not target.exists():
                payload = canonical(release.manifest)
                with whole_folder(target) as partial:
                    (partial / "objects").mkdir()
                    for name in release.manifest.objects():
                        # One by one: copytree gathers what failed into an error that no longer says "disk full".
                        shutil.copyfile(object_path(release.folder, name), object_path(partial, name))
                    (partial / "manifest.json").write_bytes(payload)
                    (partial / "manifest.sig").write_bytes(sign(key, "manifest", payload))
            with self._store.engine.begin() as connection:
                self._step(connection, release_id, Action.SEAL, actor="trainer", detail=release.bundle_sha256)
        elif release.state is not State.SEALED:
            step(release.state, Action.SEAL)  # raises airlock.state with what is possible
        return target

    def sent(self, release_id: str, *, actor: str) -> None:
        """The link has begun to send it: from now on it can only be revoked."""
        self._machine_step(release_id, Action.SUBMIT, State.SEALED, actor)

    def accepted(self, release_id: str, *, actor: str) -> None:
        """The coordinator's receipt is here."""
        self._machine_step(release_id, Action.ACCEPT, State.SUBMITTED, actor)

    def refused(self, release_id: str, code: str, *, actor: str) -> None:
        """The coordinator would not have it."""
        self._machine_step(release_id, Action.REFUSE, State.SUBMITTED, actor, detail=code)

    def revoked(self, release_id: str, *, actor: str) -> None:
        """The coordinator's receipt for the revocation is here."""
        self._machine_step(release_id, Action.CONFIRM, State.REVOKING, actor)

    def _machine_step(self, release_id: str, action: Action, before: State, actor: str, detail: str = "") -> None:
        with self._store.engine.begin() as connection:
            if self._release(self._row(connection, release_id)).state is before:
                self._step(connection, release_id, action, actor=actor, detail=detail)

    def _step(self, connection: Connection, release_id: str, action: Action, *, actor: str, detail: str = "") -> None:
        row = self._row(connection, release_id)
        after = step(State(row.state), action)
        connection.execute(releases.update().where(releases.c.release_id == release_id).values(state=after.value))
        append(connection, journal, actor=actor, action=action.value, subject=release_id, detail=detail)

    def _row(self, connection: Connection, release_id: str) -> Row[Any]:
        row = connection.execute(select(releases).where(releases.c.release_id == release_id)).first()
        if row is None:
            raise SynthwardError("airlock.unknown", f"no release is called {release_id}", do="see: status")
        return row

    def _release(self, row: Row[Any]) -> Release:
        return Release(
            row.release_id,
            row.study_sha256,
            State(row.state),
            parse(Manifest, bytes(row.manifest)),
            row.bundle_sha256,
            json.loads(row.report),
            row.made_by,
            release_folder(self._store, row.release_id),
        )


def release_folder(store: PrivateStore, release_id: str) -> Path:
    """Where a release's objects lie at the site."""
    return store.folder / "releases" / release_id


def _flush(folder: Path, top: Path) -> None:
    """What is drafted survives a power cut: its files, and the folders from theirs up to top."""
    if not folder.is_dir():
        return  # nothing lies there: nobody will be able to approve it
    sync_tree(folder)
    for above in folder.parents:
        sync_folder(above)
        if above == top:
            break


def check_objects(release: Release) -> None:
    """Raises airlock.changed unless the release's files are those that its manifest names."""
    if bundle_sha256(release.manifest) != release.bundle_sha256:
        raise SynthwardError("airlock.changed", f"the manifest of {release.release_id} was changed")
    found = {path.name for path in (release.folder / "objects").iterdir()}
    expected = release.manifest.objects()
    if found != {f"{name}.png" for name in expected}:
        raise SynthwardError("airlock.changed", f"the files of {release.release_id} are not those of its manifest")
    for name in expected:
        if sha256_hex(object_path(release.folder, name).read_bytes()) != name:
            raise SynthwardError(
                "airlock.changed",
                f"an object of {release.release_id} was changed after it was drafted",
                why="what leaves must be what was reviewed",
                do="withdraw the release and find out who changed the folder",
            )
