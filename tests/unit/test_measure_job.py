"""Figures of real hold-outs: what each arm is trained on, what the gate holds back, and what is compared with what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.findings import Comparison, Distribution
from shared.metrics import NAMES
from shared.orders import ComparisonRequest, DistributionRequest, MeasurementRequest
from shared.pair_arrays import to_arrays
from shared.pairs import Pair
from shared.segmenter import Segmenter, build
from shared.segmenter import to_arrays as weights_of
from shared.study import Study
from shared.weights import digest, pack, save_arrays
from site_node.cases import PrivateStore, ledger, scores
from site_node.dp.ledger import facts
from site_node.policy import Policy
from site_node.scoring import arms
from site_node.scoring.scores import kept
from site_node.work.compare_job import compare_arms
from site_node.work.distance_job import measure_distances
from site_node.work.measure_job import measure
from tests.helpers import noise_pair, refused, small_study
from tests.sites import LENIENT

SHA = "0" * 64
PATIENTS = 12
TINY = {
    "steps": 2, "batch_size": 2, "decoder_channels": (8, 8, 8, 8, 8), "seeds": (0, 1), "few_cases": (3,),
    "arms": ("real_own", "real_plain", "real_classical", "real_and_others", "refined", "synthetic_pooled", "few_real"),
}  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> PrivateStore:
    """Twelve patients with a case each."""
    store = PrivateStore(tmp_path)
    store.replace_cases(((f"patient-{i}", noise_pair(i)) for i in range(PATIENTS)), actor="test")
    return store


@pytest.fixture(scope="module")
def study() -> Study:
    return small_study(evaluation=TINY)


def run(store: PrivateStore, study: Study, *, policy: Policy = LENIENT, **order: Any) -> dict[str, Any]:
    values = {"order_id": "m-1", "study_sha256": SHA, "dataset_version": 1, "seed": 0, **order}
    request = MeasurementRequest.model_validate(values)
    return measure(
        store, study=study, order=request, inbox=store.folder, policy=policy, progress=lambda *_: None
    )  # fmt: skip


def kinds_read(store: PrivateStore) -> list[str]:
    with store.reading.begin() as connection:
        return [fact.kind for fact in facts(connection, ledger)]


def test_a_hospital_that_lets_no_metrics_out_scores_nothing(store: PrivateStore, study: Study) -> None:
    policy = LENIENT.model_copy(update={"metrics_may_leave": False})
    order = ComparisonRequest(order_id="one", study_sha256=SHA, dataset_version=1)
    with refused("policy.metrics"):
        run(store, study, policy=policy, arm="real_own")
    with refused("policy.metrics"):
        compare_arms(store, study=study, order=order, policy=policy)
    assert kinds_read(store) == []


class Trained:
    """Stands in for training: notes what it was given, and hands out a new network."""

    def __init__(self, study: Study) -> None:
        self.model = build(study.evaluation, study.image)
        self.given: dict[str, Any] = {}
        self.pairs: list[Pair] = []

    def __call__(self, pairs: Any, _spec: Any, _image: Any, **given: Any) -> Segmenter:
        self.pairs, self.given = list(pairs), given
        return self.model.eval()


@pytest.fixture
def trained(study: Study, monkeypatch: pytest.MonkeyPatch) -> Trained:
    noted = Trained(study)
    monkeypatch.setattr(arms, "train", noted)
    return noted


def images(pairs: Any) -> set[bytes]:
    return {pair.image.tobytes() for pair in pairs}


def sides(store: PrivateStore) -> tuple[set[bytes], set[bytes]]:
    """Images of the training side and of the hold-out."""
    cases = store.cases()
    split = store.split(cases, LENIENT.holdout_fraction)
    return (
        images(case.load() for case in cases if case.patient in split.training),
        images(case.load() for case in cases if case.patient in split.holdout),
    )


@pytest.mark.parametrize(
    ("arm", "augmentation"), [("real_own", "full"), ("real_plain", "none"), ("real_classical", "classical")]
)
def test_real_arms_learn_from_training_cases_and_never_see_the_holdout(
    store: PrivateStore, study: Study, trained: Trained, arm: str, augmentation: str
) -> None:
    found = run(store, study, arm=arm, seed=1)
    training, holdout = sides(store)
    learnt, chosen_by = images(trained.pairs), images(trained.given["validation"])
    assert learnt | chosen_by == training
    assert not learnt & chosen_by
    assert chosen_by
    assert not (learnt | chosen_by) & holdout
    assert (trained.given["augmentation"], trained.given["seed"]) == (augmentation, 1)
    assert trained.given["steps"] == study.evaluation.steps
    assert (set(found["metrics"]), found["patients"]) == (set(NAMES), len(holdout))
    assert kinds_read(store) == ["training", "metrics"]


def test_the_same_patients_choose_the_checkpoint_in_every_arm_and_with_every_seed(
    store: PrivateStore, study: Study, trained: Trained
) -> None:
    chosen = []
    for arm, seed in (("real_own", 0), ("real_own", 1), ("real_plain", 0)):
        run(store, study, arm=arm, seed=seed)
        chosen.append(images(trained.given["validation"]))
    assert chosen[0] == chosen[1] == chosen[2]


def test_others_pairs_are_learnt_beside_own_cases(store: PrivateStore, study: Study, trained: Trained) -> None:
    others = [noise_pair(100 + i) for i in range(4)]
    sent = to_arrays(others, study.image)
    save_arrays(store.folder / f"{digest(sent)}.safetensors", sent)
    run(store, study, arm="real_and_others", trained_on="others", pairs_sha256=digest(sent))
    assert images(trained.given["beside"]) == images(others)
    assert images(trained.pairs) <= sides(store)[0]


def test_pairs_of_another_size_are_refused(store: PrivateStore, study: Study) -> None:
    sent = {"images": np.zeros((2, 16, 16, 3), np.uint8), "masks": np.zeros((2, 32), np.uint8)}
    save_arrays(store.folder / f"{digest(sent)}.safetensors", sent)
    with refused("pairs.shape"):
        run(store, study, arm="real_and_others", trained_on="others", pairs_sha256=digest(sent))


def test_what_changed_in_the_inbox_is_not_used(store: PrivateStore, study: Study) -> None:
    save_arrays(store.folder / f"{SHA}.safetensors", {"images": np.zeros((1, 32, 32, 3), np.uint8)})
    with refused("storage.damaged"):
        run(store, study, arm="real_and_others", trained_on="others", pairs_sha256=SHA)


def test_a_network_is_refined_from_what_came_in_half_the_steps(
    store: PrivateStore, study: Study, trained: Trained
) -> None:
    weights = pack(weights_of(trained.model))
    save_arrays(store.folder / f"{digest(weights)}.safetensors", weights)
    run(store, study, arm="refined", trained_on="pooled", weights_sha256=digest(weights))
    assert digest(pack(weights_of(trained.given["start"]))) == digest(weights)
    assert trained.given["steps"] == study.evaluation.steps // 2
    assert images(trained.pairs) <= sides(store)[0]


def test_weights_of_another_network_are_refused(store: PrivateStore, study: Study) -> None:
    other = small_study(evaluation={**TINY, "decoder_channels": (16, 8, 8, 8, 8)})
    weights = pack(weights_of(build(other.evaluation, other.image)))
    save_arrays(store.folder / f"{digest(weights)}.safetensors", weights)
    with refused("weights.mismatch"):
        run(store, study, arm="synthetic_pooled", trained_on="pooled", weights_sha256=digest(weights))


def test_few_cases_are_the_first_of_more_and_only_as_many_as_asked(
    store: PrivateStore, study: Study, trained: Trained
) -> None:
    seen = {}
    for n in (2, 3, 6):
        run(store, study, arm="few_real", n=n)
        seen[n] = images(trained.pairs) | images(trained.given["validation"])
        assert len(seen[n]) == n
    assert seen[2] < seen[3] < seen[6] <= sides(store)[0]


def test_few_cases_are_of_as_many_patients_as_there_are(tmp_path: Path, study: Study, trained: Trained) -> None:
    store = PrivateStore(tmp_path)
    frames = [(f"patient-{i % 4}", noise_pair(i)) for i in range(40)]
    store.replace_cases(frames, actor="test")
    of = {pair.image.tobytes(): patient for patient, pair in frames}
    training = {of[image] for image in sides(store)[0]}
    run(store, study, arm="few_real", n=len(training))
    assert {of[image] for image in images(trained.pairs) | images(trained.given["validation"])} == training


def test_a_site_with_too_few_cases_for_an_arm_says_so(store: PrivateStore, study: Study) -> None:
    with refused("policy.arm-without-data"):
        run(store, study, arm="few_real", n=PATIENTS)


def test_few_synthetic_draws_ten_pairs_a_case_from_those_cases_alone(
    store: PrivateStore, study: Study, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[bytes]] = []

    class Drawer:
        """Draws noise, and every third mask empty."""

        def sample(self, seed: int, count: int) -> list[Pair]:
            pairs = [noise_pair(seed % 10_000 + i) for i in range(count)]
            return [Pair(p.image, p.mask * 0) if i % 3 == 0 else p for i, p in enumerate(pairs)]

    def train_cohort(pairs: Any, *_: Any, **__: Any) -> Drawer:
        seen.append(images(pairs))
        return Drawer()

    monkeypatch.setattr(arms, "train_cohort", train_cohort)
    run(store, study, arm="few_synthetic", n=3)
    run(store, study, arm="few_real", n=3)
    assert len(seen[0]) == 3
    assert seen[0] == images(trained.pairs) | images(trained.given["validation"])
    run(store, study, arm="few_synthetic", n=3)
    drawn = [*trained.pairs, *trained.given["validation"]]
    assert len(drawn) == 30
    assert all(pair.mask.any() for pair in drawn)
    assert not images(drawn) & sides(store)[0]


# Comparisons


def compare(store: PrivateStore, study: Study, policy: Policy = LENIENT) -> Comparison:
    order = ComparisonRequest(order_id="one", study_sha256=SHA, dataset_version=1)
    return Comparison.model_validate_json(compare_arms(store, study=study, order=order, policy=policy)["document"])


def test_arms_are_compared_over_their_seeds_on_the_same_patients(
    store: PrivateStore, study: Study, trained: Trained
) -> None:
    for arm, seed in (("real_own", 0), ("real_own", 1), ("real_plain", 0)):
        run(store, study, arm=arm, seed=seed)
    read_before = kinds_read(store)
    found = compare(store, study)
    assert kinds_read(store) == read_before, "a comparison reads no pixel"
    by_arm = {figures.arm: figures for figures in found.arms}
    assert {arm: figures.seeds for arm, figures in by_arm.items()} == {"real_own": 2, "real_plain": 1}
    assert by_arm["real_own"].gains is None
    gains = by_arm["real_plain"].gains
    assert gains is not None
    assert (gains["iou"].mean, gains["iou"].beyond_chance) == (0.0, False), "both networks were the same one"
    assert found.patients == len(sides(store)[1])
    spelled = json.dumps(found.model_dump(mode="json"))
    assert "patient-" not in spelled
    gated = [figure for arm in found.arms for interval in arm.figures.values() for _, figure in interval]
    assert all(figure == round(figure, LENIENT.metric_decimals) for figure in gated)


def test_scores_that_an_attempt_left_are_replaced_not_added(
    store: PrivateStore, study: Study, trained: Trained
) -> None:
    for _ in range(2):
        run(store, study, arm="real_own")
    with store.reading.begin() as connection:
        found = kept(connection, scores, SHA, 1)
    assert [len(by_patient) for by_patient in found["real_own", None, None].values()] == [len(sides(store)[1])]


def test_nothing_measured_is_nothing_to_compare(store: PrivateStore, study: Study) -> None:
    with refused("metrics.not-measured"):
        compare(store, study)


def test_patients_who_came_between_two_measurements_are_not_paired(
    store: PrivateStore, study: Study, trained: Trained
) -> None:
    run(store, study, arm="real_own")
    store.replace_cases(((f"patient-{i}", noise_pair(i)) for i in range(2 * PATIENTS)), actor="test")
    run(store, study, arm="real_plain")
    with refused("metrics.not-measured"):
        compare(store, study)


def test_one_patient_has_no_interval(tmp_path: Path, study: Study, trained: Trained) -> None:
    store = PrivateStore(tmp_path)
    store.replace_cases(((f"patient-{i}", noise_pair(i)) for i in range(3)), actor="test")
    assert run(store, study, arm="real_own")["patients"] == 1
    with refused("cohort.no-holdout"):
        compare(store, study)


def test_in_mode_dp_nothing_is_compared_that_was_not_paid_for(store: PrivateStore) -> None:
    private = small_study(
        privacy={"mode": "dp", "epsilon": 1.0, "delta": 1e-3}, evaluation={**TINY, "arms": ["synthetic_pooled"]}
    )
    with refused("policy.dp-unaccounted"):
        compare(store, private)


# Distances


def test_distances_are_of_whole_sets_and_written_down_as_a_reading(store: PrivateStore, study: Study) -> None:
    sent = to_arrays([noise_pair(200 + i) for i in range(6)], study.image)
    save_arrays(store.folder / f"{digest(sent)}.safetensors", sent)
    order = DistributionRequest(
        order_id="one", study_sha256=SHA, dataset_version=1, trained_on="north", pairs_sha256=digest(sent)
    )
    answer = measure_distances(store, study=study, order=order, inbox=store.folder, policy=LENIENT)
    found = Distribution.model_validate_json(answer["document"])
    assert (found.trained_on, found.patients, found.features) == ("north", PATIENTS, "none")
    assert {m.name for m in found.measures} >= {"patch_wasserstein", "kl_intensity", "kl_masks"}
    assert kinds_read(store) == ["distances"]
