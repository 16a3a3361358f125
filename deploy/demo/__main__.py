"""The one-machine demo: a whole study over three sites, each party in its own processes, in one command.

    python -m deploy.demo [--data DIR DIR DIR] [--cases N] [--size PX] [--generator KIND] [--preset NAME] [--out DIR]

Writes OUT/report.html, .json and .csv, OUT/summary.json and OUT/dataset/, and stops everything that it started, also
on Ctrl-C and on failure. Working folders and logs stay under OUT/work for whoever wants to look.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

from deploy.demo.data import phantom_folders, real_folders
from deploy.demo.figures import write_outputs
from deploy.demo.meter import Meter
from deploy.demo.parties import Party, SiteParty, end_children
from deploy.demo.relay import Relay
from deploy.demo.study import STEWARD, demo_policy, write_study
from deploy.demo.together import each
from shared.errors import SynthwardError
from shared.files import write_private
from shared.ports import free_ports

_START_S = 60.0


def main() -> int:
    """Runs the demo; 0 when all three outputs are there."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with contextlib.ExitStack() as stack:
        try:
            run(options, stack)
        except SynthwardError as error:
            print(f"\nThe demo failed: {error}\nLogs: {options.out / 'work'}/*/logs", file=sys.stderr)
            return int(error.exit_code) or 1
        except KeyboardInterrupt:
            print("\nStopping.", file=sys.stderr)
            return 130
    print(f"\nReport:  {options.out / 'report.html'}\nFigures: {options.out / 'summary.json'}")
    return 0


def run(options: argparse.Namespace, stack: contextlib.ExitStack) -> None:
    """The study from start to end. What is started is registered in stack, and stopped when it closes."""
    out: Path = options.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    work = out / "work"
    work.mkdir(parents=True)
    meter = Meter()
    stack.callback(end_children)
    stack.callback(meter.close)

    with meter.stage("data"):
        if options.data:
            folders = real_folders(options.data, work / "data", cases=options.cases)
        else:
            folders = phantom_folders(work / "data", cases=options.cases, size_px=options.size)

    with meter.stage("coordinator"):
        enrolment, releases, fleet, flower, *nodes = free_ports(4 + len(folders))
        coordinator = Party("synthward-coordinator", work / "coordinator")
        coordinator.call(
            "init", "--name", "demo",
            "--enrolment-port", str(enrolment), "--releases-port", str(releases),
            "--fleet-port", str(fleet), "--flower-port", str(flower),
            *(["--capture", str(options.capture.resolve())] if options.capture else []),
        )  # fmt: skip
        child = coordinator.background()
        child.start()
        stack.callback(child.stop)
        for port in (enrolment, releases, fleet, flower):
            _wait_for_port(port, coordinator)

    sites = []
    for (name, data), node_port in zip(folders.items(), nodes, strict=True):
        relays = Relay(enrolment), Relay(releases), Relay(fleet)
        for relay in relays:
            stack.callback(relay.close)
        sites.append(SiteParty("synthward-site", work / f"site-{name}", name, data, *relays, node_port))

    with meter.stage("enrolment and import"):
        imported = each(sites, lambda site: _join(coordinator, site, real=bool(options.data)))
        for site in sites:
            site_process = site.background()
            site_process.start()
            stack.callback(site_process.stop)

    with meter.stage("study"):
        study = write_study(work / "study.toml", options)
        coordinator.call("study", "publish", str(work / "study.toml"))

    with meter.stage("training, sampling, style, screening"):
        each(sites, lambda site: site.call("status", "--wait-for", "screened", "--timeout-s", str(options.timeout_s)))

    with meter.stage("review, approval, upload"):
        each(sites, _approve)
        coordinator.call("study", "status", study.study_id, "--wait-bundles", str(len(sites)))
        # The site's airlock says "accepted" once it has checked the receipt itself.
        each(sites, lambda site: site.call("status", "--wait-for", "accepted"))

    with meter.stage("dataset"):
        dataset = coordinator.call("dataset", "build", study.study_id)
        coordinator.call("dataset", "export", study.study_id, str(out / "dataset"))

    with meter.stage("evaluation"):
        coordinator.call(
            "evaluate",
            study.study_id,
            "--version",
            str(dataset["version"]),
            "--threads",
            "1",
            "--timeout-s",
            str(options.timeout_s),
        )

    with meter.stage("verification"):
        checked = {"coordinator": coordinator.call("verify")}
        checked |= each(sites, lambda site: site.call("verify"))
        statuses = each(sites, lambda site: site.call("status"))

    write_outputs(
        out, coordinator=coordinator, study=study, sites=sites, imported=imported, statuses=statuses, dataset=dataset,
        checked=checked, meter=meter, real=bool(options.data),
    )  # fmt: skip


def _join(coordinator: Party, site: SiteParty, *, real: bool) -> dict[str, object]:
    address = f"127.0.0.1:{site.enrolment.port}"
    invitation = coordinator.call("invite", site.name, "--address", address)["invitation"]
    site.call(
        "init", "--invitation", invitation, "--data", str(site.data), "--node-port", str(site.node_port),
        "--threads", "1", "--releases-address", f"127.0.0.1:{site.releases.port}",
        "--fleet-address", f"127.0.0.1:{site.fleet.port}",
    )  # fmt: skip
    demo_policy(site.home / "policy.toml")
    write_private(_password_file(site), secrets.token_urlsafe(24).encode())
    site.call("steward", "add", STEWARD, "--password-file", str(_password_file(site)))
    # Real frames carry dates and counters: they are painted over, and what cannot be is left out.
    found = site.call("import", *(("--text", "paint", "--skip-unusable") if real else ()))
    if found["remarks"]:
        print(f"  {site.name}: {found['remarks']}", flush=True)
    return found


def _approve(site: SiteParty) -> None:
    release = site.call("status")["releases"][0]["release"]
    as_steward = ("--as", STEWARD, "--password-file", str(_password_file(site)))
    seen = site.call("review", release, *as_steward, "--sheets", str(site.home / "private" / "review"))
    site.call("approve", release, *as_steward, "--digest", seen["digest"])


def _password_file(site: SiteParty) -> Path:
    """Where the demo's steward has its password: a script has to keep it somewhere, a person should not."""
    return site.home / "private" / "steward.password"


def _wait_for_port(port: int, party: Party) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.2)
    raise SynthwardError("unavailable.timeout", f"port {port} did not open", do=f"read {party.home / 'logs'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description=__doc__)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders with images/ and masks/, one a site")
    parser.add_argument("--cases", type=int, default=12, help="cases a site")
    parser.add_argument("--size", type=int, default=64, help="side of the study's images in pixels")
    parser.add_argument("--generator", choices=("cohort", "per_case"), default="cohort")
    parser.add_argument("--preset", choices=("demo", "fast", "faithful"), default="demo")
    parser.add_argument("--samples", type=int, default=5, help="pairs for each training case")
    parser.add_argument("--steps", type=int, default=70, help="optimiser steps of UNet++ in every arm")
    parser.add_argument("--timeout-s", type=float, default=3600.0, help="longest wait for a stage")
    parser.add_argument("--capture", type=Path, default=None, help="folder for a copy of every byte that sites send")
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    options = parser.parse_args()
    if options.data and len(options.data) < 2:
        parser.error("a study over several sites needs at least two folders")
    return options


if __name__ == "__main__":
    sys.exit(main())
