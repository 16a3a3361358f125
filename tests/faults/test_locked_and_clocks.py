"""A database that another program holds, and clocks that are wrong by hours or days, at either side.

Held: a code and no more on the wire, everybody stays up, and all goes on once it is let go. Clocks: what is refused for
good must not hang on one wrong clock; what is refused meanwhile is told by its code, and goes on once it is right.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import structlog
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from sqlalchemy import Engine, event

from coordinator.reading import study_status
from coordinator.service import Announcer
from coordinator.settings import Home as CoordinatorHome
from coordinator.settings import Settings as CoordinatorSettings
from shared import journal as chain
from shared.documents import canonical, sign
from shared.errors import SynthwardError, public_text
from shared.identity import validity
from shared.messages import STUDY_MESSAGE, Answer, read_answer, request
from shared.release import State
from shared.study import Study
from shared.supervise import Child
from shared.wire import synthward_pb2 as pb
from shared.wire import synthward_pb2_grpc as rpc
from site_node.airlock import workflow
from site_node.certificate import read_identity
from site_node.doctor_findings import certificate_found
from site_node.jobs import Queue
from site_node.link.channel import release_channel
from site_node.link.client_app import build_client_app
from site_node.link.enrol import enrol
from site_node.link.service import send
from site_node.settings import Home
from site_node.work.worker import Trainer
from tests.enrolled_site import POLICY, EnrolledSite
from tests.helpers import (
    Coordinator,
    caller,
    manifest_of,
    new_home,
    noise_pair,
    outbox_state,
    png_objects,
    refused,
    running,
    signing_key,
    small_study,
    until,
)
from tests.loopback import Line, LocalCoordinator, LocalSite, code_of, make_both, open_both, study_sha256

pytestmark = pytest.mark.usefixtures("impatient")
RELEASE = "release-1"
HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(database: Path) -> Iterator[None]:
    """Another process has the write lock of a database."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(database)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.stdin.close()


def hurry(*engines: Engine) -> None:
    """Whoever gets no turn gives up after 20 ms instead of 30 s."""
    for engine in engines:
        engine.dispose()
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA busy_timeout=20"))


@dataclass
class Both:
    """Both sides in one process, with a release that ada has opened."""

    coordinator: LocalCoordinator
    site: LocalSite
    study: Study

    def approve(self) -> None:
        sha256 = self.site.airlock.release(RELEASE).bundle_sha256
        self.site.airlock.approve(POLICY, RELEASE, "ada", reviewed_sha256=sha256)

    def link(self) -> bool:
        return self.site.link(Line(self.coordinator, self.site.home))

    def state(self) -> State:
        return self.site.airlock.release(RELEASE).state

    def goes_on(self) -> bool:
        """Whether turns without faults bring the release to its end, once."""
        for _ in range(2):
            self.site.trainer()
            self.link()
        self.site.trainer()
        accepted = [line.subject for line in self.coordinator.store.journal() if line.action == "accept-bundle"]
        sha256 = self.site.airlock.release(RELEASE).bundle_sha256
        chain.verify(self.coordinator.store.journal())
        chain.verify(self.site.queue.journal())
        return self.state() is State.ACCEPTED and accepted == self.coordinator.accepted() == [sha256]

    def drop(self) -> None:
        self.site.drop()
        self.coordinator.drop()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    folder = tmp_path_factory.mktemp("both") / "template"
    study = make_both(folder)
    made = Both(*open_both(folder), study)
    entries, objects = png_objects([noise_pair(seed) for seed in (1, 2)])
    made.site.draft(manifest_of(study, "north", entries, release_id=RELEASE), objects)
    made.site.airlock.review(POLICY, RELEASE, "ada")
    made.site.queue.take_study(canonical(study))
    made.drop()
    return folder, study


@pytest.fixture
def both(template: tuple[Path, Study], tmp_path: Path) -> Iterator[Both]:
    shutil.copytree(template[0], tmp_path / "both")
    made = Both(*open_both(tmp_path / "both"), template[1])
    yield made
    made.drop()


# Held


def test_a_vote_on_a_held_database_is_not_counted_and_is_given_again(both: Both) -> None:
    hurry(both.site.store.engine)
    with held(both.site.home.private / "site.db"):
        assert code_of(both.approve) == "storage.busy"
        assert both.state() is State.IN_REVIEW, "reading goes on"
    both.approve()
    assert both.goes_on()


