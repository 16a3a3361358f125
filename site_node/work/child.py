"""The trainer's job process: takes one job from start to end, and is gone. It opens no network connection.

A process of its own, so that a job's memory is given back, and a job that is killed takes nothing else with it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import structlog
import torch

from shared.errors import ExitCode, SynthwardError
from shared.files import write_atomic
from shared.logs import configure
from shared.orders import ComparisonRequest, DistributionRequest, MeasurementRequest
from shared.settings_files import named
from site_node.cases import PrivateStore
from site_node.jobs import Job, JobKind, JobState, Queue
from site_node.policy import check, read_policy
from site_node.settings import Home
from site_node.work.compare_job import compare_arms
from site_node.work.distance_job import measure_distances
from site_node.work.measure_job import measure
from site_node.work.no_network import close_network
from site_node.work.release_job import make_release
from site_node.work.time_left import TrainingProgress
from site_node.work.told import LAST_ERROR_FILE, write_progress

_log = structlog.get_logger("site.trainer")


def run_job(home: Home, job: Job) -> dict[str, Any]:
    """Does the job; its result, which the link can read. Raises what the job raises."""
    store = PrivateStore(home.private)
    study = Queue(home.exchange).study(job.study_sha256)
    policy = read_policy(home.policy_file)
    check(policy, study)  # again: the policy may have changed since the study was taken

    def progress(stage: str, done: int, of: int, training: TrainingProgress | None = None) -> None:
        write_progress(home, job.job_id, stage, done, of, training)

    if job.kind is JobKind.RELEASE:
        make_release(
            store, site=home.membership().site, study=study, study_sha256=job.study_sha256, policy=policy,
            settings=home.settings(), progress=progress,
        )  # fmt: skip
        return {}
    settings = home.settings()
    if job.kind is JobKind.COMPARE:
        return compare_arms(store, study=study, order=ComparisonRequest.model_validate(job.payload), policy=policy)
    if job.kind is JobKind.DISTANCE:
        return measure_distances(
            store, study=study, order=DistributionRequest.model_validate(job.payload), inbox=home.inbox, policy=policy,
            weights=named(settings.screening_weights),
        )  # fmt: skip
    return measure(
        store, study=study, order=MeasurementRequest.model_validate(job.payload), inbox=home.inbox, policy=policy,
        progress=progress, weights=named(settings.encoder_weights),
    )  # fmt: skip


def main(folder: str, job_id: str) -> int:
    """Runs one job and writes its end. Exit code 0 when the end is written, whatever it is."""
    home = Home(Path(folder))
    queue = Queue(home.exchange)
    job = queue.job(job_id)
    if job is None:
        return ExitCode.USAGE
    threads = home.settings().threads
    if threads:
        torch.set_num_threads(threads)
    start = time.monotonic()
    try:
        queue.end(job_id, JobState.DONE, result=run_job(home, job))
    except SynthwardError as error:
        # A machine that lacks something has failed; a study that asks for what it may not have is refused.
        ours = error.exit_code in (ExitCode.INTERNAL, ExitCode.UNAVAILABLE, ExitCode.STORAGE)
        state = JobState.FAILED if ours else JobState.REFUSED
        _log.warning("job-ended", job=job_id, code=error.code, state=state.value)
        told = {"job": job_id, "code": error.code, "what": error.what, "why": error.why, "do": error.do}
        write_atomic(home.private / LAST_ERROR_FILE, json.dumps(told).encode(), mode=0o600)
        queue.end(job_id, state, code=error.code)
    _log.info("job-ended", job=job_id, seconds=round(time.monotonic() - start, 2))
    return ExitCode.OK


if __name__ == "__main__":
    configure()
    _log.info("network", state=close_network(Home(Path(sys.argv[1])).settings().ray_address).value)
    sys.exit(main(sys.argv[1], sys.argv[2]))
