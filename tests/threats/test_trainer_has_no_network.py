"""T01: what reads patient data has no network, and what has the network cannot read patient data."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import CODES
from shared.identity import new_signing_key
from site_node.jobs import JobState, Queue
from site_node.running import site_children
from site_node.settings import Home, Settings
from site_node.status import read_status
from site_node.work.no_network import started
from site_node.work.worker import job_process
from tests.helpers import HOST, until
from tests.sites import make_site, make_study, signed

NOBODY = 65534
# What a library could call. {port}: of a listener on this machine, which a process with a network would reach.
WAYS = {
    "connect": "socket.create_connection(('127.0.0.1', {port}), timeout=5)",
    "connect_ex": "socket.socket().connect_ex(('127.0.0.1', {port}))",
    "connect over IPv6": "socket.socket(socket.AF_INET6).connect(('::1', {port}))",
    "bind": "socket.socket().bind(('127.0.0.1', 0))",
    "sendto": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))",
    "sendmsg": "socket.socket(type=socket.SOCK_DGRAM).sendmsg([b'x'], [], 0, ('127.0.0.1', {port}))",
    "getaddrinfo": "socket.getaddrinfo('localhost', 80)",
    "gethostbyname": "socket.gethostbyname('localhost')",
    "getnameinfo": "socket.getnameinfo(('127.0.0.1', 80), 0)",
    "the bare module": "__import__('_socket').socket().connect(('127.0.0.1', {port}))",
    "a library": "__import__('httpx').get('http://127.0.0.1:{port}/', timeout=5, trust_env=False)",
}
LIBC = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
number = libc.socket({family}, {kind}, 0)
address = struct.pack("=H", {family}) + struct.pack("!H", {port}) + bytes([127, 0, 0, 1]) + bytes(8)
done = libc.connect(number, address, len(address))
print("connected" if done == 0 else os.strerror(ctypes.get_errno()))
"""


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which somebody of this machine listens."""
    with socket.create_server((HOST, 0)) as listener:
        yield int(listener.getsockname()[1])


def python(code: str, *, through: bool) -> subprocess.CompletedProcess[str]:
    """Runs code in a Python of its own: started as the trainer's processes are, or as any other."""
    argv = started("tests.run_code", code) if through else [sys.executable, "-m", "tests.run_code", code]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def walled(code: str) -> str:
    """The code of one of the trainer's processes: first what each of them does first."""
    return f"from site_node.work.no_network import close_network\nwall = close_network()\nimport socket\n{code}"


def the_kernel_lets_us() -> bool:
    """Whether a process may leave the network on this machine."""
    return python(walled("print(wall.value)"), through=True).stdout.strip() == "kernel"


needs_namespaces = pytest.mark.skipif(
    not the_kernel_lets_us(), reason="this kernel or container allows no network namespaces"
)


@pytest.mark.parametrize("way", WAYS)
def test_python_in_the_trainer_reaches_nobody(port: int, way: str) -> None:
    done = python(walled(WAYS[way].format(port=port)), through=False)
    assert done.returncode != 0
    assert "[training.network]" in done.stderr.splitlines()[-3], done.stderr
    assert "127.0.0.1" not in done.stderr.splitlines()[-3]


def test_the_same_lines_reach_somebody_elsewhere(port: int) -> None:
    """So that the tests above fail for the wall's sake alone."""
    code = "import socket\n" + "\n".join(WAYS[way].format(port=port) for way in ("connect", "bind", "sendto"))
    assert python(code, through=False).returncode == 0


def test_sockets_of_this_machines_own_processes_still_work(tmp_path: Path) -> None:
    path = str(tmp_path / "here")
    code = f"""
from multiprocessing import Pipe
server = socket.socket(socket.AF_UNIX); server.bind({path!r}); server.listen()
client = socket.socket(socket.AF_UNIX); client.connect({path!r}); client.send(b"x")
assert server.accept()[0].recv(1) == b"x"
ours, theirs = Pipe(); ours.send("y"); assert theirs.recv() == "y"
"""
    done = python(walled(code), through=True)
    assert done.returncode == 0, done.stderr


def libc(port: int) -> str:
    """A connection that Python's hook does not see."""
    return LIBC.format(family=int(socket.AF_INET), kind=int(socket.SOCK_STREAM), port=port)


@needs_namespaces
def test_the_c_library_in_the_trainer_reaches_nobody(port: int) -> None:
    assert python(walled(libc(port)), through=False).stdout.strip() == "connected", "Python's wall alone has this gap"
    assert python(walled(libc(port)), through=True).stdout.strip() == "Network is unreachable"


@needs_namespaces
def test_what_the_trainer_starts_has_no_network_either(port: int) -> None:
    code = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {libc(port)!r}], check=True)"
    assert python(code, through=True).stdout.strip() == "Network is unreachable"


