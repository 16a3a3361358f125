"""The coordinator's record of sites, studies, bundles, datasets and measurements.

Every method is one transaction; every change carries its journal entry in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from coordinator.store import schema
from shared import journal
from shared.database import open_database, reading
from shared.documents import parse
from shared.errors import SynthwardError
from shared.identity import certificate_key, key_sha256, validity
from shared.metrics import Metrics
from shared.study import Arm, Study
from shared.upgrade import make_tables


@dataclass(frozen=True)
class Site:
    """An enrolled site. certificate_serial: of its enrolment; what it renewed since is in store/certificates.py."""

    name: str
    state: str
    certificate_serial: str
    signing_key: bytes
    flower_key: bytes
    node_id: int


@dataclass(frozen=True)
class PublishedStudy:
    """A study as it was signed."""

    sha256: str
    payload: bytes
    signature: bytes

    @property
    def study(self) -> Study:
        """The parsed document."""
        return parse(Study, self.payload)


@dataclass(frozen=True)
class Measurement:
    """What a site answered to one measurement: metrics, or a code that says why there are none."""

    measurement_id: str
    dataset_version: int
    arm: Arm
    trained_on: str | None
    n: int | None
    seed: int
    site: str
    code: str
    metrics: Metrics | None
    patients: int | None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "metrics": self.metrics.model_dump() if self.metrics else None}


class Store:
    """The coordinator's database."""

    def __init__(self, url: str) -> None:
        self.engine = open_database(url)
        make_tables(self.engine, schema.metadata)
        self.reading = reading(self.engine)  # for transactions that change nothing

    @contextmanager
    def _write(self, actor: str, action: str, subject: str, detail: str = "") -> Iterator[Connection]:
        with self.engine.begin() as connection:
            yield connection
            journal.append(connection, schema.journal, actor=actor, action=action, subject=subject, detail=detail)

    def record(self, actor: str, action: str, subject: str, detail: str = "") -> None:
        """An entry in the journal for something that changed no table."""
        with self._write(actor, action, subject, detail):
            pass

    def journal(self) -> list[journal.Entry]:
        """The whole journal."""
        with self.reading.begin() as connection:
            return journal.entries(connection, schema.journal)

    # Invitations and sites

    def invite(self, site: str, secret_sha256: str, valid_for: timedelta, *, actor: str) -> None:
        """Records an invitation by the digest of its secret; the secret itself is nowhere."""
        with self._write(actor, "invite", site) as connection:
            connection.execute(
                schema.invitations.insert().values(
                    secret_sha256=secret_sha256, site=site, expires_at=(datetime.now(UTC) + valid_for).isoformat()
                )
            )

    def invited_site(self, secret_sha256: str, *, used_by: bytes) -> str:
        """The site that an invitation is for. Raises trust.invitation-unknown, -used or -expired.

        A used invitation still holds for the site that used it, known by its signing key.
        """
        with self.reading.begin() as connection:
            return self._invited_site(connection, secret_sha256, used_by)

    def _invited_site(self, connection: Connection, secret_sha256: str, used_by: bytes) -> str:
        table = schema.invitations
        row = connection.execute(select(table).where(table.c.secret_sha256 == secret_sha256)).first()
        ask = "ask the coordinator's operator for a new invitation"
        if row is None:
            raise SynthwardError("trust.invitation-unknown", "the invitation is not one of ours", do=ask)
        known = connection.execute(select(schema.sites).where(schema.sites.c.name == row.site)).first()
        again = known is not None and bytes(known.signing_key) == used_by
        if row.used_at is not None and again and known is not None and known.state == "revoked":
            raise SynthwardError("trust.revoked", f"site {row.site} was revoked", do=ask)
        if row.used_at is not None and not again:
            raise SynthwardError("trust.invitation-used", f"the invitation of {row.site} was used before", do=ask)
        if datetime.now(UTC) >= datetime.fromisoformat(row.expires_at):
            raise SynthwardError("trust.invitation-expired", f"the invitation of {row.site} has expired", do=ask)
        return str(row.site)

    def enrol(self, secret_sha256: str, site: Site, certificate: bytes = b"") -> None:
        """Uses up the invitation and records the site with its certificate, all or nothing.

        certificate: PEM; empty: known by its serial number only. What the site had before holds no longer.
        """
        with self._write(f"site:{site.name}", "enrol", site.name) as connection:
            if self._invited_site(connection, secret_sha256, site.signing_key) != site.name:
                raise SynthwardError("trust.identity", "the invitation is another site's")
            now = datetime.now(UTC).isoformat()
            table = schema.invitations
            connection.execute(table.update().where(table.c.secret_sha256 == secret_sha256).values(used_at=now))
            # A site that lost its keys is invited again under its name: the new keys take the old ones' place.
            # The row stays: its bundles and answers hang on it.
            values = {**vars(site), "node_id": str(site.node_id), "enrolled_at": now}
            again = connection.execute(schema.sites.update().where(schema.sites.c.name == site.name).values(**values))
            if again.rowcount == 0:
                connection.execute(schema.sites.insert().values(**values))
            held = schema.certificates
            connection.execute(held.delete().where(held.c.site == site.name))
            if certificate:
                connection.execute(
                    held.insert().values(
                        serial=site.certificate_serial,
                        site=site.name,
                        key_sha256=key_sha256(certificate_key(certificate)),
                        pem=certificate,
                        issued_at=now,
                        ends_at=validity(certificate).end.isoformat(),
                    )
                )

    def site(self, name: str) -> Site:
        """An enrolled site. Raises site.unknown."""
        with self.reading.begin() as connection:
            row = connection.execute(select(schema.sites).where(schema.sites.c.name == name)).first()
        if row is None:
            raise SynthwardError("site.unknown", f"no site is called {name}")
        return _site(row)

    def sites(self) -> list[Site]:
        """All enrolled sites by name."""
        with self.reading.begin() as connection:
            rows = connection.execute(select(schema.sites).order_by(schema.sites.c.name)).all()
        return [_site(row) for row in rows]

    # Studies and what sites said of them

    def publish(self, study: PublishedStudy, *, actor: str) -> None:
        """Records a signed study; publishing the same one again is nothing. Raises study.exists."""
        study_id = study.study.study_id
        with self.engine.begin() as connection:
            row = connection.execute(select(schema.studies).where(schema.studies.c.study_id == study_id)).first()
            if row is not None:
                if row.sha256 == study.sha256:
                    return
                raise SynthwardError(
                    "study.exists",
                    f"study {study_id} was published with other content",
                    why="sites have agreed to that one",
                    do="publish the new one under a new study_id",
                )
            connection.execute(
                schema.studies.insert().values(
                    **vars(study), study_id=study_id, published_at=datetime.now(UTC).isoformat()
                )
            )
            journal.append(connection, schema.journal, actor=actor, action="publish", subject=study_id)

    def studies(self) -> list[PublishedStudy]:
        """All published studies, oldest first."""
        with self.reading.begin() as connection:
            rows = connection.execute(select(schema.studies).order_by(schema.studies.c.published_at)).all()
        return [_study(row) for row in rows]

    def study(self, name: str) -> PublishedStudy:
        """The study with this id or SHA-256. Raises study.unknown."""
        for study in self.studies():
            if name in (study.sha256, study.study.study_id):
                return study
        raise SynthwardError("study.unknown", f"no study is called {name}")

    def deliveries(self, study_sha256: str) -> dict[str, tuple[str, str]]:
        """Site -> (state, code) of every answer to a study."""
        table = schema.deliveries
        with self.reading.begin() as connection:
            rows = connection.execute(select(table).where(table.c.study_sha256 == study_sha256)).all()
        return {row.site: (row.state, row.code) for row in rows}

    def answered(self, study_sha256: str, site: str, state: str, code: str) -> None:
        """Records a site's answer to a study; the last answer holds."""
        table = schema.deliveries
        with self._write(f"site:{site}", f"study-{state}", study_sha256, code) as connection:
            connection.execute(table.delete().where(table.c.study_sha256 == study_sha256, table.c.site == site))
            connection.execute(
                table.insert().values(
                    study_sha256=study_sha256, site=site, state=state, code=code, at=datetime.now(UTC).isoformat()
                )
            )

    # Bundles

    def bundle(self, sha256: str) -> Row[Any] | None:
        """A bundle's row, if it was ever begun."""
        with self.reading.begin() as connection:
            return connection.execute(select(schema.bundles).where(schema.bundles.c.sha256 == sha256)).first()

    def bundles(self, study_sha256: str, state: str) -> list[Row[Any]]:
        """A study's bundles in one state, by site and digest."""
        table = schema.bundles
        query = select(table).where(table.c.study_sha256 == study_sha256, table.c.state == state)
        with self.reading.begin() as connection:
            return list(connection.execute(query.order_by(table.c.site, table.c.sha256)).all())

    def accept_bundle(self, sha256: str, receipt: bytes, signature: bytes, *, site: str) -> tuple[bytes, bytes]:
        """Marks a bundle accepted, once; answers with the receipt that stands, which may be an earlier one.

        Raises admission.revoked.
        """
        table = schema.bundles
        with self.engine.begin() as connection:
            row = connection.execute(select(table).where(table.c.sha256 == sha256)).one()
            if row.state == "accepted":
                return bytes(row.receipt), bytes(row.receipt_signature)
            if row.state == "revoked":
                raise SynthwardError("admission.revoked", f"bundle {sha256} was taken back meanwhile")
            connection.execute(
                table.update()
                .where(table.c.sha256 == sha256)
                .values(state="accepted", receipt=receipt, receipt_signature=signature)
            )
            journal.append(connection, schema.journal, actor=f"site:{site}", action="accept-bundle", subject=sha256)
        return receipt, signature

    def quarantine_bundle(self, sha256: str, code: str, *, site: str) -> None:
        """Marks a bundle refused for good."""
        table = schema.bundles
        with self._write(f"site:{site}", "quarantine-bundle", sha256, code) as connection:
            connection.execute(
                table.update()
                .where(table.c.sha256 == sha256, table.c.state == "incoming")
                .values(state="quarantined", code=code)
            )

    # Datasets and measurements

    def add_dataset(self, study_sha256: str, sha256: str, version: int, payload: bytes, *, actor: str) -> None:
        """Records an immutable dataset version."""
        with self._write(actor, "build-dataset", f"{study_sha256}/v{version}", sha256) as connection:
            connection.execute(
                schema.datasets.insert().values(
                    study_sha256=study_sha256,
                    version=version,
                    sha256=sha256,
                    payload=payload,
                    built_at=datetime.now(UTC).isoformat(),
                )
            )

    def datasets(self, study_sha256: str) -> list[Row[Any]]:
        """A study's dataset versions in order."""
        table = schema.datasets
        with self.reading.begin() as connection:
            query = select(table).where(table.c.study_sha256 == study_sha256).order_by(table.c.version)
            return list(connection.execute(query).all())

    def add_measurement(self, study_sha256: str, measurement: Measurement) -> None:
        """Records a site's answer, once a (measurement, site)."""
        key = f"{measurement.measurement_id}@{measurement.site}"
        values = {
            **vars(measurement),
            "measurement_id": key,
            "study_sha256": study_sha256,
            "state": "done" if measurement.metrics else "refused",
            "metrics": measurement.metrics.model_dump_json() if measurement.metrics else None,
            "at": datetime.now(UTC).isoformat(),
        }
        table = schema.measurements
        with self._write(f"site:{measurement.site}", "measurement", key, measurement.code) as connection:
            connection.execute(table.delete().where(table.c.measurement_id == key))
            connection.execute(table.insert().values(**values))

    def measurements(self, study_sha256: str, version: int) -> list[Measurement]:
        """All answers for one dataset version."""
        table = schema.measurements
        query = select(table).where(table.c.study_sha256 == study_sha256, table.c.dataset_version == version)
        with self.reading.begin() as connection:
            rows = connection.execute(query.order_by(table.c.measurement_id)).all()
        return [
            Measurement(
                row.measurement_id.rpartition("@")[0],
                row.dataset_version,
                row.arm,
                row.trained_on,
                row.n,
                row.seed,
                row.site,
                row.code,
                Metrics(**json.loads(row.metrics)) if row.metrics else None,
                row.patients,
            )
            for row in rows
        ]


def _study(row: Row[Any]) -> PublishedStudy:
    return PublishedStudy(row.sha256, bytes(row.payload), bytes(row.signature))


def _site(row: Row[Any]) -> Site:
    return Site(
        row.name, row.state, row.certificate_serial, bytes(row.signing_key), bytes(row.flower_key), int(row.node_id)
    )
