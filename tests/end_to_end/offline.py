"""Installs from a wheelhouse as deploy/wheelhouse.md says, where there is no network, and runs a small study with that.

    python -m tests.end_to_end.offline WHEELHOUSE OUT

`make offline` runs it; it is no part of `make test`, because a wheelhouse is half a gigabyte to fetch. What it starts
is the installation's own, from another folder, in an environment that knows nothing of this checkout or of pip's
settings. It ends with an error where a wheel is missing or is another than the one that was fetched.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from deploy.demo.study import STEWARD, demo_policy
from shared.errors import ExitCode
from shared.ports import free_ports
from site_node.work.no_network import leave_network, only_loopback

ROOT = Path(__file__).resolve().parents[2]
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # <linux/sockios.h>, <linux/if.h>
_START_S, _STOP_S, _STAGE_S = 120.0, 60.0, 900.0  # a machine may be busy with other work
PATIENTS, FRAMES, SIZE_PX = 5, 2, 64

# The installation draws its own data. The second folder's one image has a date burned in.
DRAWS = f"""
import csv, sys
from pathlib import Path
from PIL import Image, ImageDraw
from site_node.phantoms.scenes import write_site
plain, marked = map(Path, sys.argv[1:])
write_site(plain, "endoscopy_warm", patients={PATIENTS}, cases_per_patient={FRAMES}, size_px={SIZE_PX}, seed=1)
write_site(marked, "endoscopy_warm", patients=1, cases_per_patient=1, size_px=256, seed=2)
(file,) = (marked / "images").iterdir()
with Image.open(file) as image:
    ImageDraw.Draw(image).text((24, 200), "1961-03-14 13:45", fill="white", font_size=20)
    image.save(file)
"""
# Ours must come from the installation, and so must what it needs.
WHERE = """
import coordinator, shared, site_node, torch
print(coordinator.__file__, shared.__file__, site_node.__file__, torch.__file__)
"""


def main(wheelhouse: Path, out: Path) -> None:
    """Raises where a step does not do what the documents say."""
    if not leave_network():
        raise SystemExit("this machine lets nobody make a network of its own: run as root, or allow user namespaces")
    loopback_up()
    if not only_loopback():
        raise SystemExit("there is more than loopback here")
    shutil.rmtree(out, ignore_errors=True)
    (out / "elsewhere").mkdir(parents=True)
    installation = Installation(out / "synthward", out / "elsewhere")
    with step("install"):
        install(installation, wheelhouse)
    with contextlib.ExitStack() as stack:
        run_study(installation, stack)


def loopback_up() -> None:
    """In a new network it is there, and down. Needs no tool of the system."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


