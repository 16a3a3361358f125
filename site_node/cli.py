"""synthward-site: what a hospital's administrator and its stewards type."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.console import EXIT_CODES, emit, errors, progress, say, table
from shared.errors import ExitCode, SynthwardError
from site_node.cli_options import DEFAULT_HOME, HomeOption, JsonOption
from site_node.intake.text_choice import TextChoice
from site_node.settings import Home, Settings
from site_node.steward_cli import steward

if TYPE_CHECKING:
    from site_node.text.reader import TextLine

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A hospital's node: it trains generators on its own images, and lets out what its stewards approve.",
    epilog=f"Exit codes: {EXIT_CODES}",
)
PersonOption = Annotated[str, typer.Option("--as", help="The steward who acts; must stand in policy.toml.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes into the journal.")]
PasswordOption = Annotated[
    Path | None,
    typer.Option(
        "--password-file", envvar="SYNTHWARD_SITE_PASSWORD_FILE",
        help="A file whose first line is the password; without one you are asked for it.",
    ),
]  # fmt: skip
app.add_typer(steward, name="steward")

# Heavy modules are imported by the command that needs them: `status` must not wait for torch.


@app.command()
def init(
    invitation: Annotated[str, typer.Option(help="The invitation's text, or a file that holds it.")],
    data: Annotated[Path | None, typer.Option(help="The folder with images/ and masks/.")] = None,
    node_port: Annotated[int, typer.Option(help="Loopback port of the Flower node.")] = 7451,
    threads: Annotated[int, typer.Option(help="Processor threads for training; 0: all.")] = 0,
    releases_address: Annotated[str, typer.Option(help="host:port of your own gateway to the release service.")] = "",
    fleet_address: Annotated[str, typer.Option(help="host:port of your own gateway to the fleet interface.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Makes keys here, enrols with the coordinator, and writes settings.toml and policy.toml."""
    with errors(as_json=as_json):
        from shared.invitation import read_invitation
        from site_node.link.enrol import enrol
        from site_node.policy import Policy, write_policy

        path = Path(invitation)
        text = path.read_text(encoding="utf-8") if len(invitation) < 256 and path.is_file() else invitation
        read = read_invitation(text)
        here = Home(home)
        settings = Settings(
            data=str(data.resolve()) if data else "",
            node_port=node_port,
            threads=threads,
            releases_address=releases_address,
            fleet_address=fleet_address,
        )
        if here.membership_file.exists():
            raise SynthwardError("settings.exists", f"{home} is enrolled already", do="use a new folder")
        if not here.settings_file.exists():  # a refused invitation is tried again in the same folder
            here.create(settings)
        membership = enrol(here, read)
        if not here.policy_file.exists():
            write_policy(here.policy_file, Policy())
        emit(
            {"site": membership.site, "home": str(home)},
            f"{membership.site} is enrolled. Read {here.policy_file} before you start: name your stewards there.",
            as_json=as_json,
        )


