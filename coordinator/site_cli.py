"""synthward-coordinator site: who takes part, and who no longer may."""

from __future__ import annotations

import typer

from coordinator.cli_options import DEFAULT_HOME, OPERATOR, BecauseOption, HomeOption, JsonOption, megabytes, reason_of
from coordinator.settings import Home
from shared.console import emit, errors, table
from shared.errors import SynthwardError

site_app = typer.Typer(no_args_is_help=True, help="Sites: list them, revoke one.")


@site_app.command("list")
def list_sites(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Every site: its state, when its certificate ends (one that is past its end was away), and what it takes here."""
    with errors(as_json=as_json):
        from coordinator.store.certificates import site_lines
        from coordinator.store.shares import held_by_site
        from coordinator.store.store import Store

        store = Store(Home(home).database_url())
        lines, held = site_lines(store), held_by_site(store)
        if as_json:
            emit({"sites": [{**vars(line), "bytes": held.get(line.name, 0)} for line in lines]}, "", as_json=True)
        else:
            rows = [
                [line.name, line.state, line.certificate_ends[:16].replace("T", " "), megabytes(held.get(line.name, 0))]
                for line in lines
            ]
            table("Sites", ["site", "state", "certificate ends (UTC)", "MB"], rows)


@site_app.command("revoke")
def revoke(
    site: str,
    because: BecauseOption,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Ends a site's part: its next call and its next Flower message are refused. A new invitation lets it back in."""
    with errors(as_json=as_json):
        from coordinator.running import quiet_flower
        from coordinator.store.certificates import revoke_site
        from coordinator.store.store import Store

        reason, here = reason_of(because, "why the site was revoked"), Home(home)
        here.settings()
        store = Store(here.database_url())
        news = revoke_site(store, site, reason, actor=OPERATOR)
        quiet_flower(here)
        gone = _off_the_superlink(here, store.site(site).flower_key)
        said = f"{site} is revoked." if news else f"{site} was revoked before."
        rest = "" if gone else " The SuperLink is not running: its node is taken off when the coordinator starts."
        emit({"site": site, "revoked_now": news, "off_the_superlink": gone}, said + rest, as_json=as_json)


def _off_the_superlink(home: Home, flower_key: bytes) -> bool:
    """Whether the node is off the SuperLink; the coordinator's service sees to it where this cannot."""
    from coordinator.rounds.flower_run import unregister_nodes
    from coordinator.service import superlink

    try:
        unregister_nodes(superlink(home), {flower_key})
    except SynthwardError as error:
        if error.code != "unavailable.service":
            raise
        return False
    return True
