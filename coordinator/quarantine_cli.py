"""synthward-coordinator quarantine: what was refused and is kept, and how to be rid of it."""

from __future__ import annotations

import typer

from coordinator.cli_options import DEFAULT_HOME, OPERATOR, BecauseOption, HomeOption, JsonOption, megabytes, reason_of
from coordinator.settings import Home
from shared.console import emit, errors

quarantine_app = typer.Typer(no_args_is_help=True, help="Refused bundles: list them, discard one.")


@quarantine_app.command("list")
def list_refused(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Every refused bundle that is kept: whose it is, why it was refused, and what it takes of its site's share."""
    with errors(as_json=as_json):
        from coordinator.store.shares import in_quarantine
        from coordinator.store.store import Store

        refused = in_quarantine(Store(Home(home).database_url()))
        # Lines and no table: a digest that is cut to a terminal's width is of no use to `discard`.
        lines = [
            f"{b.sha256}  {b.site}  {b.study_id}  {b.code or '-'}  {megabytes(b.bytes)} MB  "
            f"since {b.began_at[:16].replace('T', ' ')} UTC"
            for b in refused
        ]
        text = "\n".join(lines) or "Nothing is in quarantine."
        emit({"bundles": [vars(bundle) for bundle in refused]}, text, as_json=as_json)


@quarantine_app.command("discard")
def discard(sha256: str, because: BecauseOption, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Deletes a refused bundle. It is never accepted, also later; what it took of its site's share is free again."""
    with errors(as_json=as_json):
        from coordinator.quarantine import discard as discard_bundle
        from coordinator.store.store import Store

        reason, here = reason_of(because, "why the bundle was discarded"), Home(home)
        here.settings()
        news = discard_bundle(here, Store(here.database_url()), sha256, reason, actor=OPERATOR)
        said = f"{sha256} is discarded." if news else f"{sha256} was discarded before."
        emit({"bundle": sha256, "discarded_now": news}, said, as_json=as_json)
