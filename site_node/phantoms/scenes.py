"""Scenes of nobody: procedural endoscopy and fundus pictures with their masks.

They stand in for a hospital's folder where there is none (the demo, the tests), and serve as a public prior, because
no patient is in them. They are drawings: shapes, light and colours were set by eye, and no statement about an organ
can be drawn from them. The same arguments give the same bytes; no file is read and nothing is trained.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from shared.pairs import Pair
from site_node.phantoms.drawing import Character
from site_node.phantoms.endoscopy import SCOPES, camera, endoscopy
from site_node.phantoms.fundus import fundus

Look = Literal["endoscopy_warm", "endoscopy_cool", "fundus"]

_OVERSAMPLING = 2  # scenes are drawn at twice their size, then averaged down
_LOOK_SEEDS: dict[Look, int] = {"endoscopy_warm": 1, "endoscopy_cool": 2, "fundus": 3}


def scene(look: Look, seed: int, size_px: int) -> Pair:
    """One picture of a patient of its own: image uint8 [size_px, size_px, 3] RGB, mask uint8 [size_px, size_px]."""
    return _view(look, patient=seed, view=0, size_px=size_px)


def write_site(folder: Path, look: Look, *, patients: int, cases_per_patient: int, size_px: int, seed: int) -> None:
    """Writes a data folder as the intake reads it: images/NNNN.png, masks/NNNN.png and patients.csv.

    A patient's pictures share colour and kind of lesion and differ in view, as frames of one examination do.
    """
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(patients * cases_per_patient):
        patient, view = divmod(number, cases_per_patient)
        pair = _view(look, patient=seed * 100_003 + patient, view=view, size_px=size_px)
        Image.fromarray(pair.image).save(folder / "images" / f"{number:04d}.png")
        Image.fromarray(pair.mask).save(folder / "masks" / f"{number:04d}.png")
        rows.append((f"{number:04d}.png", f"patient-{patient:03d}"))
    with (folder / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "patient"), *rows])


def _view(look: Look, *, patient: int, view: int, size_px: int) -> Pair:
    character = _character(look, np.random.default_rng([_LOOK_SEEDS[look], patient]))
    rng = np.random.default_rng([_LOOK_SEEDS[look], patient, 1 + view])  # 1 +: a trailing 0 would not change the seed
    side = _OVERSAMPLING * size_px
    blocks = (size_px, _OVERSAMPLING, size_px, _OVERSAMPLING)
    if look == "fundus":
        colours, inside = fundus(character, rng, side)
        small = colours.reshape(*blocks, 3).mean(axis=(1, 3))
    else:
        colours, inside = endoscopy(SCOPES[look], character, rng, side)
        small = camera(SCOPES[look], colours.reshape(*blocks, 3).mean(axis=(1, 3)), rng)
    image = np.rint(np.clip(small, 0.0, 1.0) * 255).astype(np.uint8)
    mask = np.where(inside.reshape(blocks).mean(axis=(1, 3)) >= 0.5, 255, 0).astype(np.uint8)
    return Pair(image, mask)


def _character(look: Look, rng: np.random.Generator) -> Character:
    least, most = (0.03, 0.10) if look == "fundus" else SCOPES[look].share
    kinds = ((1.02, 0.80, 0.82), (1.08, 1.12, 1.12), (0.90, 0.70, 0.68), (1.06, 0.94, 0.78))  # red, pale, dark, tan
    return Character(
        tint=1.0 + rng.normal(0.0, 0.05) * np.array([0.2, 1.0, 1.2]) + rng.normal(0.0, 0.02, 3),
        lesion_tint=np.array(kinds[rng.integers(len(kinds))]) * rng.normal(1.0, 0.03, 3),
        share=math.exp(rng.uniform(math.log(least), math.log(most))),
        lobes=np.clip(rng.normal(0.0, (0.10, 0.055, 0.03, 0.018, 0.012)), -0.16, 0.16),
        phases=rng.uniform(0.0, 2 * math.pi, 5),
        height=rng.uniform(0.55, 1.0),
        roughness=rng.uniform(0.2, 1.0),
        vessels=int(rng.integers(3, 9)),
    )
