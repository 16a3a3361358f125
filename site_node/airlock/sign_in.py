"""Proving at the command line that one is the steward whom --as names: every command that acts as a person calls this.

A person types the password; a script names a file that holds it. The password is never an argument: those stand in
the shell's history and in the list of processes.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from shared.errors import SynthwardError
from site_node.airlock.accounts import Accounts
from site_node.cases import PrivateStore

PASSWORD_FILE_VARIABLE = "SYNTHWARD_SITE_PASSWORD_FILE"  # noqa: S105 - the name of a variable


def sign_in(store: PrivateStore, person: str, password_file: Path | None) -> None:
    """Returns when the password belongs to person. Raises steward.password, steward.waits, steward.password-unread."""
    Accounts(store).authenticate(person, read_password(password_file, f"Password of {person}: "))


def read_password(file: Path | None, prompt: str) -> str:
    """The first line of the file, or what a person types. Raises steward.password-unread where neither can be had."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").split("\n", 1)[0].removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise SynthwardError(
                "steward.password-unread",
                f"the password file {file} cannot be read ({type(error).__name__})",
                do="name a text file whose first line is the password",
            ) from error
    if not sys.stdin.isatty():
        raise SynthwardError(
            "steward.password-unread",
            "there is no terminal to type the password at",
            why="whoever acts under a steward's name must prove to be that steward",
            do=f"name a file that holds the password: --password-file, or the variable {PASSWORD_FILE_VARIABLE}",
        )
    return getpass.getpass(prompt)


def new_password(file: Path | None, name: str) -> str:
    """A new password, typed twice at a terminal. Raises steward.password-unread, steward.password-weak."""
    first = read_password(file, f"New password of {name}: ")
    if file is None and read_password(None, "Once more: ") != first:
        raise SynthwardError("steward.password-weak", "the two passwords differ", do="try again")
    return first
