"""The release job: what it drafted once, it never drafts again."""

from __future__ import annotations

from pathlib import Path

from shared.documents import canonical
from shared.pairs import sha256_hex
from site_node.airlock.workflow import Airlock, release_folder
from site_node.cases import PrivateStore
from site_node.work.release_job import make_release
from tests.helpers import manifest_of, noise_pair, png_objects, small_study
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
        store, site="north", study=study, study_sha256=sha256, policy=LENIENT, progress=lambda *_: None
    )

    assert again.bundle_sha256 == drafted.bundle_sha256
    assert again.state.value == "in_review"
    assert {path.stem for path in folder.iterdir()} == set(objects)