@app.command(name="import")
def import_data(
    folder: Annotated[Path | None, typer.Argument(help="images/, masks/, and patients.csv or index.csv.")] = None,
    skip_unusable: Annotated[bool, typer.Option(help="Import the rest when some files cannot be used.")] = False,
    text: Annotated[
        TextChoice, typer.Option(help="Images with text burned in: refuse, paint over, crop all to the field, or keep.")
    ] = "refuse",
    because: Annotated[str, typer.Option(help="Why text is kept; it goes into the journal.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Reads pairs into the site's private folder and splits them by patient. Nothing is half imported."""
    with errors(as_json=as_json):
        from site_node.importing import import_folder

        here = Home(home).ready()
        source = folder or Path(here.settings().data or ".")
        with progress(as_json=as_json) as report:
            result = import_folder(
                here, source, skip_unusable=skip_unusable, text=text, because=because, report=report,
                tell=_tell_text if sys.stderr.isatty() and not as_json else _tell_nothing,
            )  # fmt: skip
        for problem in result.problems:
            say(f"{problem.file}: {problem.text} [{problem.code}] {problem.do}")
        if result.patients_from == "one patient a pair":
            say(
                "NO PATIENT KEYS: every pair counts as a patient of its own. If one patient has several images, they "
                "can end up on both sides of the split, and every figure will look better than it is. "
                "Add a patients.csv with the columns image,patient."
            )
        emit(
            {
                "cases": result.cases,
                "patients": result.patients,
                "training_patients": result.training_patients,
                "holdout_patients": result.holdout_patients,
                "patients_from": result.patients_from,
                "skipped": len(result.problems),
                "texts": result.texts,
            },
            f"{result.cases} cases of {result.patients} patients ({result.patients_from}): "
            f"{result.training_patients} patients for training, {result.holdout_patients} held out.\n"
            f"Text burned in: found in {result.texts['with_text']}; painted over in {result.texts['painted']}, "
            f"kept in {result.texts['kept']}; {result.texts['cropped']} cropped to the field of view.",
            as_json=as_json,
        )


def _tell_text(file: str, lines: Sequence[TextLine]) -> None:
    """What was read, to the person at this terminal: it may be a patient's name, so it goes into no log and no file."""
    say(f"{file} says: " + ", ".join(repr(line.text) for line in lines))


def _tell_nothing(_file: str, _lines: Sequence[TextLine]) -> None:
    """Where standard error is no terminal, it is a log."""


@app.command()
def run(home: HomeOption = DEFAULT_HOME) -> None:
    """Runs the site until Ctrl-C: its Flower node, its link, its trainer, each a process of its own."""
    with errors(as_json=False):
        from site_node.running import run_site

        run_site(Home(home).ready())


@app.command()
def status(
    wait_for: Annotated[str, typer.Option(help="Wait until a release has this state.")] = "",
    timeout_s: Annotated[float, typer.Option(help="How long to wait.")] = 600.0,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """What the site holds, does and has sent."""
    with errors(as_json=as_json):
        from site_node.status import read_status, wait_for_release

        here = Home(home).ready()
        if wait_for:
            wait_for_release(here, wait_for, timeout_s=timeout_s)
        found = read_status(here)
        emit(found, json.dumps(found, indent=2, default=str), as_json=as_json)


@app.command()
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


@app.command()
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


@app.command()
def reject(
    release_id: str, person: PersonOption, reason: ReasonOption, password_file: PasswordOption = None,
    home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Keeps a release in, for good."""
    _end("reject", release_id, person, reason, password_file, home, as_json)


@app.command()
def withdraw(
    release_id: str, person: PersonOption, reason: ReasonOption, password_file: PasswordOption = None,
    home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Takes a release back before its first byte has left."""
    _end("withdraw", release_id, person, reason, password_file, home, as_json)


@app.command()
def ask(
    release_id: str, person: PersonOption,
    text: Annotated[str, typer.Option(help="The question; it stays on record and is shown with the release.")],
    password_file: PasswordOption = None, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Asks for more: votes so far are void, and the release waits to be opened again."""
    _end("ask", release_id, person, text, password_file, home, as_json)


@app.command()
def revoke(
    release_id: str, person: PersonOption, reason: ReasonOption, password_file: PasswordOption = None,
    home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Takes back a release that has left. The reason stays here; the running site tells the coordinator the digest."""
    _end("revoke", release_id, person, reason, password_file, home, as_json)


@app.command()
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


@app.command(name="review-page")
def review_page(home: HomeOption = DEFAULT_HOME) -> None:
    """Serves the stewards' review page until Ctrl-C: the queue, each release with its audit, the decision."""
    with errors(as_json=False):
        from site_node.airlock.review_app.serve import address, serve

        here = Home(home).ready()
        say(f"The review page is at {address(here)}")
        serve(here)


@app.command()
def ledger(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Every reading of private pixels, what bounds it, what that comes to by year, and what the policy leaves."""
    with errors(as_json=as_json):
        from site_node.cases import PrivateStore
        from site_node.dp.account import COLUMNS, fact_row, read_account
        from site_node.policy import read_policy

        here = Home(home).ready()
        account = read_account(PrivateStore(here.private), read_policy(here.policy_file))
        if not as_json:
            table("Readings of private pixels", COLUMNS, [fact_row(fact) for fact in account.facts])
        emit(account.as_json(), "\n".join(account.sentences()), as_json=as_json)


@app.command()
def verify(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Checks both journals' chains, what each side noted of the other's, and every object of every release."""
    with errors(as_json=as_json):
        from site_node.status import verify_site

        found = verify_site(Home(home).ready())
        emit(found, "\n".join(f"{name}: {value}" for name, value in found.items()), as_json=as_json)


@app.command()
def doctor(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Checks what must be right before the first run, and says what to do."""
    with errors(as_json=as_json):
        from site_node.doctor import examine

        checks = examine(Home(home).ready())
        if as_json:
            emit({"checks": [vars(check) for check in checks]}, "", as_json=True)
        else:
            table("Doctor", ["check", "", "what it found"], [[c.name, c.state, c.text] for c in checks])
        if any(check.state == "wrong" for check in checks):
            sys.exit(int(ExitCode.STATE))


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