def test_what_is_withdrawn_cannot_be_sealed_in_the_same_moment(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    both.approve()
    trainer = LocalSite(both.site.home)
    hurry(trainer.store.engine)
    looked = workflow.check_step

    def look_and_let_the_trainer_in(*arguments: Any, **more: Any) -> None:
        looked(*arguments, **more)
        trainer.trainer()

    with monkeypatch.context() as patch:
        patch.setattr(workflow, "check_step", look_and_let_the_trainer_in)
        both.site.airlock.withdraw(POLICY, RELEASE, "ada", "not this one", take_back=both.site.queue.withdraw)
    trainer.drop()
    for _ in range(2):
        both.site.trainer()
        assert both.link()
    assert both.state() is State.WITHDRAWN
    assert both.coordinator.store.bundle(both.site.airlock.release(RELEASE).bundle_sha256) is None


@pytest.mark.parametrize("database", ["private/site.db", "exchange/queue.db"])
def test_the_trainers_turn_is_put_off_and_done_later(both: Both, database: str) -> None:
    both.approve()
    hurry(both.site.store.engine, both.site.queue.engine)
    with held(both.site.home.path / database):
        assert code_of(both.site.trainer) == ("storage.busy" if "queue" in database else "")
        assert both.state() is (State.SEALED if "queue" in database else State.APPROVED)
        assert both.site.queue.offered("waiting") == []
    assert both.goes_on()


def test_a_link_whose_queue_is_held_sends_nothing_and_goes_on(both: Both) -> None:
    both.approve()
    both.site.trainer()
    hurry(both.site.queue.engine)
    with held(both.site.home.exchange / "queue.db"):
        assert code_of(both.link) == "storage.busy"
    assert both.coordinator.store.bundle(both.site.airlock.release(RELEASE).bundle_sha256) is None
    assert both.goes_on()


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_disk_that_is_full_for_a_moment_while_sending_makes_nobody_a_liar(
    both: Both, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """The journal has room again by the time that a refused receipt would be written into it."""
    both.approve()
    both.site.trainer()
    count, calls = both.site.queue.count_egress, iter(range(1, 100))

    def full_once(kind: str, size: int) -> None:
        if next(calls) == call:
            raise SynthwardError("storage.full", "no room")
        count(kind, size)

    with monkeypatch.context() as patch:
        patch.setattr(both.site.queue, "count_egress", full_once)
        assert code_of(both.link) == "storage.full"
    assert both.goes_on()
    assert {"receipt-refused", "checkpoint-refused"}.isdisjoint(e.action for e in both.site.queue.journal())


def test_a_receipt_that_cannot_be_written_down_is_given_again(both: Both) -> None:
    both.approve()
    both.site.trainer()
    hurry(both.site.queue.engine)
    line = Line(both.coordinator, both.site.home)
    finish = both.coordinator.service.Finish

    def finish_and_hold(*arguments: Any) -> pb.FinishReply:
        holding.enter_context(held(both.site.home.exchange / "queue.db"))
        return finish(*arguments)

    with ExitStack() as holding, pytest.MonkeyPatch.context() as patch:
        patch.setattr(both.coordinator.service, "Finish", finish_and_hold)
        assert code_of(lambda: both.site.link(line)) == "storage.busy"
    assert outbox_state(both.site.home, both.site.airlock.release(RELEASE).bundle_sha256) == ("sending", "")
    assert both.goes_on()


def test_a_held_store_is_a_code_on_the_wire_and_the_service_stays_up(coordinator: Coordinator, tmp_path: Path) -> None:
    study = coordinator.publish(small_study())
    north = EnrolledSite.join(coordinator, tmp_path / "north", "north")
    release = north.approved(study)
    north.trainer()
    hurry(coordinator.store.engine)
    payload = canonical(release.manifest)
    begin = pb.BeginRequest(manifest=payload, signature=sign(signing_key(north.home), "manifest", payload))
    with held(coordinator.folder / "store.db"):
        with release_channel(north.home) as channel, pytest.raises(grpc.RpcError) as caught:
            rpc.ReleasesStub(channel).Begin(begin, timeout=20)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.value.details() == public_text("storage.busy")
        assert not north.link()
        assert outbox_state(north.home, release.bundle_sha256) == ("sending", "")
    assert north.link()
    north.trainer()
    assert coordinator.actions("accept-bundle") == [release.bundle_sha256] == coordinator.accepted()


def test_the_links_process_outlives_a_held_queue(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = coordinator.publish(small_study())
    north = EnrolledSite.join(coordinator, tmp_path / "north", "north")
    release = north.approved(study)
    north.trainer()
    monkeypatch.setattr("site_node.link.service._STORAGE_PAUSE_S", 0.01)
    queue, stop = Queue(north.home.exchange), threading.Event()
    hurry(queue.engine)
    link = threading.Thread(target=send, args=(north.home, queue, stop), daemon=True)
    with structlog.testing.capture_logs() as log, held(north.home.exchange / "queue.db"):
        link.start()
        until(lambda: {"event": "not-sent", "code": "storage.busy", "log_level": "error"} in log)
        assert link.is_alive()
    until(lambda: [row.bundle_sha256 for row in queue.offered("accepted")] == [release.bundle_sha256])
    stop.set()
    link.join(timeout=20)
    assert not link.is_alive()


def test_a_job_trains_on_while_the_database_is_held(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[Child] = []

    def job_process(home: Home, job_id: str) -> Child:
        jobs.append(Child(job_id, ["sleep", "600"], home.logs / "job.log"))
        return jobs[0]

    monkeypatch.setattr("site_node.work.worker.job_process", job_process)
    trainer = Trainer(both.site.home, both.site.queue, both.site.store)
    try:
        trainer.turn()
        assert jobs[0].running()
        both.approve()
        hurry(both.site.queue.engine)
        with held(both.site.home.exchange / "queue.db"):
            assert code_of(trainer.turn) == "storage.busy"
            assert jobs[0].running()
        trainer.turn()
        assert both.state() is State.SEALED
        assert both.site.queue.jobs()[0].attempts == 1
    finally:
        trainer.stop()
    assert not jobs[0].running()


def ask(app: Any, payload: bytes, signature: bytes) -> Answer:
    """The site's answer to a study."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    message = Message(request(payload, signature), dst_node_id=7, message_type=STUDY_MESSAGE)
    return read_answer(app(message=message, context=Context(1, 7, {}, RecordDict(), {})).content)


def test_a_held_queue_is_not_a_refusal_of_a_study(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Queue] = []
    monkeypatch.setattr("site_node.link.client_app.Queue", lambda path: made.append(Queue(path)) or made[0])
    app = build_client_app(both.site.home)
    hurry(made[0].engine)
    payload = canonical(small_study(study_id="another"))
    signature = sign(both.coordinator.key, "study", payload)
    with held(both.site.home.exchange / "queue.db"):
        # The executor makes of it an error without a text, which is no answer: the coordinator asks again.
        assert code_of(lambda: ask(app, payload, signature)) == "storage.busy"
    assert ask(app, payload, signature) == Answer("queued")
    made[0].engine.dispose()


# Clocks


def set_clocks(monkeypatch: pytest.MonkeyPatch, side: str, ahead: timedelta) -> None:
    """All modules of one side see another time than the operating system's. side: a package's name."""

    class Skewed(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz) + ahead

    for name, module in list(sys.modules.items()):
        if name.startswith(f"{side}.") and vars(module).get("datetime") is datetime:
            monkeypatch.setattr(module, "datetime", Skewed)


@pytest.mark.parametrize("side", ["site_node", "coordinator", "shared"])
@pytest.mark.parametrize("hours", [-24 * 40, 7])
def test_a_release_goes_its_way_whatever_one_clock_says_within_the_study(
    both: Both, monkeypatch: pytest.MonkeyPatch, side: str, hours: int
) -> None:
    """`shared` writes the journals: they hold also where time goes back between two entries."""
    both.approve()
    both.site.trainer()
    set_clocks(monkeypatch, side, timedelta(hours=hours))
    assert both.goes_on()


def test_a_bundle_is_not_lost_to_a_coordinators_wrong_clock(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    both.approve()
    both.site.trainer()
    line = Line(both.coordinator, both.site.home)
    with monkeypatch.context() as wrong:
        set_clocks(wrong, "coordinator", timedelta(days=3))  # past the study's end
        assert not both.site.link(line)
    assert line.codes == {"policy.expired"}
    assert outbox_state(both.site.home, both.site.airlock.release(RELEASE).bundle_sha256) == ("sending", "")
    assert both.goes_on()


def test_a_site_that_is_back_after_the_study_has_closed_is_told_so_for_good(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    both.approve()
    both.site.trainer()
    for side in ("coordinator", "site_node"):
        set_clocks(monkeypatch, side, timedelta(days=3))
    assert both.link()
    both.site.trainer()
    assert both.state() is State.REJECTED
    sha256 = both.site.airlock.release(RELEASE).bundle_sha256
    assert outbox_state(both.site.home, sha256) == ("refused", "policy.expired")
    assert both.coordinator.store.bundle(sha256) is None
    assert both.link(), "and is not sent again"


def test_a_study_closes_without_a_site_that_is_away_and_says_so(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    store, announcer = both.coordinator.store, Announcer(both.coordinator.store)
    home = CoordinatorHome(both.coordinator.folder)
    home.create(CoordinatorSettings(name="trial"))
    before = study_status(home, both.study.study_id)
    assert not before["closed"]
    assert [site["answer"] for site in before["sites"]] == ["waiting"]
    (delivery,) = announcer.due(0.0)
    set_clocks(monkeypatch, "coordinator", timedelta(days=3))
    after = study_status(home, both.study.study_id)
    assert after["closed"]
    assert [(site["site"], site["answer"]) for site in after["sites"]] == [("north", "missed")]
    assert announcer.due(60.0) == [], "nobody is asked to begin what is over"
    announcer.record(delivery, Answer("queued"), 60.0)  # an answer that was on its way
    assert [site["answer"] for site in study_status(home, both.study.study_id)["sites"]] == ["queued"]
    assert store.deliveries(study_sha256(both.study)) == {"north": ("queued", "")}


def test_a_site_whose_clock_is_days_ahead_is_asked_again_and_takes_the_study_once_it_is_right(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = both.coordinator.store
    (published,) = store.studies()
    app, announcer = build_client_app(both.site.home), Announcer(store)
    with monkeypatch.context() as wrong:
        set_clocks(wrong, "site_node", timedelta(days=3))
        (delivery,) = announcer.due(0.0)
        answer = ask(app, published.payload, published.signature)
        assert answer == Answer("refused", "policy.expired")
        announcer.record(delivery, answer, 0.0)
    assert store.deliveries(published.sha256) == {"north": ("refused", "policy.expired")}
    assert announcer.due(1.0) == []
    (delivery,) = announcer.due(60.0)
    announcer.record(delivery, ask(app, published.payload, published.signature), 60.0)
    assert store.deliveries(published.sha256) == {"north": ("queued", "")}


@pytest.mark.parametrize(("ahead", "code"), [(2, "trust.invitation-expired"), (-48, "")])
def test_an_invitation_holds_by_the_coordinators_clock(
    coordinator: Coordinator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ahead: int, code: str
) -> None:
    invitation, home = coordinator.invite("north", valid_for=timedelta(hours=1)), new_home(tmp_path / "north")
    with monkeypatch.context() as wrong:
        set_clocks(wrong, "coordinator", timedelta(hours=ahead))
        assert code_of(lambda: enrol(home, invitation)) == code
    if code:  # nothing of the attempt is left, so the same invitation works once the clock is right
        assert list(home.link_keys.iterdir()) == []
        enrol(home, invitation)
    assert coordinator.actions("enrol") == ["north"]


def test_a_certificate_from_the_future_is_refused_waits_and_is_named_by_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator's clock was ahead while it issued: TLS takes no certificate before its first day."""
    coordinator = Coordinator(tmp_path / "coordinator")
    with running(coordinator):
        study = coordinator.publish(small_study())
        with monkeypatch.context() as wrong:
            set_clocks(wrong, "shared", timedelta(days=3))
            north = EnrolledSite.join(coordinator, tmp_path / "north", "north")
        release = north.approved(study)
        north.trainer()
        assert not north.link()
        assert outbox_state(north.home, release.bundle_sha256) == ("sending", "")
        held_now = validity(read_identity(north.home).certificate)
        found = certificate_found(held_now, datetime.now(UTC))
        assert found.state == "failed"
        assert "starts only at" in found.text
        assert "clock" in found.do
        assert certificate_found(held_now, datetime.now(UTC) + timedelta(days=3)).state == "ok"
        with caller(north.home) as call, refused("unavailable.service"):
            call.begin_sealed(north.home, release.manifest)
    assert coordinator.accepted() == []
