"""The airlock: takes a release through its states, each step in one transaction with its journal entry.

What is reviewed is what is sealed: a release is its manifest, drafted once; votes are bound to the manifest's digest,
and sealing hashes every object again before it signs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection, Row, select

from shared.bundle import Manifest, bundle_sha256, object_path
from shared.documents import canonical, parse, sign
from shared.errors import SynthwardError
from shared.files import whole_folder
from shared.journal import append
from shared.pairs import sha256_hex
from shared.release import Action, State, step
from site_node.airlock.permissions import check_may
from site_node.cases import PrivateStore, journal, releases, votes
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

    def draft(self, manifest: Manifest, report: Mapping[str, Any], *, made_by: str) -> Release:
        """Registers a drafted release, whose objects lie in its folder, as screened; drafting it again is nothing."""
        payload = canonical(manifest)
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
                append(connection, journal, actor=made_by, action="draft", subject=manifest.release_id)
                self._step(connection, manifest.release_id, Action.SCREEN, actor=made_by)
        return self.release(manifest.release_id)

    def review(self, policy: Policy, release_id: str, person: str) -> Release:
        """A steward opens a release; the journal says so."""
        with self._store.engine.begin() as connection:
            release = self._release(self._row(connection, release_id))
            check_may(policy, person, Action.REVIEW, made_by=release.made_by)
            self._step(connection, release_id, Action.REVIEW, actor=person, detail=release.bundle_sha256)
        return self.release(release_id)

    def approve(self, policy: Policy, release_id: str, person: str, *, reviewed_sha256: str) -> Release:
        """A steward's vote for what they reviewed. With enough votes the release is approved.

        Raises airlock.changed when what was reviewed is not what lies there.
        """
        with self._store.engine.begin() as connection:
            release = self._release(self._row(connection, release_id))
            check_may(policy, person, Action.APPROVE, made_by=release.made_by)
            step(release.state, Action.APPROVE)
            if reviewed_sha256 != release.bundle_sha256:
                raise SynthwardError(
                    "airlock.changed",
                    f"{person} reviewed {reviewed_sha256[:12]}, the release is {release.bundle_sha256[:12]}",
                    do="review it again",
                )
            check_objects(release)
            given = (votes.c.release_id == release_id) & (votes.c.bundle_sha256 == reviewed_sha256)
            people = set(connection.execute(select(votes.c.person).where(given)).scalars())
            if person not in people:
                connection.execute(
                    votes.insert().values(
                        release_id=release_id,
                        bundle_sha256=reviewed_sha256,
                        person=person,
                        at=datetime.now(UTC).isoformat(),
                    )
                )
                append(connection, journal, actor=person, action="vote", subject=release_id, detail=reviewed_sha256)
            # Somebody who is no steward any more has no vote any more.
            people = {name for name in people | {person} if name in policy.stewards}
            if len(people) >= policy.required_approvals:
                self._step(connection, release_id, Action.APPROVE, actor=person, detail=reviewed_sha256)
        return self.release(release_id)

    def reject(self, policy: Policy, release_id: str, person: str, reason: str) -> Release:
        """A steward keeps a release in."""
        return self._end(policy, release_id, person, Action.REJECT, reason)

    def withdraw(
        self, policy: Policy, release_id: str, person: str, reason: str, *, take_back: Callable[[str], bool]
    ) -> Release:
        """A steward takes a release back before its first byte has left.

        take_back(bundle_sha256) takes a sealed one out of the link's hands, and is False when it is too late.
        """
        release = self.release(release_id)
        check_may(policy, person, Action.WITHDRAW, made_by=release.made_by)
        step(release.state, Action.WITHDRAW)
        if release.state is State.SEALED and not take_back(release.bundle_sha256):
            raise SynthwardError(
                "airlock.state",
                f"{release_id} is being sent already",
                why="bytes of it have left",
                do="ask the coordinator's operator to leave it out of datasets: this version cannot revoke by itself",
            )
        return self._end(policy, release_id, person, Action.WITHDRAW, reason)

    def _end(self, policy: Policy, release_id: str, person: str, action: Action, reason: str) -> Release:
        with self._store.engine.begin() as connection:
            release = self._release(self._row(connection, release_id))
            check_may(policy, person, action, made_by=release.made_by)
            self._step(connection, release_id, action, actor=person, detail=reason)
        return self.release(release_id)

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
