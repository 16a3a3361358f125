"""synthward-coordinator report: what an evaluation found, as a page, as JSON and as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli_options import DEFAULT_HOME, HomeOption, JsonOption
from coordinator.settings import Home
from shared.console import emit, errors


def report(
    study: str,
    version: Annotated[int, typer.Option(help="Which dataset version; 0: the newest.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder to write into; none: STUDY-vVERSION-report here.")] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Writes report.html, report.json and report.csv of all answers so far; asks no site anything."""
    with errors(as_json=as_json):
        from coordinator.evaluation.evaluation import evaluation_folder
        from coordinator.evaluation.gather import gather
        from coordinator.evaluation.report import write_report
        from coordinator.evaluation.summary import summarise
        from coordinator.store.objects import ObjectStore
        from coordinator.store.store import Store

        here = Home(home)
        store = Store(here.database_url())
        published = store.study(study)
        folder = evaluation_folder(here, published.sha256)
        data = gather(store, ObjectStore(here.objects_url()), published, version, failures=folder)
        number = data.dataset.version
        paths = write_report(data, out or Path(f"{published.study.study_id}-v{number}-report"))
        told = summarise(data)
        partial = [f"Partial report: {gap}" for gap in told.gaps]
        emit(
            {
                "version": number,
                "headline": told.headline,
                "missing": list(told.gaps),
                "files": [str(path) for path in paths],
            },
            "\n".join([*partial, told.headline, *(str(path) for path in paths)]),
            as_json=as_json,
        )
