"""Processes that die: a killed job goes on where it stopped, and nothing survives its supervisor."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from shared.errors import ExitCode
from shared.identity import new_signing_key
from shared.release import State
from site_node.airlock.workflow import Airlock
from site_node.cases import PrivateStore
from site_node.importing import import_folder
from site_node.jobs import JobState, Queue
from site_node.phantoms.scenes import write_site
from tests.helpers import until
from tests.sites import LENIENT, make_site, make_study, signed


def job_processes(folder: Path) -> list[psutil.Process]:
    """The trainer's job processes of a site."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if "site_node.work.child" in line and str(folder) in line:
                found.append(process)
    return found


def test_a_killed_job_goes_on_where_it_stopped(tmp_path: Path) -> None:
    key = new_signing_key()
    home = make_site(tmp_path / "north", key, policy=LENIENT.model_copy(update={"generators": ("per_case",)}))
    write_site(tmp_path / "data", "endoscopy_warm", patients=5, cases_per_patient=1, size_px=32, seed=1)
    import_folder(home, tmp_path / "data", skip_unusable=False)
    study = make_study(image={"size_px": 32}, generator={"kind": "per_case", "preset": "demo", "samples_per_case": 1})
    sha256 = Queue(home.exchange).take_study(signed(key, study)[0])
    generators = home.private / "generators" / sha256[:16]

    def finished() -> list[Path]:
        return [path for path in generators.glob("*.safetensors") if ".checkpoint." not in path.name]

    worker = subprocess.Popen([sys.executable, "-m", "site_node.work.worker", str(home.path)])
    try:
        until(lambda: generators.exists() and finished())
        before = {path.name: path.read_bytes() for path in finished()}
        for process in job_processes(home.path):
            process.kill()
        queue = Queue(home.exchange)
        until(lambda: queue.jobs()[0].state is JobState.DONE)
        assert queue.jobs()[0].attempts == 2
    finally:
        worker.terminate()
        worker.wait(timeout=20)
    for name, weights in before.items():
        assert (generators / name).read_bytes() == weights, "a finished generator is not trained again"
    assert [release.state for release in Airlock(PrivateStore(home.private)).releases()] == [State.SCREENED]
    assert job_processes(home.path) == []


SUPERVISE = """
import sys
from pathlib import Path
from shared.supervise import Child, Supervisor
folder, follows = Path(sys.argv[1]), sys.argv[2:]
sleeper = [sys.executable, "-c", "import time; time.sleep(600)", str(folder)]
names = ["node", "link"]
Supervisor(
    [Child(name, [*sleeper, name], folder / "log", follows="link" if name in follows else "") for name in names]
).run()
"""


def children(folder: Path) -> list[psutil.Process]:
    """The sleepers of a supervisor under test."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            line = process.cmdline()
            if str(folder) in line and "import time; time.sleep(600)" in line:
                found.append(process)
    return found


def test_kill_9_of_a_supervisor_leaves_no_child(tmp_path: Path) -> None:
    supervisor = subprocess.Popen([sys.executable, "-c", SUPERVISE, str(tmp_path)])
    until(lambda: len(children(tmp_path)) == 2)
    supervisor.kill()
    supervisor.wait()
    until(lambda: children(tmp_path) == [])


def test_a_child_that_dies_is_started_again_and_stopped_at_the_end(tmp_path: Path) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: len(children(tmp_path)) == 2)
    first = {process.pid for process in children(tmp_path)}
    next(iter(children(tmp_path))).kill()
    until(lambda: len({process.pid for process in children(tmp_path)} - first) == 1)
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(timeout=30)
    assert children(tmp_path) == []


@pytest.mark.parametrize(("killed", "started_afresh"), [("link", {"link", "node"}), ("node", {"node"})])
def test_a_child_that_follows_another_is_started_afresh_with_it(
    tmp_path: Path, killed: str, started_afresh: set[str]
) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path), "node"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until(lambda: len(children(tmp_path)) == 2)
    first = {process.cmdline()[-1]: process for process in children(tmp_path)}
    first[killed].kill()
    until(lambda: {p.cmdline()[-1] for p in children(tmp_path) if p not in first.values()} == started_afresh)
    assert {name for name, process in first.items() if process.is_running()} == set(first) - started_afresh
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(timeout=30)
    assert children(tmp_path) == []


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """One of our commands, as a person types it."""
    program = Path(sys.executable).with_name(arguments[0])
    return subprocess.run([str(program), *arguments[1:]], capture_output=True, text=True, timeout=60, check=False)


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        home = str(tmp_path / "coordinator")
        assert (
            command("synthward-coordinator", "init", "--name", "trial", "--fleet-port", port, "--home", home).returncode
            == 0
        )
        done = command("synthward-coordinator", "run", "--home", home)
    assert done.returncode == ExitCode.UNAVAILABLE
    assert port in done.stderr
    assert "settings.toml" in done.stderr


def test_a_folder_that_was_not_set_up_is_told_as_that(tmp_path: Path) -> None:
    for program in ("synthward-site", "synthward-coordinator"):
        for what in ("run", "verify"):
            done = command(program, what, "--home", str(tmp_path / "nothing"))
            assert done.returncode == ExitCode.USAGE, (program, what)
            assert "init" in done.stderr
            assert not (tmp_path / "nothing").exists()


def test_import_names_every_file_that_it_cannot_use_and_imports_nothing(tmp_path: Path) -> None:
    home = make_site(tmp_path / "north", new_signing_key())
    write_site(tmp_path / "data", "endoscopy_warm", patients=3, cases_per_patient=1, size_px=32, seed=1)
    (tmp_path / "data" / "patients.csv").unlink()
    (tmp_path / "data" / "images" / "alone.png").write_bytes((tmp_path / "data/images/0000.png").read_bytes())
    (tmp_path / "data" / "images" / "0001.png").write_text("not an image")
    done = command("synthward-site", "import", str(tmp_path / "data"), "--home", str(home.path))
    assert done.returncode == ExitCode.INPUT
    assert "alone.png" in done.stderr
    assert "0001.png" in done.stderr
    status = command("synthward-site", "status", "--home", str(home.path), "--json")
    assert '"cases": 0' in status.stdout
    again = command("synthward-site", "import", str(tmp_path / "data"), "--skip-unusable", "--home", str(home.path))
    assert again.returncode == 0, again.stderr
    assert "NO PATIENT KEYS" in again.stderr
