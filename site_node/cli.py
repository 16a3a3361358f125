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
from site_node.portable_cli import export, receipts
from site_node.release_cli import add_release_commands
from site_node.running import Part, become, run_site
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
    proxy: Annotated[str, typer.Option(help="http://host:port of your proxy; none: straight out.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Makes keys here, enrols with the coordinator, and writes settings.toml and policy.toml."""
    with errors(as_json=as_json):
        from shared.invitation import read_invitation
        from site_node.link.enrol import enrol
        from site_node.policy import Policy, write_policy
        from site_node.proxy import go_out_by

        read = read_invitation(_text_or_file(invitation))
        here = Home(home)
        settings = Settings(
            data=str(data.resolve()) if data else "",
            node_port=node_port,
            threads=threads,
            releases_address=releases_address,
            fleet_address=fleet_address,
            proxy=proxy,
        )
        if here.membership_file.exists():
            raise SynthwardError("settings.exists", f"{home} is enrolled already", do="rejoin, or use a new folder")
        if not here.settings_file.exists():  # a refused invitation is tried again in the same folder
            here.create(settings)
        go_out_by(here.settings().proxy)
        membership = enrol(here, read)
        if not here.policy_file.exists():
            write_policy(here.policy_file, Policy())
        emit(
            {"site": membership.site, "home": str(home)},
            f"{membership.site} is enrolled. Read {here.policy_file} before you start: name your stewards there.",
            as_json=as_json,
        )


@app.command()
def rejoin(
    invitation: Annotated[str, typer.Option(help="A new invitation's text, or a file that holds it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Enrols this folder once more, with new keys; all that it holds stays. After a certificate ended or keys went."""
    with errors(as_json=as_json):
        from shared.invitation import read_invitation
        from site_node.proxy import go_out_by
        from site_node.rejoin import rejoin as enrol_again

        here = Home(home).ready()
        go_out_by(here.settings().proxy)
        membership = enrol_again(here, read_invitation(_text_or_file(invitation)))
        emit(
            {"site": membership.site, "home": str(home)},
            f"{membership.site} is enrolled again, with new keys. Where two users run it, give each its files again, "
            "as at the installation.",
            as_json=as_json,
        )


def _text_or_file(words: str) -> str:
    path = Path(words)
    return path.read_text(encoding="utf-8") if len(words) < 256 and path.is_file() else words


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
def run(
    only: Annotated[Part | None, typer.Option(help="This process alone, for a unit of its own.")] = None,
    home: HomeOption = DEFAULT_HOME,
) -> None:
    """Runs the site until Ctrl-C: its Flower node, its link, its trainer, each a process of its own."""
    with errors(as_json=False):
        here = Home(home).ready()
        if only is None:
            run_site(here)
        else:
            become(here, only)


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
def retry(
    job: Annotated[str, typer.Argument(help="The job's name, as status shows it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Takes up a job that failed, once what stood in its way is gone: a full disk, a missing device."""
    with errors(as_json=as_json):
        from site_node.jobs import Queue

        Queue(Home(home).ready().exchange).retry(job, actor="administrator")
        emit({"job": job, "state": "queued"}, f"{job} is queued again", as_json=as_json)


add_release_commands(app)  # here, since the help lists commands in the order in which they are added
app.command("export")(export)
app.command("receipts")(receipts)


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
    """Checks what must be right before the first run, and says what to do. Ends with 8 when a check failed."""
    with errors(as_json=as_json):
        from site_node.doctor import examine

        checks = examine(Home(home).ready())
        if as_json:
            emit({"checks": [vars(check) for check in checks]}, "", as_json=True)
        else:
            rows = [[c.name, c.state, c.text, c.do] for c in checks]
            table("Doctor", ["check", "", "what it found", "what to do"], rows)
        if any(check.state == "failed" for check in checks):
            sys.exit(int(ExitCode.STATE))


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
