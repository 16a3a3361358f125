"""A site that takes part in a study of mode dp, with a training of a few steps: for tests of its release."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from shared.documents import canonical
from shared.pairs import Pair, sha256_hex
from shared.study import Study
from site_node.airlock.workflow import Release
from site_node.cases import PrivateStore, ledger
from site_node.dp.ledger import Fact, facts
from site_node.generators.private_cohort import presets
from site_node.generators.private_cohort.presets import Schedule
from site_node.phantoms.scenes import scene
from site_node.policy import Policy
from site_node.settings import Settings
from site_node.work import screening
from site_node.work.machine import Workers
from site_node.work.private_cohort import PrivateCohort
from site_node.work.release_job import make_release
from tests.helpers import small_study
from tests.sites import LENIENT

PATIENTS = 10  # seven are trained on
STEPS = 3
WILLING = LENIENT.model_copy(update={"privacy_modes": ("audited", "dp"), "min_dp_patients": 2, "holdout_fraction": 0.3})
_TINY = replace(
    presets.DEMO, critic_px=16, critic_widths=(8, 8), refiner_width=8, scenes=4, public_steps=2, batch=2
)  # fmt: skip


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings of three private steps over everybody (a rate of 1 is accounted for in no time), few planted copies."""
    monkeypatch.setitem(presets.PRIVATE_PRESETS, "demo", _TINY)
    monkeypatch.setitem(presets.SCHEDULES, "demo", Schedule(1.0, STEPS))
    monkeypatch.setattr(screening, "CONTROL_CASES", 2)


def private_study(**changes: object) -> Study:
    """32 px, epsilon 2 at delta 1e-3, one pair for each training patient."""
    values: dict[str, object] = {
        "privacy": {"mode": "dp", "epsilon": 2.0, "delta": 1e-3},
        "generator": {"preset": "demo", "samples_per_case": 1},
        "evaluation": {"steps": 2, "arms": ["synthetic_own", "synthetic_pooled"]},
    }
    return small_study(**(values | changes))


def drawn(seed: int) -> Pair:
    """A patient of nobody."""
    return scene("fundus", seed, 32)


def site_with(folder: Path, images: Callable[[int], Sequence[Pair]] = lambda seed: [drawn(seed)]) -> PrivateStore:
    """Patients with keys. images: of each, by number."""
    folder.mkdir(exist_ok=True)
    store = PrivateStore(folder)
    found = ((f"patient-{i}", pair) for i in range(PATIENTS) for pair in images(i))
    store.replace_cases(found, actor="test", patients_from="patients.csv")
    return store


def blind(store: PrivateStore) -> None:
    """Deletes every image, so that whoever opens one ends with another error."""
    for path in (store.folder / "cases").rglob("*.png"):
        path.unlink()


def release(store: PrivateStore, study: Study, policy: Policy = WILLING, **settings: object) -> Release:
    """The whole job."""
    return make_release(
        store, site="north", study=study, study_sha256=sha256_hex(canonical(study)), policy=policy,
        settings=Settings.model_validate({"workers": 1, "threads": 1, "device": "cpu", **settings}),
        progress=lambda *_: None,
    )  # fmt: skip


def source_of(store: PrivateStore, study: Study, policy: Policy = WILLING) -> PrivateCohort:
    """The training alone, as the job does it."""
    sha256 = sha256_hex(canonical(study))
    cases = [case for case in store.cases() if case.patient in store.split(store.cases(), 0.3).training]
    return PrivateCohort(store, study, sha256, f"release-{sha256[:16]}", policy, Workers(device="cpu"), cases, 1)


def spent_at(store: PrivateStore) -> list[Fact]:
    """The noised readings in the site's ledger."""
    with store.reading.begin() as connection:
        return [fact for fact in facts(connection, ledger) if fact.noised is not None]
