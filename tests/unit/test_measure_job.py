"""The metric gate: what a hospital does not let out is not even computed."""

from __future__ import annotations

from pathlib import Path

from shared.study import MeasurementRequest
from site_node.cases import PrivateStore, ledger
from site_node.dp.ledger import facts
from site_node.work.measure_job import measure
from tests.helpers import noise_pair, refused, small_study
from tests.sites import LENIENT


def test_a_hospital_that_lets_no_metrics_out_scores_nothing(tmp_path: Path) -> None:
    store = PrivateStore(tmp_path)
    store.replace_cases(((f"patient-{i}", noise_pair(i)) for i in range(6)), actor="test")
    order = MeasurementRequest(measurement_id="one", study_sha256="0" * 64, dataset_version=1, arm="real_own")
    policy = LENIENT.model_copy(update={"metrics_may_leave": False})

    with refused("policy.metrics"):
        measure(store, study=small_study(), order=order, inbox=tmp_path, policy=policy, progress=lambda *_: None)

    with store.reading.begin() as connection:
        assert facts(connection, ledger) == []
