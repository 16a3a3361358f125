"""Private cases for tests of training: noise in place of patients, and a schedule that takes a fraction of a second."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from shared.study import ImageSpec
from site_node.generators.per_case.presets import DEMO
from site_node.work.case_training import CaseToTrain

SIZE_PX = 32
TINY = replace(DEMO, name="tiny", max_scales=2, widest=8, width=8, iterations=(6, 4), bank=2)


def write_cases(folder: Path, *names: str, size_px: int = SIZE_PX) -> list[CaseToTrain]:
    """Writes pairs as the private store has them. A name that begins with "flat" gets one value everywhere."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for seed, name in enumerate(names):
        random = np.random.default_rng(seed)
        image = random.integers(0, 256, (size_px, size_px, 3), np.uint8)
        if name.startswith("flat"):
            image[:] = 90
        mask = np.zeros((size_px, size_px), np.uint8)
        mask[8:20, 10 + seed : 22 + seed] = 255
        Image.fromarray(image).save(folder / f"{name}.image.png")
        Image.fromarray(mask).save(folder / f"{name}.mask.png")
        items.append(CaseToTrain(name, (size_px, size_px), 100 + seed, folder, ImageSpec(size_px=size_px)))
    return items


def generators(folder: Path) -> dict[str, bytes]:
    """Case id -> the bytes of its generator's file."""
    return {
        path.name.removesuffix(".safetensors"): path.read_bytes()
        for path in folder.glob("*.safetensors")
        if ".checkpoint." not in path.name
    }