@needs_namespaces
def test_files_databases_processes_and_torch_work_behind_the_wall(tmp_path: Path) -> None:
    code = f"""
import os, sqlite3, subprocess, sys, torch
from pathlib import Path
from shared.database import open_database, sqlite_url
folder = Path({str(tmp_path)!r})
with open_database(sqlite_url(folder / "a.db")).begin() as connection:
    connection.exec_driver_sql("CREATE TABLE t (a INTEGER)")
(folder / "file").write_text("x")
assert (folder / "file").stat().st_uid == os.getuid() == {os.getuid()}
layer = torch.nn.Conv2d(3, 4, 3)
layer(torch.ones(1, 3, 8, 8)).sum().backward()
assert layer.weight.grad is not None
subprocess.run([sys.executable, "-c", "pass"], check=True)
"""
    done = python(walled(code), through=True)
    assert done.returncode == 0, done.stderr


@needs_namespaces
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_user_without_rights_leaves_the_network_too(port: int) -> None:
    """As in deployment: by a user namespace. The other tests take root's way, where root runs them."""
    folder = Path(tempfile.mkdtemp())
    code = f"""
import ctypes, os
from site_node.work.no_network import leave_network, only_loopback
os.chdir({str(folder)!r})
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: who was root a moment ago may not write to its own /proc
if not leave_network():
    raise SystemExit("forbidden")
open("file", "w").write("x")
assert os.stat("file").st_uid == os.getuid() == {NOBODY}
assert only_loopback()
{libc(port)}"""
    try:
        folder.chmod(0o777)
        done = python(code, through=False)
    finally:
        shutil.rmtree(folder)
    if done.stderr.strip() == "forbidden":
        pytest.skip("this kernel allows user namespaces to root alone")
    assert done.stdout.strip() == "Network is unreachable", done.stderr


# A whole site


def site_with_a_job(folder: Path) -> Home:
    """A site whose queue holds a study."""
    key = new_signing_key()
    home = make_site(folder, key)
    Queue(home.exchange).take_study(signed(key, make_study())[0])
    return home


def test_a_job_that_tries_to_reach_somebody_fails_with_a_code_in_the_journal(tmp_path: Path, port: int) -> None:
    """A generator with a foreign mind, as it would come with a package that somebody tampered with."""
    home = site_with_a_job(tmp_path / "north")
    queue = Queue(home.exchange)
    job = queue.claim()
    assert job is not None
    code = f"""
import socket, sys
import site_node.work.child as child
def make_release(*_, **__):
    socket.create_connection(("127.0.0.1", {port}), timeout=5)
child.make_release = make_release
from site_node.work.no_network import close_network
close_network(child.Home(child.Path({str(home.path)!r})).settings().ray_address)
sys.exit(child.main({str(home.path)!r}, {job.job_id!r}))
"""
    done = python(code, through=True)
    assert done.returncode == 0, done.stderr
    ended = queue.job(job.job_id)
    assert ended is not None
    assert (ended.state, ended.code) == (JobState.FAILED, "training.network")
    assert ("job-failed", "training.network") in [(entry.action, entry.detail) for entry in queue.journal()]
    assert str(port) not in CODES["training.network"].public


def test_every_process_of_the_trainer_starts_behind_the_wall_and_says_so(tmp_path: Path) -> None:
    home = site_with_a_job(tmp_path / "north")
    (trainer,) = (child for child in site_children(home) if child.name == "trainer")
    trainer.start()
    try:
        queue = Queue(home.exchange)
        until(lambda: queue.jobs()[0].state not in (JobState.QUEUED, JobState.RUNNING))
        assert queue.jobs()[0].code == "cohort.not-imported"
    finally:
        trainer.stop()
    expected = "kernel" if the_kernel_lets_us() else "python"
    for log in ("trainer.log", "job.log"):
        lines = (home.logs / log).read_text().splitlines()
        assert [line for line in lines if f'"state": "{expected}"' in line and '"network"' in line], log
    assert read_status(home)["trainer_network_closed_by"] == expected


def test_only_a_ray_cluster_keeps_the_network_open_and_status_says_so(tmp_path: Path) -> None:
    home = site_with_a_job(tmp_path / "north")
    for address, through in (("", True), ("10.1.1.1:6379", False)):
        text = home.settings_file.read_text().replace('ray_address = ""', f'ray_address = "{address}"')
        home.settings_file.write_text(text)
        for child in (*site_children(home)[2:], job_process(home, "job")):
            assert ("site_node.work.no_network" in child.command) is through, child.name
    done = python(
        "from site_node.work.no_network import close_network; print(close_network('auto').value)", through=True
    )
    assert done.stdout.strip() == "none"


# The other half

READ = """
import os, sys
from pathlib import Path
os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
for folder in sys.argv[1:]:
    for attempt in (lambda: os.listdir(folder), lambda: Path(folder, "file").read_bytes()):
        try:
            attempt()
        except PermissionError:
            continue
        sys.exit("could read " + folder)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_link_of_another_user_reads_neither_private_data_nor_the_sealing_key() -> None:
    """With the folders as `init` makes them; deployment opens nothing but the way to exchange/."""
    top = Path(tempfile.mkdtemp())
    try:
        home = Home(top / "north")
        home.create(Settings())
        for folder in (top, home.path, home.path / "keys"):
            folder.chmod(0o755)
        for folder in (home.private, home.seal_keys):
            (folder / "file").write_bytes(b"patient data")
        code = READ.format(nobody=NOBODY)
        argv = [sys.executable, "-c", code, str(home.private), str(home.seal_keys)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        home.private.chmod(0o755)
        assert "could read" in subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False).stderr
    finally:
        shutil.rmtree(top)
