"""What each bundle takes at this coordinator: written down as it begins, freed when it is deleted, and not before.

A bundle's manifest stays in the database for good, so that no refused one is ever accepted after all. Its objects stay
for good once it was accepted. What is neither accepted nor deleted is unfinished, wherever in the folders it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from coordinator.limits import Held, Limits
from coordinator.store import schema
from coordinator.store.store import Store
from shared import journal
from shared.bundle import Manifest
from shared.documents import parse

_bundles, _shares = schema.bundles, schema.shares
_of_bundle = _shares.c.sha256 == _bundles.c.sha256
_unfinished = _bundles.c.receipt.is_(None) & (_shares.c.objects > 0)
_all_bytes = _shares.c.objects + _shares.c.manifest


@dataclass(frozen=True)
class Stated:
    """A bundle as its site states it. objects_bytes: of all objects that the manifest names, each once."""

    sha256: str
    study_sha256: str
    site: str
    manifest: bytes
    signature: bytes
    objects_bytes: int


@dataclass(frozen=True)
class Refused:
    """A bundle that lies in quarantine. began_at: ISO 8601, UTC."""

    sha256: str
    site: str
    study_id: str
    code: str
    bytes: int
    began_at: str


def begin_bundle(store: Store, stated: Stated, limits: Limits) -> None:
    """Records that a bundle is coming in, and what it will take; beginning twice is beginning once.

    Raises admission.share. It is looked at where nobody else can write: of two that begin at once, one has the last
    place. A bundle whose objects were deleted because its study had closed begins as if it were new.
    """
    query = select(_bundles.c.state, _shares.c.objects).outerjoin(_shares, _of_bundle)
    query = query.where(_bundles.c.sha256 == stated.sha256)
    with store.reading.begin() as connection:
        row = connection.execute(query).first()
    if row is not None and (row.state != "incoming" or row.objects != 0):
        return
    with store.engine.begin() as connection:
        row = connection.execute(query).first()
        if row is not None and (row.state != "incoming" or row.objects != 0):
            return  # another connection of the same site was here in between
        more = stated.objects_bytes + (len(stated.manifest) if row is None else 0)
        limits.check_share(stated.site, _held(connection, stated.site), more)
        if row is None:
            connection.execute(
                _bundles.insert().values(
                    sha256=stated.sha256,
                    study_sha256=stated.study_sha256,
                    site=stated.site,
                    state="incoming",
                    code="",
                    manifest=stated.manifest,
                    signature=stated.signature,
                    at=datetime.now(UTC).isoformat(),
                )
            )
        _write(connection, stated.sha256, stated.site, stated.objects_bytes, len(stated.manifest))
        journal.append(
            connection, schema.journal, actor=f"site:{stated.site}", action="begin-bundle", subject=stated.sha256
        )


def free(store: Store, sha256: str, *, actor: str, action: str, detail: str) -> bool:
    """Frees what the objects of a bundle took that was never accepted; False when nothing of it is counted any more.

    Called once they are deleted: who is killed in between has still counted what may still lie there.
    """
    mine = _bundles.c.sha256 == sha256
    with store.engine.begin() as connection:
        row = connection.execute(select(_bundles.c.site).join(_shares, _of_bundle).where(mine, _unfinished)).first()
        if row is None:
            return False
        connection.execute(_shares.update().where(_shares.c.sha256 == sha256).values(objects=0))
        journal.append(connection, schema.journal, actor=actor, action=action, subject=sha256, detail=detail)
    return True


def held_by_site(store: Store) -> dict[str, int]:
    """Site -> bytes of all its bundles here, of those sites that have sent any."""
    query = select(_shares.c.site, func.sum(_all_bytes).label("held")).group_by(_shares.c.site)
    with store.reading.begin() as connection:
        return {row.site: int(row.held) for row in connection.execute(query.order_by(_shares.c.site))}


def in_quarantine(store: Store) -> list[Refused]:
    """Refused bundles that are kept, oldest first; also those that their sites have taken back since."""
    query = (
        select(_bundles.c.sha256, _bundles.c.site, _bundles.c.code, _bundles.c.at)
        .add_columns(schema.studies.c.study_id, _all_bytes.label("bytes"))
        .join(_shares, _of_bundle)
        .join(schema.studies, schema.studies.c.sha256 == _bundles.c.study_sha256)
        .where(_unfinished, _bundles.c.state != "incoming")
        .order_by(_bundles.c.at, _bundles.c.sha256)
    )
    with store.reading.begin() as connection:
        return [
            Refused(row.sha256, row.site, row.study_id, row.code, row.bytes, row.at)
            for row in connection.execute(query)
        ]


def coming_in(store: Store, study_sha256: str) -> list[str]:
    """Bundles of a study that have begun, and of which something may lie here."""
    query = select(_bundles.c.sha256).join(_shares, _of_bundle)
    query = query.where(_bundles.c.study_sha256 == study_sha256, _bundles.c.state == "incoming", _unfinished)
    with store.reading.begin() as connection:
        return [row.sha256 for row in connection.execute(query.order_by(_bundles.c.sha256))]


def count_older(store: Store) -> int:
    """Counts the bundles that an earlier version of this software took in; how many these were."""
    query = select(_bundles.c.sha256).outerjoin(_shares, _of_bundle).where(_shares.c.sha256.is_(None))
    with store.reading.begin() as connection:
        older = [row.sha256 for row in connection.execute(query)]
    for sha256 in older:
        row = store.bundle(sha256)
        if row is None:
            continue
        # Taken back before it was in: that version deleted what had arrived.
        deleted = row.state == "revoked" and row.receipt is None
        objects = 0 if deleted else sum(parse(Manifest, bytes(row.manifest)).objects().values())
        with store.engine.begin() as connection:
            _write(connection, sha256, row.site, objects, len(row.manifest))
    return len(older)


def _held(connection: Connection, site: str) -> Held:
    mine = _shares.c.site == site
    total = connection.execute(select(func.coalesce(func.sum(_all_bytes), 0)).where(mine)).scalar_one()
    unfinished = select(func.count()).select_from(_shares.join(_bundles, _of_bundle)).where(mine, _unfinished)
    return Held(unfinished=connection.execute(unfinished).scalar_one(), bytes=int(total))


def _write(connection: Connection, sha256: str, site: str, objects: int, manifest: int) -> None:
    connection.execute(_shares.delete().where(_shares.c.sha256 == sha256))
    connection.execute(_shares.insert().values(sha256=sha256, site=site, objects=objects, manifest=manifest))
