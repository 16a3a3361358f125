"""synthward-site steward: the accounts of those who review. What the administrator of the site's folder types."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared.console import emit, errors, table
from site_node.cli_options import DEFAULT_HOME, HomeOption, JsonOption
from site_node.settings import Home

steward = typer.Typer(no_args_is_help=True, help="The accounts of those who review.")
NewPasswordOption = Annotated[
    Path | None, typer.Option("--password-file", help="A file whose first line is the new password.")
]


@steward.command(name="add")
def steward_add(
    name: str, password_file: NewPasswordOption = None, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False
) -> None:
    """Makes an account with a password, for somebody whom policy.toml names as a steward."""
    with errors(as_json=as_json):
        from site_node.airlock.accounts import Accounts
        from site_node.airlock.sign_in import new_password
        from site_node.cases import PrivateStore
        from site_node.policy import read_policy

        here = Home(home).ready()
        Accounts(PrivateStore(here.private)).add(name, new_password(password_file, name))
        named = name in read_policy(here.policy_file).stewards
        missing = "" if named else f" It has no rights until {here.policy_file} names {name} in `stewards`."
        emit({"steward": name, "in_policy": named}, f"{name} has an account.{missing}", as_json=as_json)


@steward.command(name="list")
def steward_list(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Who is a steward by the policy, and who has an account: it takes both."""
    with errors(as_json=as_json):
        from site_node.airlock.accounts import Accounts
        from site_node.cases import PrivateStore
        from site_node.policy import read_policy

        here = Home(home).ready()
        found = {account.name: account for account in Accounts(PrivateStore(here.private)).all()}
        policy = set(read_policy(here.policy_file).stewards)
        rows = [
            {
                "steward": name,
                "in_policy": name in policy,
                "account": name in found,
                "since": found[name].at if name in found else "",
                "waits": name in found and found[name].waits,
            }
            for name in sorted(policy | found.keys())
        ]
        if as_json:
            emit({"stewards": rows}, "", as_json=True)
        else:
            words = {True: "yes", False: "no"}
            table(
                "Stewards", ["name", "in the policy", "account", "since", "waits after wrong passwords"],
                [[str(r["steward"]), words[bool(r["in_policy"])], words[bool(r["account"])], str(r["since"])[:10],
                  words[bool(r["waits"])]] for r in rows],
            )  # fmt: skip


@steward.command(name="remove")
def steward_remove(name: str, home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """Ends an account and its sessions. Votes that were given stand, as long as the policy names the person."""
    with errors(as_json=as_json):
        from site_node.airlock.accounts import Accounts
        from site_node.cases import PrivateStore

        Accounts(PrivateStore(Home(home).ready().private)).remove(name)
        emit({"steward": name}, f"{name} has no account any more.", as_json=as_json)
