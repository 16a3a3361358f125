"""synthward-coordinator import: bundles that came on a medium."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli_options import DEFAULT_HOME, HomeOption, JsonOption
from coordinator.settings import Home
from shared.console import emit, errors, say
from shared.errors import ExitCode
from shared.settings_files import named


def import_bundles(
    folder: Annotated[Path, typer.Argument(help="The folder to which a site exported; receipts/ in it takes ours.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Takes bundles in from a medium, with the checks of the release service, and writes receipts onto it."""
    with errors(as_json=as_json):
        from coordinator.admission import Admission
        from coordinator.capture import Capture
        from coordinator.portable import Importer
        from coordinator.store.objects import ObjectStore
        from coordinator.store.store import Store
        from shared.identity import load_signing_key

        here = Home(home)
        settings, store = here.settings(), Store(here.database_url())
        key = load_signing_key(here.keys / "signing.key")
        objects, limits = ObjectStore(here.objects_url()), settings.limits()
        admission = Admission(store, objects, key, here.incoming, here.quarantine, limits)
        capture = Capture(named(settings.capture))
        outcomes = Importer(store, admission, capture).take_in(folder)
        refused = [outcome for outcome in outcomes if outcome.code]
        for outcome in refused:
            say(f"{outcome.bundle_sha256}: refused [{outcome.code}]")
        emit(
            {"bundles": [vars(outcome) for outcome in outcomes]},
            f"{len(outcomes) - len(refused)} bundles accepted, {len(refused)} refused. Give {folder} back to the site.",
            as_json=as_json,
        )
        if refused:
            sys.exit(int(ExitCode.INPUT))