@dataclass(frozen=True)
class Installation:
    """The virtual environment that was installed, and the folder from which its commands run."""

    venv: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """All that its processes know of ours."""
        path = f"{self.venv / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        home = {"HOME": str(self.folder), "LANG": "C.UTF-8"}
        return home | {"PATH": path, "OMP_NUM_THREADS": "1", "PIP_CONFIG_FILE": "/dev/null"}

    def run(self, *argv: str, status: int = 0) -> str:
        """What a command printed. Raises unless it ended with this status."""
        done = subprocess.run(
            argv, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
            timeout=_STAGE_S,
        )  # fmt: skip
        if done.returncode != status:
            raise SystemExit(f"{' '.join(argv)}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + (done.stderr if status else "")

    def call(self, party: Path, *words: str) -> dict[str, Any]:
        """The answer of one of the two command lines to a command on a party's folder."""
        program = "synthward-coordinator" if party.name == "coordinator" else "synthward-site"
        argv = (str(self.venv / "bin" / program), *words, "--home", str(party), "--json")
        answer: dict[str, Any] = json.loads(self.run(*argv))
        return answer

    @contextlib.contextmanager
    def running(self, party: Path) -> Iterator[None]:
        """`run` on a party's folder, until the block ends."""
        program = "synthward-coordinator" if party.name == "coordinator" else "synthward-site"
        argv = [str(self.venv / "bin" / program), "run", "--home", str(party)]
        with (self.folder / f"{party.name}.log").open("wb") as log:
            process = subprocess.Popen(argv, cwd=self.folder, env=self.environment, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Says what was done, in how many seconds."""
    begun = time.monotonic()
    yield
    say(f"{name}: {time.monotonic() - begun:.0f} s")


def say(line: str) -> None:
    """To whoever waits."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def install(installation: Installation, wheelhouse: Path) -> None:
    """The lines of deploy/wheelhouse.md for the machine without internet, but for where Python and Synthward lie."""
    document = (ROOT / "deploy" / "wheelhouse.md").read_text(encoding="utf-8")
    lines = re.findall(r"^```sh\n(.*?)^```$", document, re.M | re.S)[1]
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    for said, meant in {
        "cd wheelhouse\n": f"cd {wheelhouse}\n", "python3.11 ": f"{python} ", "/opt/synthward": str(installation.venv),
    }.items():  # fmt: skip
        if said not in lines:
            raise SystemExit(f"deploy/wheelhouse.md no longer says {said!r}")
        lines = lines.replace(said, meant)
    installation.run("sh", "-euxc", lines)
    bin_python = str(installation.venv / "bin" / "python")
    for place in installation.run(bin_python, "-c", WHERE).split():
        if not Path(place).is_relative_to(installation.venv):
            raise SystemExit(f"{place} is not of the installation")


def run_study(installation: Installation, stack: contextlib.ExitStack) -> None:
    """A coordinator and a site, from `init` to a release that is accepted, exported and verified."""
    call, folder = installation.call, installation.folder
    coordinator, site, data, marked = (folder / name for name in ("coordinator", "site", "data", "marked"))
    enrolment, releases, fleet, flower, node = free_ports(5)
    with step("draw"):
        installation.run(str(installation.venv / "bin" / "python"), "-c", DRAWS, str(data), str(marked))
    with step("coordinator"):
        call(
            coordinator, "init", "--name", "offline", "--enrolment-port", str(enrolment),
            "--releases-port", str(releases), "--fleet-port", str(fleet), "--flower-port", str(flower),
        )  # fmt: skip
        stack.enter_context(installation.running(coordinator))
        for port in (enrolment, releases, fleet, flower):
            wait_for_port(port)
    with step("site"):
        invitation = call(coordinator, "invite", "north", "--address", f"127.0.0.1:{enrolment}")["invitation"]
        call(site, "init", "--invitation", invitation, "--data", str(data), "--node-port", str(node), "--threads", "1")
        demo_policy(site / "policy.toml")
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24), encoding="utf-8")
        call(site, "steward", "add", STEWARD, "--password-file", str(password))
    with step("burned-in text"):
        argv = ("synthward-site", "import", str(marked), "--home", str(site), "--json")
        refused = installation.run(*argv, status=ExitCode.INPUT)
        if "intake.burned-in-text" not in refused:
            raise SystemExit(f"a burned-in date was not read:\n{refused}")
    with step("import"):
        call(site, "import")
    with step("doctor"):
        call(site, "doctor")
    stack.enter_context(installation.running(site))
    with step("study, training, screening"):
        (folder / "study.toml").write_text(study(), encoding="utf-8")
        call(coordinator, "study", "publish", str(folder / "study.toml"))
        call(site, "status", "--wait-for", "screened", "--timeout-s", str(_STAGE_S))
    with step("review, release"):
        release = call(site, "status")["releases"][0]["release"]
        as_steward = ("--as", STEWARD, "--password-file", str(password))
        seen = call(site, "review", release, *as_steward, "--sheets", str(folder / "sheets"))
        call(site, "approve", release, *as_steward, "--digest", seen["digest"])
        call(site, "status", "--wait-for", "accepted", "--timeout-s", str(_STAGE_S))
    with step("dataset"):
        built = call(coordinator, "dataset", "build", "offline")
        call(coordinator, "dataset", "export", "offline", str(folder / "dataset"))
        images = list((folder / "dataset" / "images").iterdir())
        if not images or len(images) != built["pairs"]:
            raise SystemExit(f"{len(images)} images were exported, {built['pairs']} built")
    with step("evaluation"):
        call(coordinator, "evaluate", "offline", "--version", str(built["version"]), "--threads", "1")
    with step("verification"):
        call(coordinator, "verify")
        call(site, "verify")
    say(f"{len(images)} pairs were accepted and exported, without a network")


def study() -> str:
    """The smallest study that trains, screens and evaluates."""
    closes = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    return f"""\
study_id = "offline"
title = "An installation without internet"
closes = "{closes.isoformat()}"

[image]
size_px = 32

[generator]
preset = "demo"
samples_per_case = 1

[release]
min_patients = 3

[evaluation]
seeds = [0]
steps = 2
batch_size = 8
"""


def wait_for_port(port: int) -> None:
    """Returns when somebody listens."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.2)
    raise SystemExit(f"port {port} did not open")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
