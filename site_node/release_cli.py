"""What is done with releases from a terminal: looked at, let out, kept in, taken back, one by one or by patient."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from shared.console import emit, errors, say
from site_node.cli_options import DEFAULT_HOME, HomeOption, JsonOption
from site_node.settings import Home

PersonOption = Annotated[str, typer.Option("--as", help="The steward who acts; must stand in policy.toml.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes into the journal.")]
PasswordOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file", envvar="SYNTHWARD_SITE_PASSWORD_FILE",
        help="A file whose first line is the password; without one you are asked for it.",
    ),
]  # fmt: skip


def add_release_commands(app: typer.Typer) -> None:
    """Adds these commands to synthward-site's own."""
    for command in (review, approve, reject, withdraw, ask, revoke, touched, review_page):
        app.command()(command)


def review(
    release_id: str,
    person: PersonOption,
    sheets: Annotated[Path | None, typer.Option(help="Also draw every pair, as PNG pages in this folder.")] = None,
    password_file: PasswordOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Opens a release for review: its digest, its privacy label, what the screening found."""
    with errors(as_json=as_json):
        from site_node.airlock.sheets import write_sheets
        from site_node.airlock.sign_in import sign_in
        from site_node.airlock.workflow import Airlock
        from site_node.cases import PrivateStore
        from site_node.policy import read_policy

        here = Home(home).ready()
        store = PrivateStore(here.private)
        sign_in(store, person, password_file)
        airlock = Airlock(store)
        release = airlock.review(read_policy(here.policy_file), release_id, person)
        if sheets is not None:
            write_sheets(release, sheets)
        privacy, questions = release.manifest.privacy, airlock.questions(release_id)
        lines = [
            f"{release.release_id}, {len(release.manifest.pairs)} pairs, digest {release.bundle_sha256}",
            privacy.label(),
            *(f"  {sentence}" for sentence in privacy.sentences()),
            json.dumps(release.report, indent=2),
            *(f"{event.actor} asked on {event.at[:10]}: {event.detail}" for event in questions),
            f"To let it out: synthward-site approve {release_id} --digest {release.bundle_sha256} --as {person}",
        ]
        emit(
            {
                "release": release.release_id,
                "digest": release.bundle_sha256,
                "pairs": len(release.manifest.pairs),
                "privacy": privacy.model_dump(mode="json"),
                "report": release.report,
                "questions": [vars(event) for event in questions],
            },
            "\n".join(lines),
            as_json=as_json,
        )


def approve(
    release_id: str,
    person: PersonOption,
    digest: Annotated[str, typer.Option(help="The digest that review showed: what you saw is what you approve.")],
    password_file: PasswordOption = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Votes for a release. With enough votes it is sealed and leaves."""
    with errors(as_json=as_json):
        from site_node.airlock.sign_in import sign_in
        from site_node.airlock.workflow import Airlock
        from site_node.cases import PrivateStore
        from site_node.policy import read_policy

        here = Home(home).ready()
        store, policy = PrivateStore(here.private), read_policy(here.policy_file)
        sign_in(store, person, password_file)
        release = Airlock(store).approve(policy, release_id, person, reviewed_sha256=digest)
        emit(
            {"release": release_id, "state": release.state.value},
            f"{release_id} is {release.state.value}."
            + ("" if release.state.value == "approved" else f" It needs {policy.required_approvals} approvals."),
            as_json=as_json,
        )


def reject(
    release_id: str, person: PersonOption, reason: ReasonOption, password_file: PasswordOption = None,
    home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Keeps a release in, for good."""
    _end("reject", release_id, person, reason, password_file, home, as_json)


def withdraw(
    release_id: str, person: PersonOption, reason: ReasonOption, password_file: PasswordOption = None,
    home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Takes a release back before its first byte has left."""
    _end("withdraw", release_id, person, reason, password_file, home, as_json)


def ask(
    release_id: str, person: PersonOption,
    text: Annotated[str, typer.Option(help="The question; it stays on record and is shown with the release.")],
    password_file: PasswordOption = None, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Asks for more: votes so far are void, and the release waits to be opened again."""
    _end("ask", release_id, person, text, password_file, home, as_json)


def revoke(
    release_id: str, person: PersonOption, reason: ReasonOption, password_file: PasswordOption = None,
    home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Takes back a release that has left. The reason stays here; the running site tells the coordinator the digest."""
    _end("revoke", release_id, person, reason, password_file, home, as_json)


def touched(
    patient: Annotated[str, typer.Option(help="The patient's key, as in patients.csv.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Which releases rest on a patient, for instance one who withdraws consent."""
    with errors(as_json=as_json):
        from site_node.airlock.workflow import Airlock
        from site_node.cases import PrivateStore

        found, unknown = Airlock(PrivateStore(Home(home).ready().private)).touched(patient)
        lines = [f"{touch.release_id} is {touch.state.value}; the patient was on its {touch.side} side"
                 for touch in found]  # fmt: skip
        lines += [f"{release_id}: made before this was written down; it may rest on anybody" for release_id in unknown]
        emit(
            {"releases": [vars(touch) for touch in found], "unknown": unknown},
            "\n".join(lines) or "No release rests on this patient.",
            as_json=as_json,
        )


def review_page(home: HomeOption = DEFAULT_HOME) -> None:
    """Serves the stewards' review page until Ctrl-C: the queue, each release with its audit, the decision."""
    with errors(as_json=False):
        from site_node.airlock.review_app.serve import address, serve

        here = Home(home).ready()
        say(f"The review page is at {address(here)}")
        serve(here)


def _end(
    how: str, release_id: str, person: str, reason: str, password_file: Path | None, home: Path, as_json: bool
) -> None:
    with errors(as_json=as_json):
        from site_node.airlock.sign_in import sign_in
        from site_node.airlock.workflow import Airlock
        from site_node.cases import PrivateStore
        from site_node.jobs import Queue
        from site_node.policy import read_policy

        here = Home(home).ready()
        store, policy = PrivateStore(here.private), read_policy(here.policy_file)
        sign_in(store, person, password_file)
        airlock = Airlock(store)
        if how == "withdraw":
            release = airlock.withdraw(policy, release_id, person, reason, take_back=Queue(here.exchange).withdraw)
        else:
            act = {"reject": airlock.reject, "ask": airlock.ask, "revoke": airlock.revoke}[how]
            release = act(policy, release_id, person, reason)
        emit({"release": release_id, "state": release.state.value}, f"{release_id} is {release.state.value}.",
             as_json=as_json)  # fmt: skip
