"""The queue between the site's two halves: durable, in one SQLite file, and the only thing they share besides folders.

The link puts in studies and measurements and reads results; the trainer takes jobs and writes results. A job that was
running when its process died is taken up again. Nothing here names a file, a patient or a pixel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from shared import journal
from shared.database import open_database, reading, sqlite_url
from shared.documents import parse
from shared.errors import SynthwardError
from shared.pairs import sha256_hex
from shared.study import Study
from shared.upgrade import make_tables
from site_node import queue_schema as tables

MAX_ATTEMPTS = 3


class JobKind(StrEnum):
    """What the trainer can be asked to do."""

    RELEASE = "release"
    MEASURE = "measure"
    COMPARE = "compare"
    DISTANCE = "distance"


class JobState(StrEnum):
    """Where a job is. `refused` is final: policy, data or the study forbid it; `failed` is ours."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Job:
    """One job. payload and result are JSON objects."""

    job_id: str
    kind: JobKind
    study_sha256: str
    payload: dict[str, Any]
    state: JobState
    attempts: int
    code: str
    result: dict[str, Any]


class Queue:
    """The queue in exchange/queue.db."""

    def __init__(self, exchange: Path) -> None:
        self.engine = open_database(sqlite_url(exchange / "queue.db"))
        make_tables(self.engine, tables.metadata)
        self.reading = reading(self.engine)  # for transactions that change nothing

    def _journal(self, connection: Connection, actor: str, action: str, subject: str, detail: str = "") -> None:
        journal.append(connection, tables.journal, actor=actor, action=action, subject=subject, detail=detail)

    def record(self, actor: str, action: str, subject: str, detail: str = "") -> None:
        """An entry in the link's journal."""
        with self.engine.begin() as connection:
            self._journal(connection, actor, action, subject, detail)

    def journal(self) -> list[journal.Entry]:
        """The link's journal."""
        with self.reading.begin() as connection:
            return journal.entries(connection, tables.journal)

    # Studies

    def take_study(self, payload: bytes) -> str:
        """Stores a study that was checked, and queues its release job; the study's SHA-256. Twice is once."""
        sha256 = sha256_hex(payload)
        study = parse(Study, payload)
        with self.engine.begin() as connection:
            known = connection.execute(
                select(tables.studies).where(tables.studies.c.study_id == study.study_id)
            ).first()
            if known is not None and known.sha256 != sha256:
                raise SynthwardError("study.exists", f"another study is called {study.study_id} here")
            if known is None:
                connection.execute(
                    tables.studies.insert().values(sha256=sha256, study_id=study.study_id, payload=payload, at=_now())
                )
                self._add_job(connection, _release_job_id(sha256), JobKind.RELEASE, sha256, {})
                self._journal(connection, "coordinator", "study-taken", study.study_id)
        return sha256

    def studies(self) -> list[tuple[str, Study]]:
        """(SHA-256, study) of all that were taken, oldest first."""
        with self.reading.begin() as connection:
            rows = connection.execute(select(tables.studies).order_by(tables.studies.c.at)).all()
        return [(row.sha256, parse(Study, bytes(row.payload))) for row in rows]

    def study(self, sha256: str) -> Study:
        """A study that was taken. Raises study.unknown."""
        with self.reading.begin() as connection:
            row = connection.execute(select(tables.studies).where(tables.studies.c.sha256 == sha256)).first()
        if row is None:
            raise SynthwardError("study.unknown", "this site has taken no such study")
        return parse(Study, bytes(row.payload))

    # Jobs

    def add_order(self, job_id: str, kind: JobKind, study_sha256: str, payload: Mapping[str, Any]) -> None:
        """Queues an order for figures; the same job twice is once."""
        with self.engine.begin() as connection:
            if connection.execute(select(tables.jobs).where(tables.jobs.c.job_id == job_id)).first() is None:
                self._add_job(connection, job_id, kind, study_sha256, payload)
                self._journal(connection, "coordinator", f"{kind.value}-taken", job_id)

    def _add_job(
        self, connection: Connection, job_id: str, kind: JobKind, study_sha256: str, payload: Mapping[str, Any]
    ) -> None:
        connection.execute(
            tables.jobs.insert().values(
                job_id=job_id, kind=kind.value, study_sha256=study_sha256, payload=json.dumps(dict(payload)),
                state=JobState.QUEUED.value, attempts=0, code="", result="{}", at=_now(),
            )
        )  # fmt: skip

    def job(self, job_id: str) -> Job | None:
        """A job, if there is one."""
        with self.reading.begin() as connection:
            row = connection.execute(select(tables.jobs).where(tables.jobs.c.job_id == job_id)).first()
        return None if row is None else _job(row)

    def release_job(self, study_sha256: str) -> Job | None:
        """The job that makes a study's release, if the study was taken."""
        return self.job(_release_job_id(study_sha256))

    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        with self.reading.begin() as connection:
            return [_job(row) for row in connection.execute(select(tables.jobs).order_by(tables.jobs.c.at)).all()]

    def claim(self) -> Job | None:
        """Takes the oldest queued job, and counts the attempt before anything else happens."""
        with self.engine.begin() as connection:
            row = connection.execute(
                select(tables.jobs)
                .where(tables.jobs.c.state == JobState.QUEUED.value)
                .order_by(tables.jobs.c.at)
                .limit(1)
            ).first()
            if row is None:
                return None
            connection.execute(
                tables.jobs.update()
                .where(tables.jobs.c.job_id == row.job_id)
                .values(state=JobState.RUNNING.value, attempts=row.attempts + 1)
            )
        return self.job(row.job_id)

    def retry(self, job_id: str, *, actor: str) -> None:
        """Queues a job that failed once more, with all its attempts. Raises job.unknown or job.state."""
        with self.engine.begin() as connection:
            row = connection.execute(select(tables.jobs).where(tables.jobs.c.job_id == job_id)).first()
            if row is None:
                raise SynthwardError("job.unknown", f"no job is called {job_id}", do="see: synthward-site status")
            if row.state != JobState.FAILED.value:
                raise SynthwardError(
                    "job.state",
                    f"{job_id} is {row.state}",
                    why="only what failed here is tried again; what the policy refused would be refused again",
                    do="wait for it, or change the policy and have the study published anew",
                )
            values = {"state": JobState.QUEUED.value, "attempts": 0, "code": ""}
            connection.execute(tables.jobs.update().where(tables.jobs.c.job_id == job_id).values(**values))
            self._journal(connection, actor, "job-retried", job_id)

    def requeue_running(self) -> int:
        """Takes up what a dead trainer left running; gives up on a job that died MAX_ATTEMPTS times. How many."""
        with self.engine.begin() as connection:
            rows = connection.execute(select(tables.jobs).where(tables.jobs.c.state == JobState.RUNNING.value)).all()
            for row in rows:
                given_up = row.attempts >= MAX_ATTEMPTS
                values = (
                    {"state": JobState.FAILED.value, "code": "internal"}
                    if given_up
                    else {"state": JobState.QUEUED.value}
                )
                connection.execute(tables.jobs.update().where(tables.jobs.c.job_id == row.job_id).values(**values))
                self._journal(connection, "trainer", "job-failed" if given_up else "job-again", row.job_id)
        return len(rows)

    def end(self, job_id: str, state: JobState, *, code: str = "", result: Mapping[str, Any] | None = None) -> None:
        """Writes a job's end and its result."""
        with self.engine.begin() as connection:
            connection.execute(
                tables.jobs.update()
                .where(tables.jobs.c.job_id == job_id)
                .values(state=state.value, code=code, result=json.dumps(dict(result or {})))
            )
            self._journal(connection, "trainer", f"job-{state.value}", job_id, code)

    # The outbox

    def offer(self, bundle_sha256: str) -> None:
        """Tells the link that a sealed bundle lies in the outbox; offering twice is offering once."""
        with self.engine.begin() as connection:
            known = connection.execute(
                select(tables.outbox).where(tables.outbox.c.bundle_sha256 == bundle_sha256)
            ).first()
            if known is None:
                connection.execute(
                    tables.outbox.insert().values(bundle_sha256=bundle_sha256, state="waiting", code="", at=_now())
                )

    def start_sending(self, bundle_sha256: str) -> bool:
        """Marks a bundle as on its way, before its first byte; False when it was withdrawn meanwhile."""
        with self.engine.begin() as connection:
            done = connection.execute(
                tables.outbox.update()
                .where(
                    tables.outbox.c.bundle_sha256 == bundle_sha256, tables.outbox.c.state.in_(("waiting", "sending"))
                )
                .values(state="sending")
            )
            return done.rowcount == 1

    def withdraw(self, bundle_sha256: str) -> bool:
        """Takes a bundle back before its first byte has left; False when it is too late. Safe to repeat.

        The row stays, as withdrawn, so that offering the bundle once more is still nothing; a bundle that was not
        offered yet (a kill between sealing and offering) gets one.
        """
        with self.engine.begin() as connection:
            row = connection.execute(
                select(tables.outbox).where(tables.outbox.c.bundle_sha256 == bundle_sha256)
            ).first()
            if row is None:
                connection.execute(
                    tables.outbox.insert().values(bundle_sha256=bundle_sha256, state="withdrawn", code="", at=_now())
                )
                return True
            done = connection.execute(
                tables.outbox.update()
                .where(
                    tables.outbox.c.bundle_sha256 == bundle_sha256, tables.outbox.c.state.in_(("waiting", "withdrawn"))
                )
                .values(state="withdrawn")
            )
            return done.rowcount == 1

    def offered(self, *states: str) -> list[Row[Any]]:
        """The outbox's rows in these states (waiting, sending, accepted, refused, withdrawn, revoked), oldest first."""
        with self.reading.begin() as connection:
            query = select(tables.outbox).where(tables.outbox.c.state.in_(states)).order_by(tables.outbox.c.at)
            return list(connection.execute(query).all())

    def settle(self, bundle_sha256: str, state: str, *, code: str, receipt: bytes, signature: bytes) -> None:
        """Records the coordinator's answer to a bundle: accepted with its receipt, or refused with its code.

        One that was taken back while the answer was on its way stays taken back.
        """
        table = tables.outbox
        with self.engine.begin() as connection:
            on_its_way = table.update().where(
                table.c.bundle_sha256 == bundle_sha256, table.c.state.in_(("waiting", "sending"))
            )
            connection.execute(on_its_way.values(state=state, code=code, receipt=receipt, signature=signature))
            self._journal(connection, "coordinator", f"bundle-{state}", bundle_sha256, code)

    # What left

    def count_egress(self, kind: str, size: int) -> None:
        """Adds bytes that left the site to the count of their kind."""
        with self.engine.begin() as connection:
            row = connection.execute(select(tables.egress).where(tables.egress.c.kind == kind)).first()
            if row is None:
                connection.execute(tables.egress.insert().values(kind=kind, bytes=size, messages=1))
            else:
                connection.execute(
                    tables.egress.update()
                    .where(tables.egress.c.kind == kind)
                    .values(bytes=row.bytes + size, messages=row.messages + 1)
                )

    def egress(self) -> dict[str, int]:
        """Kind -> bytes of everything that the link sent, without the transport's own framing."""
        with self.reading.begin() as connection:
            return {
                row.kind: row.bytes for row in connection.execute(select(tables.egress).order_by(tables.egress.c.kind))
            }


def _release_job_id(study_sha256: str) -> str:
    return f"release-{study_sha256[:16]}"


def _job(row: Row[Any]) -> Job:
    return Job(
        row.job_id, JobKind(row.kind), row.study_sha256, json.loads(row.payload), JobState(row.state), row.attempts,
        row.code, json.loads(row.result),
    )  # fmt: skip


def _now() -> str:
    return datetime.now(UTC).isoformat()
