"""The site's private database: cases, releases, the ledger and the trainer's journal, in private/site.db.

Cases are the hospital's images as import normalised them, one PNG each for image and mask under private/cases, named
by their case id. Patient keys stand here and nowhere else.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sqlalchemy import Column, Connection, Engine, Integer, LargeBinary, MetaData, String, Table, select

from shared.database import open_database, reading, sqlite_url
from shared.errors import SynthwardError
from shared.files import private_folder, sync_folder, whole_folder
from shared.journal import append, journal_table
from shared.pairs import Pair, resize_pair, with_channels
from shared.study import ImageSpec
from shared.upgrade import make_tables
from site_node.airlock.schema import asked_for_table, releases_table, touched_table, votes_table
from site_node.cohort import Side, Split, split_by_patient
from site_node.dp.schema import ledger_tables
from site_node.intake.patients import PatientsFrom
from site_node.intake.text_record import TextRecord, replace_texts, text_counts, text_table
from site_node.scoring.scores import scores_table

metadata = MetaData()
_cases = Table(
    "cases",
    metadata,
    Column("case_id", String, primary_key=True),
    Column("patient", String, nullable=False),
    Column("height", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("folder", String, nullable=False),
)
_patients = Table(
    "patients", metadata, Column("patient", String, primary_key=True), Column("side", String, nullable=False)
)
# Where the patient keys of the imported cases came from, by the name of their folder; no row: not known.
_imports = Table(
    "imports",
    metadata,
    Column("folder", String, primary_key=True),
    Column("patients_from", String, nullable=False),
)
_secret = Table("secret", metadata, Column("name", String, primary_key=True), Column("value", LargeBinary))
case_texts = text_table(metadata)
journal = journal_table(metadata)
ledger = ledger_tables(metadata, journal)
releases = releases_table(metadata)
votes = votes_table(metadata)
asked_for = asked_for_table(metadata)
scores = scores_table(metadata)
touched = touched_table(metadata)


@dataclass(frozen=True)
class Case:
    """One private case. case_id is drawn at import and says nothing; size in pixels."""

    case_id: str
    patient: str
    height: int
    width: int
    folder: Path

    def load(self) -> Pair:
        """The pair's pixels, read from private/cases."""
        image = np.asarray(Image.open(self.folder / f"{self.case_id}.image.png", formats=("PNG",)))
        mask = np.asarray(Image.open(self.folder / f"{self.case_id}.mask.png", formats=("PNG",)))
        return Pair(image, mask)

    def load_for(self, image: ImageSpec) -> Pair:
        """The pair at a study's size and channels."""
        pair = self.load()
        return resize_pair(Pair(with_channels(pair.image, image.channels), pair.mask), image.size_px)


class PrivateStore:
    """The private half's database and cases."""

    def __init__(self, private: Path) -> None:
        self.folder = private
        self.engine: Engine = open_database(sqlite_url(private / "site.db"))
        make_tables(self.engine, metadata)
        self.reading = reading(self.engine)

    def replace_cases(
        self, found: Iterable[tuple[str, Pair]], *, actor: str, texts: Sequence[TextRecord] = (), detail: str = "",
        patients_from: PatientsFrom = "one patient a pair",
    ) -> int:  # fmt: skip
        """Puts (patient, pair) in place of what was imported before; all or nothing; how many.

        texts: what was done about text, in the order of found; detail: counts, for the journal; patients_from: where
        the patients came from, which decides whether differential privacy has a unit here.
        One pair at a time is in memory. The old files go only after the new ones stand in the database.
        """
        name = secrets.token_hex(8)
        target = private_folder(self.folder / "cases") / name
        rows = []
        with whole_folder(target) as partial:
            for patient, pair in found:
                case_id = secrets.token_hex(8)
                for kind, pixels in (("image", pair.image), ("mask", pair.mask)):
                    Image.fromarray(pixels).save(partial / f"{case_id}.{kind}.png", compress_level=1)
                height, width = pair.mask.shape
                rows.append({"case_id": case_id, "patient": patient, "height": height, "width": width, "folder": name})
            if not rows:
                raise SynthwardError("intake.nothing", "there is no usable pair to import")
        with self.engine.begin() as connection:
            connection.execute(_cases.delete())
            connection.execute(_cases.insert(), rows)
            connection.execute(_imports.delete())
            connection.execute(_imports.insert().values(folder=name, patients_from=patients_from))
            replace_texts(connection, case_texts, [str(row["case_id"]) for row in rows], texts)
            append(connection, journal, actor=actor, action="import", subject="cohort", detail=detail)
        for folder in target.parent.iterdir():
            if folder != target:
                shutil.rmtree(folder)
        sync_folder(target.parent)  # a power cut brings back no patient who was taken out
        return len(rows)

    def cases(self) -> list[Case]:
        """All cases. Raises cohort.not-imported when there are none."""
        with self.reading.begin() as connection:
            rows = connection.execute(select(_cases).order_by(_cases.c.case_id)).all()
        if not rows:
            raise SynthwardError("cohort.not-imported", "no data was imported", do="run: synthward-site import")
        root = self.folder / "cases"
        return [Case(r.case_id, r.patient, r.height, r.width, root / r.folder) for r in rows]

    def has_patient_keys(self) -> bool:
        """Whether the hospital said which patient each case shows. Not known of an import of an older version: no."""
        with self.reading.begin() as connection:
            sources = connection.execute(select(_imports.c.patients_from)).scalars().all()
        return bool(sources) and all(source != "one patient a pair" for source in sources)

    def text_counts(self) -> dict[str, int]:
        """Cases by what was done about text in their pixels."""
        with self.reading.begin() as connection:
            return text_counts(connection, case_texts)

    def split(self, cases: Iterable[Case], holdout_fraction: float) -> Split:
        """The site's split by patient. A patient's side is written down the first time and never changes."""
        with self.engine.begin() as connection:
            known: dict[str, Side] = {row.patient: row.side for row in connection.execute(select(_patients))}
            split = split_by_patient(
                {case.patient for case in cases},
                holdout_fraction=holdout_fraction,
                salt=self._secret(connection, "split"),
                known=known,
            )
            new = [{"patient": p, "side": "training"} for p in sorted(split.training - known.keys())]
            new += [{"patient": p, "side": "holdout"} for p in sorted(split.holdout - known.keys())]
            if new:
                connection.execute(_patients.insert(), new)
        return split

    def _secret(self, connection: Connection, name: str) -> bytes:
        """32 random bytes that are drawn once and never leave."""
        row = connection.execute(select(_secret).where(_secret.c.name == name)).first()
        if row is not None:
            return bytes(row.value)
        value = secrets.token_bytes(32)
        connection.execute(_secret.insert().values(name=name, value=value))
        return value

    def seed(self, *parts: str) -> int:
        """A seed in [0, 2**31) that is the same at every call and cannot be guessed outside: patient data."""
        with self.engine.begin() as connection:
            key = self._secret(connection, "seeds")
        digest = hmac.new(key, "\x00".join(parts).encode(), hashlib.sha256).digest()
        return int.from_bytes(digest[:4], "big") >> 1


def training(cases: Iterable[Case], split: Split) -> Iterator[Case]:
    """The cases that generators may learn from."""
    return (case for case in cases if case.patient in split.training)


def holdout(cases: Iterable[Case], split: Split) -> Iterator[Case]:
    """The cases that no generator ever sees."""
    return (case for case in cases if case.patient in split.holdout)
