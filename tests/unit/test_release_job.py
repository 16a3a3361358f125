"""The release job: what it drafted once, it never drafts again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.bundle import Manifest
from shared.documents import canonical
from shared.errors import SynthwardError
from shared.pairs import Pair, sha256_hex
from shared.study import Study
from site_node.airlock.workflow import Airlock, release_folder
from site_node.cases import PrivateStore, ledger
from site_node.dp.ledger import facts
from site_node.generators.cohort.presets import COHORT_PRESETS
from site_node.generators.per_case.presets import PRESETS
from site_node.screening import screen
from site_node.screening.plausibility import Ranges
from site_node.screening.reference import Reference
from site_node.screening.screen import Screening
from site_node.settings import Settings
from site_node.work.release_job import make_release
from site_node.work.time_left import TrainingProgress
from tests.helpers import lesion_pair, manifest_of, noise_pair, png_objects, small_study
from tests.sites import LENIENT


def test_a_job_that_was_killed_after_drafting_leaves_the_draft_alone(tmp_path: Path) -> None:
    study = small_study()
    sha256 = sha256_hex(canonical(study))
    store = PrivateStore(tmp_path)
    entries, objects = png_objects([noise_pair(1)])
    manifest = manifest_of(study, "north", entries, release_id=f"release-{sha256[:16]}")
    folder = release_folder(store, manifest.release_id) / "objects"
    folder.mkdir(parents=True)
    for name, data in objects.items():
        (folder / f"{name}.png").write_bytes(data)
    drafted = Airlock(store).draft(manifest, {}, made_by="trainer")
    Airlock(store).review(LENIENT, drafted.release_id, "ada")

    again = make_release(
        store,
        site="north",
        study=study,
        study_sha256=sha256,
        policy=LENIENT,
        settings=Settings(),
        progress=lambda *_: None,
    )

    assert again.bundle_sha256 == drafted.bundle_sha256
    assert again.state.value == "in_review"
    assert {path.stem for path in folder.iterdir()} == set(objects)


@pytest.fixture
def store(tmp_path: Path) -> PrivateStore:
    """Eight patients, drawn."""
    store = PrivateStore(tmp_path)
    store.replace_cases(((f"patient-{i}", lesion_pair(i)) for i in range(8)), actor="test")
    return store


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generators that are trained for a moment: what they draw does not matter here."""
    cohort = replace(
        COHORT_PRESETS["demo"],
        layout_widths=(8, 8),
        layout_critic_widths=(8, 8),
        layout=replace(COHORT_PRESETS["demo"].layout, steps=2, batch=2),
        labeller_steps=0,
    )
    monkeypatch.setitem(COHORT_PRESETS, "demo", cohort)
    monkeypatch.setitem(PRESETS, "demo", replace(PRESETS["demo"], width=8, widest=8, iterations=(30, 8)))
    # What they draw is mud, of which nothing would pass; what is dropped is the screening's own tests' question.
    monkeypatch.setattr(screen, "mask_is_plausible", lambda *_: True)
    monkeypatch.setattr(Ranges, "hold", lambda *_: True)
    monkeypatch.setattr(Reference, "flagged", lambda *_: None)


POLICY = LENIENT.model_copy(update={"generators": ("cohort", "per_case")})


def release(store: PrivateStore, study: Study, told: list[tuple[str, int, int]] | None = None) -> Manifest:
    """Makes a release and returns its manifest."""
    stages: list[tuple[str, int, int]] = [] if told is None else told

    def progress(stage: str, done: int, of: int, training: TrainingProgress | None = None) -> None:
        stages.append((stage, done, of))

    made = make_release(
        store, site="north", study=study, study_sha256=sha256_hex(canonical(study)), policy=POLICY,
        settings=Settings(workers=1), progress=progress,
    )  # fmt: skip
    return made.manifest


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("kind", "access"), [("cohort", "training"), ("per_case", "training_each")])
def test_a_release_of_each_kind_says_what_was_read_for_it(store: PrivateStore, kind: str, access: str) -> None:
    study = small_study(
        generator={"kind": kind, "preset": "demo", "samples_per_case": 2},
        style={"kind": "moments", "source": "cohort"}, release={"min_patients": 2, "max_correlation": 0.95},
    )  # fmt: skip

    manifest = release(store, study)

    assert [a.kind for a in manifest.privacy.accesses] == [access, "style", "screening"]
    assert (manifest.generator, manifest.style, manifest.style_source) == (kind, "moments", "cohort")
    assert manifest.pairs
    assert store.cases()
    assert all(Airlock(store).touched(case.patient)[0] for case in store.cases())
    assert ("holds one patient's image" in manifest.privacy.label()) == (kind == "per_case")


