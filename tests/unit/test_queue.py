"""The queue between a site's two halves: durable, once, and taken up again after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared import journal
from shared.documents import canonical
from shared.pairs import sha256_hex
from site_node.jobs import MAX_ATTEMPTS, Job, JobKind, JobState, Queue
from tests.helpers import refused, small_study

STUDY = canonical(small_study())
SHA256 = sha256_hex(STUDY)
BUNDLE = "b" * 64


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


def claimed(queue: Queue) -> Job:
    """The next job, which must be there."""
    job = queue.claim()
    assert job is not None
    return job


def test_what_was_taken_is_there_after_a_restart(queue: Queue, tmp_path: Path) -> None:
    queue.take_study(STUDY)
    queue.add_order("measure-1", JobKind.MEASURE, SHA256, {"arm": "real_own"})
    queue.offer(BUNDLE)
    queue.count_egress("bundle", 10)
    again = Queue(tmp_path)
    assert canonical(again.study(SHA256)) == STUDY
    assert [(job.kind, job.state) for job in again.jobs()] == [
        (JobKind.RELEASE, JobState.QUEUED), (JobKind.MEASURE, JobState.QUEUED),
    ]  # fmt: skip
    assert again.jobs()[1].payload == {"arm": "real_own"}
    assert [row.bundle_sha256 for row in again.offered("waiting")] == [BUNDLE]
    assert again.egress() == {"bundle": 10}


def test_a_study_that_comes_twice_is_one_job(queue: Queue, tmp_path: Path) -> None:
    assert queue.take_study(STUDY) == queue.take_study(STUDY) == Queue(tmp_path).take_study(STUDY) == SHA256
    assert len(queue.jobs()) == 1
    assert [entry.action for entry in queue.journal()] == ["study-taken"]


def test_a_study_that_comes_again_after_its_job_ended_is_not_trained_again(queue: Queue) -> None:
    queue.take_study(STUDY)
    queue.end(claimed(queue).job_id, JobState.DONE, result={"release": "release-1"})
    queue.take_study(STUDY)
    assert queue.claim() is None
    assert [job.state for job in queue.jobs()] == [JobState.DONE]


def test_another_study_under_a_known_name_is_refused(queue: Queue) -> None:
    queue.take_study(STUDY)
    with refused("study.exists"):
        queue.take_study(canonical(small_study(title="another")))
    assert len(queue.studies()) == 1


def test_an_unknown_study_has_its_code(queue: Queue) -> None:
    with refused("study.unknown"):
        queue.study("0" * 64)


def test_a_measurement_that_comes_twice_is_one_job(queue: Queue) -> None:
    queue.add_order("measure-1", JobKind.MEASURE, SHA256, {"arm": "real_own"})
    queue.add_order("measure-1", JobKind.MEASURE, SHA256, {"arm": "synthetic_own"})
    assert [job.payload for job in queue.jobs()] == [{"arm": "real_own"}]


def test_a_job_is_given_to_one_worker(queue: Queue, tmp_path: Path) -> None:
    queue.take_study(STUDY)
    assert claimed(queue).state is JobState.RUNNING
    assert Queue(tmp_path).claim() is None


def test_the_oldest_job_comes_first(queue: Queue) -> None:
    for number in range(3):
        queue.add_order(f"measure-{number}", JobKind.MEASURE, SHA256, {})
    assert [claimed(queue).job_id for _ in range(3)] == ["measure-0", "measure-1", "measure-2"]


def test_a_job_of_a_killed_worker_is_taken_up_again_and_given_up_after_three_attempts(tmp_path: Path) -> None:
    Queue(tmp_path).take_study(STUDY)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        queue = Queue(tmp_path)  # the worker's process is a new one each time
        queue.requeue_running()
        job = claimed(queue)
        assert job.attempts == attempt
    last = Queue(tmp_path)
    assert last.requeue_running() == 1
    assert last.claim() is None
    assert [(job.state, job.code) for job in last.jobs()] == [(JobState.FAILED, "internal")]
    assert [entry.action for entry in last.journal()] == ["study-taken", "job-again", "job-again", "job-failed"]
    assert last.requeue_running() == 0


def test_a_restart_leaves_jobs_that_ended_or_wait_alone(queue: Queue) -> None:
    ends = (JobState.DONE, JobState.REFUSED, JobState.FAILED)
    for state in ends:
        queue.add_order(f"measure-{state.value}", JobKind.MEASURE, SHA256, {})
        queue.end(claimed(queue).job_id, state, code="" if state is JobState.DONE else "policy.steps")
    queue.add_order("measure-waiting", JobKind.MEASURE, SHA256, {})
    assert queue.requeue_running() == 0
    assert [job.state for job in queue.jobs()] == [*ends, JobState.QUEUED]


def test_a_job_that_failed_is_taken_up_again_when_somebody_asks_for_it(queue: Queue, tmp_path: Path) -> None:
    queue.take_study(STUDY)
    job = claimed(queue)
    queue.end(job.job_id, JobState.FAILED, code="storage.full")
    assert queue.claim() is None
    queue.retry(job.job_id, actor="administrator")
    again = claimed(Queue(tmp_path))
    assert (again.job_id, again.attempts, again.code) == (job.job_id, 1, "")
    assert queue.journal()[-1].action == "job-retried"


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING, JobState.DONE, JobState.REFUSED])
def test_only_what_failed_here_is_tried_again(queue: Queue, state: JobState) -> None:
    queue.take_study(STUDY)
    (job,) = queue.jobs()
    if state is not JobState.QUEUED:
        claimed(queue)
    if state in (JobState.DONE, JobState.REFUSED):
        queue.end(job.job_id, state)
    with refused("job.state"):
        queue.retry(job.job_id, actor="administrator")
    with refused("job.unknown"):
        queue.retry("release-of-another", actor="administrator")
    assert [one.state for one in queue.jobs()] == [state]


def test_a_result_is_kept_with_its_job(queue: Queue, tmp_path: Path) -> None:
    queue.add_order("measure-1", JobKind.MEASURE, SHA256, {})
    queue.end(claimed(queue).job_id, JobState.DONE, result={"patients": 7})
    job = Queue(tmp_path).job("measure-1")
    assert job is not None
    assert (job.state, job.result) == (JobState.DONE, {"patients": 7})


# The outbox


def test_a_bundle_that_is_offered_twice_is_sent_once(queue: Queue) -> None:
    queue.offer(BUNDLE)
    queue.offer(BUNDLE)
    assert len(queue.offered("waiting")) == 1
    assert queue.start_sending(BUNDLE)
    queue.offer(BUNDLE)
    assert queue.offered("waiting") == []


def test_a_bundle_on_its_way_is_taken_up_again_after_a_kill(queue: Queue, tmp_path: Path) -> None:
    queue.offer(BUNDLE)
    queue.start_sending(BUNDLE)
    assert Queue(tmp_path).start_sending(BUNDLE)


@pytest.mark.parametrize("state", ["accepted", "refused"])
def test_a_settled_bundle_is_never_sent_or_offered_again(queue: Queue, state: str) -> None:
    queue.offer(BUNDLE)
    queue.start_sending(BUNDLE)
    queue.settle(BUNDLE, state, code="", receipt=b"r", signature=b"s")
    queue.offer(BUNDLE)
    assert not queue.start_sending(BUNDLE)
    assert not queue.withdraw(BUNDLE)
    assert [row.state for row in queue.offered("waiting", "sending", "accepted", "refused")] == [state]


def test_a_withdrawn_bundle_is_never_offered_again(queue: Queue, tmp_path: Path) -> None:
    queue.offer(BUNDLE)
    assert queue.withdraw(BUNDLE)
    assert queue.withdraw(BUNDLE)  # a steward's command that is repeated after a kill
    again = Queue(tmp_path)
    again.offer(BUNDLE)
    assert not again.start_sending(BUNDLE)
    assert again.offered("waiting", "sending") == []


def test_a_bundle_that_is_withdrawn_before_it_was_offered_never_leaves(queue: Queue) -> None:
    assert queue.withdraw(BUNDLE)
    queue.offer(BUNDLE)
    assert not queue.start_sending(BUNDLE)


def test_a_withdrawal_after_the_first_byte_is_too_late(queue: Queue) -> None:
    queue.offer(BUNDLE)
    assert queue.start_sending(BUNDLE)
    assert not queue.withdraw(BUNDLE)
    assert queue.start_sending(BUNDLE)


def test_what_left_is_added_up_by_kind(queue: Queue, tmp_path: Path) -> None:
    for kind, size in (("bundle", 10), ("metrics", 3), ("bundle", 5)):
        queue.count_egress(kind, size)
    assert Queue(tmp_path).egress() == {"bundle": 15, "metrics": 3}


def test_the_links_journal_holds(queue: Queue) -> None:
    queue.take_study(STUDY)
    queue.record("link", "receipt-refused", BUNDLE, "trust.signature")
    queue.end(claimed(queue).job_id, JobState.REFUSED, code="policy.steps")
    entries = queue.journal()
    assert [entry.action for entry in entries] == ["study-taken", "receipt-refused", "job-refused"]
    assert journal.verify(entries) == entries[-1].sha256
