"""Each hold-out patient's scores, one network after the other, in the private database: what intervals come from.

They are patient data, and stay: what leaves is averages and their intervals, by site_node/scoring/comparison.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, select

from shared.metrics import Metrics
from shared.orders import MeasurementRequest
from shared.study import Arm

# (arm, trained_on, n) -> seed -> patient key -> the patient's means
Scores = dict[tuple[Arm, str | None, int | None], dict[int, dict[str, Metrics]]]


def scores_table(metadata: MetaData) -> Table:
    """A row for each network and patient. job: the measurement's order, once each."""
    return Table(
        "scores",
        metadata,
        Column("study_sha256", String(64), primary_key=True),
        Column("dataset_version", Integer, primary_key=True),
        Column("arm", String, primary_key=True),
        Column("trained_on", String, primary_key=True),  # empty: nothing came with the order
        Column("n", Integer, primary_key=True),  # 0: all
        Column("seed", Integer, primary_key=True),
        Column("patient", String, primary_key=True),
        Column("figures", String, nullable=False),
    )


def keep(connection: Connection, table: Table, order: MeasurementRequest, found: Mapping[str, Metrics]) -> None:
    """Writes a network's scores; those of the same order that an earlier attempt left are replaced."""
    key = {
        "study_sha256": order.study_sha256, "dataset_version": order.dataset_version, "arm": order.arm,
        "trained_on": order.trained_on or "", "n": order.n or 0, "seed": order.seed,
    }  # fmt: skip
    connection.execute(table.delete().filter_by(**key))
    rows = [{**key, "patient": patient, "figures": figures.model_dump_json()} for patient, figures in found.items()]
    connection.execute(table.insert(), rows)


def kept(connection: Connection, table: Table, study_sha256: str, dataset_version: int) -> Scores:
    """All scores of one dataset version."""
    query = select(table).filter_by(study_sha256=study_sha256, dataset_version=dataset_version)
    found: Scores = defaultdict(lambda: defaultdict(dict))
    for row in connection.execute(query):
        arm = (row.arm, row.trained_on or None, row.n or None)
        found[arm][row.seed][row.patient] = Metrics.model_validate_json(row.figures)
    return {arm: dict(seeds) for arm, seeds in found.items()}
