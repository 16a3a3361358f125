"""synthward-coordinator backup and restore."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli_options import DEFAULT_HOME, HomeOption, JsonOption
from coordinator.settings import Home
from shared.console import emit, errors, progress, say


def backup(
    target: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    with_keys: Annotated[bool, typer.Option(help="Also settings.toml and all private keys.")] = False,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Writes the database, every object it names and what was refused to a folder, while the service runs."""
    with errors(as_json=as_json):
        from coordinator.backup import make_backup

        with progress(as_json=as_json) as report:
            made = make_backup(Home(home), target, with_keys=with_keys, report=report)
        say(
            f"{target} HOLDS THE PRIVATE KEYS: whoever has it is this coordinator. Encrypt it, or lock it away."
            if with_keys
            else "Without settings.toml and keys/, which a restored coordinator needs: keep a copy of them elsewhere."
        )
        emit(
            made.model_dump(mode="json", exclude={"files"}) | {"target": str(target)},
            f"{target}: {made.objects} objects, {made.journal.entries} entries of the journal.",
            as_json=as_json,
        )


def restore(
    source: Annotated[Path, typer.Argument(help="A folder that `backup` wrote.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Checks a backup whole, and puts it into an empty home."""
    with errors(as_json=as_json):
        from coordinator.restore import restore as put_in_place

        with progress(as_json=as_json) as report:
            found = put_in_place(source, Home(home), report=report)
        made, hours = found.backup, found.age.total_seconds() / 3600
        if not made.with_keys:
            say(f"The backup has no keys: put settings.toml and keys/ into {home} before you run it.")
        for key in found.moved:
            say(f"{key} is emptied in settings.toml: what was restored lies in {home}.")
        say(
            "What came later is not here. Sites that noted a later end of this coordinator's journal will find that it "
            "went back, and `verify` on both sides will say so (trust.rollback): tell them of this restore. A site "
            "that was revoked since is active again until you revoke it again."
        )
        emit(
            made.model_dump(mode="json", exclude={"files"}) | {"home": str(home), "age_s": found.age.total_seconds()},
            f"{home} is restored as it was {hours:.1f} hours ago ({made.made_at:%F %R} UTC): "
            f"{made.objects} objects, {made.journal.entries} entries of the journal.",
            as_json=as_json,
        )