@pytest.mark.usefixtures("quick")
def test_the_audit_asks_the_critic_of_a_cohort_what_it_remembers(store: PrivateStore) -> None:
    study = small_study(style={"kind": "none"}, release={"min_patients": 2, "max_correlation": 0.95})
    release(store, study)

    report = Airlock(store).releases()[0].report

    assert [attack["name"] for attack in report["membership"]] == ["distance", "critic"]
    assert report["membership"][1]["limit"] is None
    kept = next((store.folder / "audits").iterdir())
    assert json.loads(kept.read_text()) == report


@pytest.mark.usefixtures("quick")
def test_without_style_no_reading_for_style_is_claimed(store: PrivateStore) -> None:
    study = small_study(style={"kind": "none"}, release={"min_patients": 2, "max_correlation": 0.95})

    assert [a.kind for a in release(store, study).privacy.accesses] == ["training", "screening"]


@pytest.mark.usefixtures("quick")
def test_stored_moments_are_taken_once_and_their_taking_is_in_the_ledger(store: PrivateStore) -> None:
    style = {"kind": "moments", "source": "stored"}
    first, second = (
        small_study(study_id=name, style=style, release={"min_patients": 2, "max_correlation": 0.95})
        for name in ("one", "two")
    )
    taken = release(store, first)
    file = next(store.folder.glob("style-moments-*.json"))
    written = file.read_bytes()

    again = release(store, second)

    assert "moments" in [a.kind for a in taken.privacy.accesses]
    assert "moments" in [a.kind for a in again.privacy.accesses]
    assert file.read_bytes() == written


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", ["cohort", "per_case"])
def test_a_job_that_was_killed_while_sampling_does_not_train_again(
    store: PrivateStore, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = small_study(
        generator={"kind": kind, "preset": "demo", "samples_per_case": 1},
        style={"kind": "none"}, release={"min_patients": 2, "max_correlation": 0.95},
    )  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(Screening, "judge", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            release(store, study)
    files = {path: path.stat().st_mtime_ns for path in (store.folder / "generators").rglob("*.safetensors")}

    release(store, study)

    assert files
    assert {path: path.stat().st_mtime_ns for path in (store.folder / "generators").rglob("*.safetensors")} == files


def test_a_style_that_the_site_cannot_do_is_refused_before_a_pixel_is_read(store: PrivateStore) -> None:
    study = small_study(style={"kind": "gatys", "source": "public"}, release={"min_patients": 2})

    with pytest.raises(SynthwardError) as caught:
        release(store, study)

    assert caught.value.code == "style.weights-missing"
    with store.reading.begin() as connection:
        assert facts(connection, ledger) == []


@pytest.mark.usefixtures("quick")
def test_one_case_that_cannot_be_learnt_is_set_aside_and_named_at_the_site_alone(store: PrivateStore) -> None:
    def speck(seed: int) -> Pair:
        """A lesion of one pixel, which is gone at half the size."""
        mask = np.zeros((64, 64), np.uint8)
        mask[20, 20] = 255
        return Pair(lesion_pair(seed).image, mask)

    store.replace_cases(
        [*((f"patient-{i}", lesion_pair(i)) for i in range(4)), *((f"speck-{i}", speck(i)) for i in range(8, 11))],
        actor="test",
    )
    study = small_study(
        generator={"kind": "per_case", "preset": "demo", "samples_per_case": 1},
        style={"kind": "none"}, release={"min_patients": 1, "max_correlation": 0.95},
    )  # fmt: skip
    policy = POLICY.model_copy(update={"holdout_fraction": 0.2, "min_patients": 1})
    made = make_release(
        store, site="north", study=study, study_sha256=sha256_hex(canonical(study)), policy=policy,
        settings=Settings(workers=1), progress=lambda *_: None,
    )  # fmt: skip
    report = made.report

    specks = {case.case_id for case in store.cases() if case.patient.startswith("speck")}
    assert set(report["set_aside"]) <= specks
    assert set(report["set_aside"].values()) == {"training.mask-none"}
    assert not any(case_id in canonical(made.manifest).decode() for case_id in specks)
