"""Sessions of signed-in stewards: a random token in a cookie, everything else in the site's private database.

A session ends IDLE_S after its last use, MOST_S after it began, at the sign-out, and with its account. The database
holds the token's SHA-256, so that who reads it cannot go on with somebody's session. The token that protects forms is
derived from the session's, and so belongs to this session alone.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from shared.journal import append
from shared.pairs import sha256_hex
from shared.upgrade import make_tables
from site_node.airlock.accounts_schema import metadata, opened, sessions
from site_node.airlock.workflow import Release
from site_node.cases import PrivateStore, journal

IDLE_S, MOST_S = 30 * 60, 8 * 3600
_TOUCH_S = 30.0  # a page of pictures is many requests: the last use is written down no oftener than this


@dataclass(frozen=True)
class Session:
    """A signed-in steward. token is the cookie's value; form_token stands in every form."""

    name: str
    token: str

    @property
    def form_token(self) -> str:
        """What a form of this session must carry: nobody else's page can know it."""
        return form_token(self.token)


class Sessions:
    """The sessions of one site's review page."""

    def __init__(self, store: PrivateStore, *, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        make_tables(store.engine, metadata)

    def begin(self, name: str, *, instead_of: str | None, how: str) -> Session:
        """A new session with a new token; the one that the browser held before ends. how: password or proxy."""
        session = Session(name, secrets.token_urlsafe(32))
        now = self._now()
        with self._store.engine.begin() as connection:
            ended = (sessions.c.seen_s <= now - IDLE_S) | (sessions.c.begun_s <= now - MOST_S)
            if instead_of is not None:
                ended = ended | (sessions.c.token_sha256 == _sha256(instead_of))
            connection.execute(sessions.delete().where(ended))
            connection.execute(
                sessions.insert().values(token_sha256=_sha256(session.token), name=name, begun_s=now, seen_s=now)
            )
            append(connection, journal, actor=name, action="sign-in", subject=name, detail=how)
        return session

    def find(self, token: str | None) -> Session | None:
        """The session of a cookie, if it has not ended; this is a use of it."""
        if not token or len(token) > 200:
            return None
        mine, now = sessions.c.token_sha256 == _sha256(token), self._now()
        with self._store.reading.begin() as connection:
            row = connection.execute(select(sessions).where(mine)).first()
        if row is None or now - row.seen_s >= IDLE_S or now - row.begun_s >= MOST_S:
            return None
        if now - row.seen_s > _TOUCH_S:
            with self._store.engine.begin() as connection:
                connection.execute(sessions.update().where(mine).values(seen_s=now))
        return Session(row.name, token)

    def end(self, session: Session) -> None:
        """Signs out."""
        with self._store.engine.begin() as connection:
            connection.execute(sessions.delete().where(sessions.c.token_sha256 == _sha256(session.token)))
            append(connection, journal, actor=session.name, action="sign-out", subject=session.name)

    def note_opened(self, session: Session, release: Release) -> None:
        """This session may see this release's pages and pictures, as long as its digest is this one."""
        values = {
            "token_sha256": _sha256(session.token),
            "release_id": release.release_id,
            "bundle_sha256": release.bundle_sha256,
        }
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        again = insert(opened).values(values | {"at": at}).on_conflict_do_update(set_={"at": at})
        with self._store.engine.begin() as connection:
            connection.execute(again)

    def has_opened(self, session: Session, release: Release, *, since: str) -> bool:
        """Whether this session opened this release as it now is, not before `since` (UTC, ISO 8601)."""
        this = (
            (opened.c.token_sha256 == _sha256(session.token))
            & (opened.c.release_id == release.release_id)
            & (opened.c.bundle_sha256 == release.bundle_sha256)
            & (opened.c.at >= since)
        )
        with self._store.reading.begin() as connection:
            return connection.execute(select(opened).where(this)).first() is not None


def form_token(secret: str) -> str:
    """HMAC-SHA-256 of a constant under a secret that only the browser holds."""
    return hmac.new(secret.encode(), b"synthward form", hashlib.sha256).hexdigest()


def _sha256(token: str) -> str:
    return sha256_hex(token.encode())
