"""The phantom scenes: the same by seed, different between seeds, and a data folder that the intake takes as it is."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from site_node.intake.folders import IntakeLimits, load_case, read_folder
from site_node.phantoms.scenes import Look, scene, write_site

LOOKS = get_args(Look)
each_look = pytest.mark.parametrize("look", LOOKS)


@each_look
def test_the_same_seed_draws_the_same_scene(look: Look) -> None:
    first, second = scene(look, 7, 48), scene(look, 7, 48)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)


@each_look
def test_seeds_differ_in_place_and_size_of_the_lesion_and_in_colour(look: Look) -> None:
    pairs = [scene(look, seed, 48) for seed in range(12)]
    centres = np.array([np.argwhere(pair.mask).mean(axis=0) for pair in pairs])
    shares = [(pair.mask > 0).mean() for pair in pairs]
    colours = np.array([pair.image[pair.mask > 0].mean(axis=0) for pair in pairs])
    assert np.all(centres.std(axis=0) > 2.0)
    assert max(shares) > 1.5 * min(shares)
    assert np.all(colours.std(axis=0) > 3.0)


@each_look
@pytest.mark.parametrize("size_px", [32, 64, 97])
def test_a_scene_is_an_rgb_pair_with_a_lesion_of_3_to_25_per_cent(look: Look, size_px: int) -> None:
    for seed in range(6):
        pair = scene(look, seed, size_px)
        assert pair.image.shape == (size_px, size_px, 3)
        assert set(np.unique(pair.mask)) == {0, 255}
        assert 0.025 <= (pair.mask > 0).mean() <= 0.26  # a pixel row more or less at the outline


@each_look
def test_the_lesion_can_be_seen_on_its_surroundings(look: Look) -> None:
    for seed in range(6):
        pair = scene(look, seed, 64)
        lesion = pair.mask > 0
        lit = (pair.image.max(axis=2) > 40) & ~lesion
        apart = np.abs(pair.image[lesion].mean(axis=0) - pair.image[lit].mean(axis=0)).max()
        assert apart > 5


def test_the_two_endoscopes_differ_in_colour_and_in_the_size_of_polyps() -> None:
    warm = [scene("endoscopy_warm", seed, 48) for seed in range(10)]
    cool = [scene("endoscopy_cool", seed, 48) for seed in range(10)]
    redness = [np.mean([p.image[..., 0].mean() / p.image[..., 2].mean() for p in pairs]) for pairs in (warm, cool)]
    shares = [np.mean([(p.mask > 0).mean() for p in pairs]) for pairs in (warm, cool)]
    assert redness[0] > 1.3 * redness[1]
    assert shares[0] > 1.3 * shares[1]


@each_look
def test_the_intake_takes_a_written_site_as_it_is(tmp_path: Path, look: Look) -> None:
    write_site(tmp_path, look, patients=3, cases_per_patient=2, size_px=48, seed=5)
    found = read_folder(tmp_path, IntakeLimits())
    assert found.problems == ()
    assert found.patients_from == "patients.csv"
    assert [case.patient for case in found.cases] == [f"patient-{number:03d}" for number in (0, 0, 1, 1, 2, 2)]
    assert load_case(found.cases[0], IntakeLimits()).image.shape == (48, 48, 3)


def test_a_site_is_written_the_same_again_and_another_seed_is_another_site(tmp_path: Path) -> None:
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        write_site(tmp_path / name, "fundus", patients=2, cases_per_patient=1, size_px=32, seed=seed)
    one, again, other = ((tmp_path / name / "images/0001.png").read_bytes() for name in ("first", "again", "other"))
    assert one == again
    assert one != other


def test_pictures_of_one_patient_are_alike_in_colour_and_differ_in_view(tmp_path: Path) -> None:
    write_site(tmp_path, "endoscopy_cool", patients=4, cases_per_patient=4, size_px=48, seed=3)
    pairs = [load_case(case, IntakeLimits()) for case in read_folder(tmp_path, IntakeLimits()).cases]
    # Green over red inside the lesion: the patient's colour, whatever the light of the view.
    hues = np.array([np.median(p.image[p.mask > 0, 1] / (p.image[p.mask > 0, 0] + 1.0)) for p in pairs]).reshape(4, 4)
    assert hues.std(axis=1).mean() < hues.mean(axis=1).std()
    assert len({pair.mask.tobytes() for pair in pairs}) == 16
