"""synthward-site export and receipts: the way without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from shared.console import emit, errors, say
from shared.errors import ExitCode
from site_node.cli_options import DEFAULT_HOME, HomeOption, JsonOption
from site_node.settings import Home


def export(
    to: Annotated[Path, typer.Option(help="Folder on a medium; bundles/ in it takes the bundles.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Copies sealed bundles to a medium, for a site whose network may not reach the coordinator."""
    with errors(as_json=as_json):
        from site_node.jobs import Queue
        from site_node.portable import export as copy_out

        here = Home(home).ready()
        bundles = copy_out(here, Queue(here.exchange), to)
        emit(
            {"bundles": bundles, "to": str(to)},
            f"{to}: {len(bundles)} bundles. They stay in the outbox until their receipts are back.",
            as_json=as_json,
        )


def receipts(
    folder: Annotated[Path, typer.Argument(help="The same folder, as the coordinator gave it back.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Takes the coordinator's signed receipts back from a medium."""
    with errors(as_json=as_json):
        from site_node.jobs import Queue
        from site_node.portable import take_receipts

        here = Home(home).ready()
        read = take_receipts(here, Queue(here.exchange), folder)
        refused = [one for one in read if one.code]
        for one in refused:
            say(f"receipt of {one.bundle_sha256}: not believed [{one.code}]")
        emit(
            {"receipts": [vars(one) for one in read]},
            f"{len(read) - len(refused)} receipts taken, {len(refused)} refused.",
            as_json=as_json,
        )
        if refused:
            sys.exit(int(ExitCode.TRUST))
