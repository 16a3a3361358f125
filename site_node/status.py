"""What a site holds, does and has sent: for its administrator, on this machine only."""

from __future__ import annotations

import json
import time
from typing import Any

from shared import journal
from shared.errors import SynthwardError
from shared.release import State
from site_node.airlock.workflow import Airlock, check_objects
from site_node.cases import PrivateStore
from site_node.cases import journal as private_journal
from site_node.cases import ledger as ledger_tables
from site_node.certificate import read_identity
from site_node.checkpoints import Checkpoints
from site_node.dp.ledger import check_whole
from site_node.jobs import Job, JobKind, JobState, Queue
from site_node.policy import read_policy
from site_node.revocations import Revocations
from site_node.rollback import check_rollbacks
from site_node.settings import Home
from site_node.standing import read_standing
from site_node.work.told import LAST_ERROR_FILE, read_progress, read_wall

_POLL_S = 0.5


def read_status(home: Home) -> dict[str, Any]:
    """Counts, releases, jobs and egress of a site."""
    queue, store = Queue(home.exchange), PrivateStore(home.private)
    membership = home.membership()
    try:
        cases = store.cases()
        split = store.split(cases, read_policy(home.policy_file).holdout_fraction)
        cohort = {
            "cases": len(cases),
            "patients": len(split.training) + len(split.holdout),
            "training_patients": len(split.training),
            "holdout_patients": len(split.holdout),
            "texts": store.text_counts(),
        }
    except SynthwardError as error:
        if error.code != "cohort.not-imported":
            raise
        cohort = {"cases": 0, "patients": 0, "training_patients": 0, "holdout_patients": 0, "texts": {}}
    jobs = queue.jobs()
    return {
        "site": membership.site,
        "coordinator": read_standing(queue).plain(),
        "certificate_ends": _certificate_end(home),
        **cohort,
        "studies": [study.study_id for _, study in queue.studies()],
        "jobs": [
            {"job": job.job_id, "kind": job.kind.value, "state": job.state.value, "code": job.code} for job in jobs
        ],
        "progress": read_progress(home, {job.job_id for job in jobs if job.state is JobState.RUNNING}),
        "trainer_network_closed_by": read_wall(home),
        "releases": [
            {
                "release": release.release_id,
                "state": release.state.value,
                "digest": release.bundle_sha256,
                "pairs": len(release.manifest.pairs),
                "privacy_mode": release.manifest.privacy.mode,
                "report": release.report,
            }
            for release in Airlock(store).releases()
        ],
        "outbox": [
            {"digest": row.bundle_sha256, "state": row.state, "code": row.code}
            for row in queue.offered("waiting", "sending", "accepted", "refused", "withdrawn", "revoked")
        ],
        "revocations": [
            {"digest": row.bundle_sha256, "confirmed": row.receipt is not None, "code": row.code}
            for row in Revocations(queue).all()
        ],
        "egress": queue.egress(),
    }


def _certificate_end(home: Home) -> str:
    """When the site's certificate ends, ISO 8601; empty where this user cannot read it, or before enrolment."""
    try:
        return read_identity(home).validity.end.isoformat()
    except (SynthwardError, PermissionError):
        return ""


def wait_for_release(home: Home, state: str, *, timeout_s: float) -> None:
    """Returns when a release has the state. Raises what its job ended with, or unavailable.timeout."""
    try:
        wanted = State(state)
    except ValueError as error:
        known = ", ".join(State)
        raise SynthwardError("settings.invalid", f"no release is ever {state!r}", do=f"one of: {known}") from error
    queue, airlock = Queue(home.exchange), Airlock(PrivateStore(home.private))
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if any(release.state is wanted for release in airlock.releases()):
            return
        for job in queue.jobs():
            if job.kind is JobKind.RELEASE and job.state in (JobState.REFUSED, JobState.FAILED):
                raise _told(home, job)
        time.sleep(_POLL_S)
    raise SynthwardError("unavailable.timeout", f"no release was {state} after {timeout_s:.0f} s", do="see: status")


def _told(home: Home, job: Job) -> SynthwardError:
    """The error that ended a job, with the words that only this machine may read, where they are still there."""
    path = home.private / LAST_ERROR_FILE
    told = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if told.get("job") != job.job_id:
        return SynthwardError(job.code or "internal", f"{job.job_id} {job.state.value}", do="read logs/job.log")
    return SynthwardError(told["code"], told["what"], why=told["why"], do=told["do"])


def verify_site(home: Home) -> dict[str, Any]:
    """Checks the journals and the releases' objects.

    Raises trust.journal, trust.rollback (a journal here or at the coordinator was cut or replaced), trust.ledger (the
    ledger is not what the journal counted) or airlock.changed.
    """
    queue, store = Queue(home.exchange), PrivateStore(home.private)
    with store.reading.begin() as connection:
        private_chain = journal.entries(connection, private_journal)
        counted = check_whole(connection, ledger_tables)
    heads = journal.verify(private_chain), journal.verify(queue.journal())
    check_rollbacks(queue, store)
    checked = 0
    for release in Airlock(store).releases():
        check_objects(release)
        checked += 1
    return {
        "journal": heads[0],
        "journal_entries": len(private_chain),
        "ledger_facts": counted,
        "link_journal": heads[1],
        "coordinator_journal_entries": Checkpoints(queue).held("coordinator").entries,
        "releases_checked": checked,
    }
