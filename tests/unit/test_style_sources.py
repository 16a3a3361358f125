"""A style says truthfully what it reads, refuses what it cannot use, and is the one that the study asked for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from coordinator.terms import check_terms
from shared.documents import canonical, parse
from shared.pairs import Pixels
from shared.privacy import ACCESS_WORDS
from shared.study import StyleKind, StyleSource, StyleSpec
from site_node.dp.ledger import Fact, statement
from site_node.policy import Policy, check
from site_node.style import interface, public, stored
from site_node.style.interface import ACCESS, Style, another, prepare
from site_node.style.lab import to_lab
from site_node.style.moments import moments
from site_node.style.stored import StoredMoments
from tests.helpers import manifest_of, noise_pair, png_objects, refused
from tests.sites import make_study
from tests.unit.test_style import SPEC, UNHURRIED, blobs, pair_of, style

# What is read


class Spy(list[Pixels]):
    """References that count how often one was read."""

    read = 0

    def __iter__(self) -> Any:
        for image in super().__iter__():
            self.read += 1
            yield image


def full(source: StyleSource, folder: Path, kind: StyleKind = "moments", strength: float = 1.0) -> Style:
    """A style with everything at hand that one could read."""
    for seed in range(2):
        Image.fromarray(blobs(seed, 80, 70, 3)).save(folder / f"{seed}.png")
    taken = stored.take([("a", blobs(1, 40, 40, 3))])
    spec = StyleSpec(kind=kind, source=source, strength=strength)
    return prepare(spec, SPEC, weights=None, public=folder, stored=taken, seed=0)


@pytest.mark.parametrize(
    ("kind", "source", "reads", "files", "references"),
    [
        ("none", "none", "nothing", 0, 0),
        ("moments", "own", "own case", 0, 2),
        ("sliced", "own", "own case", 0, 2),
        ("moments", "cohort", "other training cases", 0, 2),
        ("sliced", "cohort", "other training cases", 0, 2),
        ("moments", "public", "public images", 2, 0),
        ("sliced", "public", "public images", 2, 0),
        ("moments", "stored", "stored moments", 0, 0),
    ],
)
def test_what_is_read_is_what_the_style_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    kind: StyleKind, source: StyleSource, reads: str, files: int, references: int,
) -> None:  # fmt: skip
    opened: list[Path] = []
    genuine = public.read_image
    monkeypatch.setattr(public, "read_image", lambda path, limits: (opened.append(path), genuine(path, limits))[1])
    found = full(source, tmp_path, kind)
    spy = Spy([blobs(5, 64, 64, 3), blobs(6, 64, 64, 3)])
    pairs = [pair_of(blobs(seed, 64, 64, 3)) for seed in (7, 8)]
    found.apply(pairs, spy if references else None, 3)
    assert (found.reads, len(opened), spy.read) == (reads, files, references)


@pytest.mark.parametrize("source", ["public", "stored"])
def test_a_style_that_reads_no_case_takes_none(tmp_path: Path, source: StyleSource) -> None:
    with pytest.raises(ValueError, match="takes no references"):
        full(source, tmp_path).apply([pair_of(blobs(1, 64, 64, 3))], [blobs(2, 64, 64, 3)], 0)


@pytest.mark.parametrize("references", [None, [], [blobs(1, 9, 9, 3)] * 2])
def test_a_style_of_cases_wants_one_for_each_sample(references: list[Pixels] | None) -> None:
    with pytest.raises(ValueError, match="a reference for each pair"):
        style("moments").apply([pair_of(blobs(1, 64, 64, 3))], references, 0)


def test_the_ledger_has_words_for_every_private_reading() -> None:
    assert set(ACCESS) == set(get_args(interface.Reads))
    private = {reads: kind for reads, kind in ACCESS.items() if kind is not None}
    assert private.keys() == {"own case", "other training cases", "stored moments"}
    found = [Fact("", "", kind, "none", 3, "r") for kind in ("training", *private.values())]
    said = " ".join(statement(found, "r").sentences())
    assert all(ACCESS_WORDS[kind] in said for kind in private.values())


@given(st.integers(1, 50), st.integers(0, 2**31))
@UNHURRIED
def test_a_style_of_the_cohort_is_another_cases(count: int, seed: int) -> None:
    own = seed % count
    drawn = another(count, own, seed)
    assert 0 <= drawn < count
    assert drawn != own or count == 1
    assert 0 <= another(count, None, seed) < count


def test_every_other_case_is_drawn_and_the_seed_decides() -> None:
    assert {another(5, 2, seed) for seed in range(100)} == {0, 1, 3, 4}
    assert {another(5, None, seed) for seed in range(100)} == {0, 1, 2, 3, 4}
    assert another(9, 4, 7) == another(9, 4, 7)
    with pytest.raises(ValueError, match="no case"):
        another(0, None, 1)


# Public images


def test_public_images_lend_their_colours(tmp_path: Path) -> None:
    Image.fromarray(blobs(1, 120, 90, 3, mean=60.0)).save(tmp_path / "a.png")
    found = prepare(
        StyleSpec(kind="moments", source="public", strength=1.0),
        SPEC,
        weights=None,
        public=tmp_path,
        stored=None,
        seed=0,
    )
    (after,) = found.apply([pair_of(blobs(2, 64, 64, 3, mean=180.0))], None, 1)
    assert after.image.mean() == pytest.approx(60.0, abs=8.0)


def test_of_very_many_public_images_the_seed_draws_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for level in range(40, 240, 20):
        Image.fromarray(blobs(level, 40, 40, 3, mean=level, spread=3.0)).save(tmp_path / f"{level}.png")
    monkeypatch.setattr(public, "MAX_IMAGES", 4)
    drawn = [[image.mean() for image in public.read_public(tmp_path, SPEC, seed)] for seed in (1, 1, 2)]
    assert len(drawn[0]) == 4
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_folder_of_public_images_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    def ready(folder: Path | None) -> None:
        prepare(StyleSpec(kind="moments", source="public"), SPEC, weights=None, public=folder, stored=None, seed=0)

    for missing in (None, tmp_path / "nowhere"):
        with refused("style.images-missing"):
            ready(missing)
    with refused("style.images-refused"):
        ready(tmp_path)
    Image.fromarray(blobs(1, 40, 40, 3)).save(tmp_path / "good.png")
    ready(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"\x89PNG and no more")
    with refused("style.images-refused"):
        ready(tmp_path)


# Stored moments


def test_each_patient_counts_once_in_stored_moments() -> None:
    one, two, three = (blobs(seed, 40, 40, 3, mean=60.0 * seed) for seed in (1, 2, 3))
    taken = stored.take([("a", one), ("a", two), ("b", three)])
    each = [moments(to_lab(image)) for image in (one, two, three)]
    assert taken.patients == 2
    assert np.allclose(taken.mean, (each[0].mean / 2 + each[1].mean / 2 + each[2].mean) / 2)
    expected = (each[0].covariance / 2 + each[1].covariance / 2 + each[2].covariance) / 2
    assert np.allclose(taken.moments().covariance, expected)


@pytest.mark.parametrize(("channels", "numbers"), [(3, 9), (1, 2)])
def test_stored_moments_are_a_few_numbers_in_a_private_file(tmp_path: Path, channels: int, numbers: int) -> None:
    taken = stored.take([(str(seed), blobs(seed, 40, 40, channels)) for seed in range(3)])
    assert len(taken.mean) + len(taken.covariance) == numbers
    path = stored.moments_file(tmp_path, channels)
    with refused("style.moments"):
        stored.load(path)
    stored.save(path, taken)
    assert path.stat().st_mode & 0o077 == 0
    assert stored.load(path) == taken


def test_a_sample_takes_the_stored_moments() -> None:
    taken = stored.take([("a", blobs(1, 64, 64, 3, mean=100.0, spread=9.0))])
    found = prepare(
        StyleSpec(kind="moments", source="stored", strength=1.0), SPEC, weights=None, public=None, stored=taken, seed=0
    )
    (after,) = found.apply([pair_of(blobs(2, 64, 64, 3, mean=140.0, spread=9.0))], None, 1)
    assert np.abs(moments(to_lab(after.image)).mean - taken.mean).max() < 0.2


@pytest.mark.parametrize("taken", [None, stored.take([("a", blobs(1, 40, 40, 1))])])
def test_stored_moments_that_do_not_fit_are_refused(taken: StoredMoments | None) -> None:
    with refused("style.moments"):
        prepare(StyleSpec(kind="moments", source="stored"), SPEC, weights=None, public=None, stored=taken, seed=0)


@pytest.mark.parametrize(
    "text",
    ["", "{}", '{"channels":1,"patients":1,"mean":[50.0],"covariance":[-5.0]}',
     '{"channels":3,"patients":1,"mean":[50.0,0,0],"covariance":[1.0]}',
     '{"channels":1,"patients":0,"mean":[50.0],"covariance":[1.0]}',
     '{"channels":1,"patients":1,"mean":[NaN],"covariance":[1.0]}'],
)  # fmt: skip
def test_a_file_that_holds_no_moments_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with refused("style.moments"):
        stored.load(tmp_path / "m.json")


def test_moments_need_an_image() -> None:
    with pytest.raises(ValueError, match="no image"):
        stored.take([])


# The study, the policy, the bundle


def test_a_specification_makes_sense_or_is_refused() -> None:
    for kind, source in itertools.product(get_args(StyleKind), get_args(StyleSource)):
        sensible = (kind == "none") == (source == "none") and (source != "stored" or kind == "moments")
        if sensible:
            spec = StyleSpec(kind=kind, source=source)
            assert parse(StyleSpec, canonical(spec)) == spec
        else:
            with pytest.raises(ValidationError):
                StyleSpec(kind=kind, source=source)
    assert StyleSpec.model_validate({"kind": "none"}).source == "none"


@pytest.mark.parametrize("source", get_args(StyleSource))
def test_a_policy_against_real_images_leaves_public_ones(source: StyleSource) -> None:
    generator = {"kind": "per_case", "preset": "demo", "samples_per_case": 2}
    study = make_study(generator=generator, style={"kind": "none" if source == "none" else "moments", "source": source})
    both = ("cohort", "per_case")
    check(Policy(generators=both), study)
    if source in ("own", "cohort", "stored"):
        with refused("policy.style"):
            check(Policy(generators=both, style_from_real=False), study)
    else:
        check(Policy(generators=both, style_from_real=False), study)


@pytest.mark.parametrize("change", [{"style": "sliced"}, {"style_source": "public"}, {"style_source": "own"}])
def test_a_bundle_in_another_style_than_the_studys_is_refused(change: dict[str, object]) -> None:
    study = make_study(image={"size_px": 32})
    entries, _ = png_objects([noise_pair(1)])
    check_terms(manifest_of(study, "north", entries), study)
    with refused("admission.study"):
        check_terms(manifest_of(study, "north", entries, **change), study)
