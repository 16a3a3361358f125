"""Stewards' accounts: who may act under a steward's name at this site, and how that is proved.

Passwords are kept as argon2id hashes (RFC 9106) in private/site.db, never in the policy. An account alone gives no
right: the policy must name its person as a steward too. After MAX_WRONG wrong passwords within WINDOW_S an account
waits; attempts are counted in the database before the password is looked at, so neither a restart nor many attempts
at once buys one more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, func, select

from shared.errors import SynthwardError
from shared.journal import append
from shared.study import Slug
from shared.upgrade import make_tables
from site_node.airlock.accounts_schema import accounts, attempts, metadata, sessions
from site_node.cases import PrivateStore, journal

MIN_LENGTH, MAX_LENGTH = 12, 1024
MAX_WRONG, WINDOW_S = 5, 15 * 60
ADMINISTRATOR = "administrator"
_slug: TypeAdapter[str] = TypeAdapter(Slug)
# One hash at a time: each takes 64 MiB, and whoever floods the sign-in must not have them all at once.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Account:
    """An account. at: when it was made, UTC, ISO 8601. waits: whether too many wrong passwords came lately."""

    name: str
    at: str
    waits: bool


class Accounts:
    """The accounts of one site."""

    def __init__(
        self, store: PrivateStore, *, hasher: PasswordHasher | None = None, now: Callable[[], float] = time.time
    ) -> None:
        """hasher: argon2-cffi's defaults follow RFC 9106's low-memory advice. now: seconds since 1970."""
        self._store = store
        self._hasher = hasher or PasswordHasher()
        self._now = now
        make_tables(store.engine, metadata)

    def add(self, name: str, password: str) -> None:
        """Makes an account. Raises steward.account when there is one, steward.password-weak, steward.name."""
        check_name(name)
        check_strength(name, password)
        with _one_at_a_time:
            hashed = self._hasher.hash(password)
        with self._store.engine.begin() as connection:
            if _hash_of(connection, name) is not None:
                raise SynthwardError(
                    "steward.account", f"{name} has an account", do=f"to change its password: steward remove {name}"
                )
            connection.execute(
                accounts.insert().values(name=name, password=hashed, at=datetime.now(UTC).isoformat(timespec="seconds"))
            )
            connection.execute(attempts.delete().where(attempts.c.name == name))
            append(connection, journal, actor=ADMINISTRATOR, action="steward-add", subject=name)

    def remove(self, name: str) -> None:
        """Ends an account and its sessions at once. Raises steward.account when there is none."""
        with self._store.engine.begin() as connection:
            if _hash_of(connection, name) is None:
                raise SynthwardError("steward.account", f"{name} has no account", do="see: steward list")
            connection.execute(accounts.delete().where(accounts.c.name == name))
            connection.execute(sessions.delete().where(sessions.c.name == name))
            append(connection, journal, actor=ADMINISTRATOR, action="steward-remove", subject=name)

    def all(self) -> list[Account]:
        """All accounts, by name."""
        with self._store.reading.begin() as connection:
            rows = connection.execute(select(accounts).order_by(accounts.c.name)).all()
            return [Account(row.name, row.at, self._wrong(connection, row.name) >= MAX_WRONG) for row in rows]

    def authenticate(self, name: str, password: str) -> None:
        """Returns when the password is the account's.

        Raises steward.waits after too many wrong ones, without looking at this one; steward.password otherwise, with
        the same words for a wrong password and for a name without an account.
        """
        if len(name) > MAX_LENGTH or len(password) > MAX_LENGTH:
            raise _wrong_password()
        with self._store.engine.begin() as connection:
            connection.execute(attempts.delete().where(attempts.c.at_s <= self._now() - WINDOW_S))
            if self._wrong(connection, name) >= MAX_WRONG:
                raise SynthwardError(
                    "steward.waits",
                    f"{MAX_WRONG} wrong passwords were given for {name} within {WINDOW_S // 60} minutes",
                    why="somebody may be guessing",
                    do=f"wait {WINDOW_S // 60} minutes, then try again; if it was not you, tell your administrator",
                )
            mine = attempts.insert().values(name=name, at_s=self._now()).returning(attempts.c.seq)
            number = int(connection.execute(mine).scalar_one())
            known = _hash_of(connection, name)
        with _one_at_a_time:
            right = self._verify(known, password)
        with self._store.engine.begin() as connection:
            if right:
                connection.execute(attempts.delete().where(attempts.c.name == name))
            elif known is not None:  # names that have no account would only fill the journal
                append(connection, journal, actor=name, action="sign-in-wrong", subject=name)
                if self._counted(connection, name, up_to=number) == MAX_WRONG:
                    append(connection, journal, actor=name, action="sign-in-waits", subject=name)
        if not right:
            raise _wrong_password()

    def _verify(self, hashed: str | None, password: str) -> bool:
        if hashed is None:  # takes as long as verifying: the time of an answer does not tell which names have accounts
            self._hasher.hash(password)
            return False
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    def _wrong(self, connection: Connection, name: str) -> int:
        recent = (attempts.c.name == name) & (attempts.c.at_s > self._now() - WINDOW_S)
        return int(connection.execute(select(func.count()).select_from(attempts).where(recent)).scalar_one())

    def _counted(self, connection: Connection, name: str, *, up_to: int) -> int:
        before = (attempts.c.name == name) & (attempts.c.seq <= up_to)
        return int(connection.execute(select(func.count()).select_from(attempts).where(before)).scalar_one())


def check_name(name: str) -> None:
    """Raises steward.name unless name can stand in the policy's list of stewards."""
    try:
        _slug.validate_python(name)
    except ValidationError as error:
        raise SynthwardError(
            "steward.name", f"{name!r} cannot be a steward's name", do="lower-case letters, digits and hyphens"
        ) from error


def check_strength(name: str, password: str) -> None:
    """Raises steward.password-weak. Length is what counts (NIST SP 800-63B): no rule asks for kinds of signs."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        reason = f"a password has {MIN_LENGTH} to {MAX_LENGTH} characters"
    elif len(set(password)) < 5 or password.replace(name, "").strip() == "":
        reason = "a password of hardly any different characters, or of the name alone, is guessed first"
    else:
        return
    raise SynthwardError("steward.password-weak", reason, do="take four or five words that do not belong together")


def _hash_of(connection: Connection, name: str) -> str | None:
    return connection.execute(select(accounts.c.password).where(accounts.c.name == name)).scalar_one_or_none()


def _wrong_password() -> SynthwardError:
    return SynthwardError(
        "steward.password",
        "the name or the password is wrong",
        do="try again; your administrator makes accounts with: synthward-site steward add",
    )
