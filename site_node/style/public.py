"""Public images as references: a folder that the hospital names, read once and before anything is trained.

Promise: what cannot be used is refused by name, and nothing is left out quietly. Never here: a subfolder, a download.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shared.errors import SynthwardError
from shared.pairs import Pair, Pixels, resize_pair, with_channels
from shared.study import ImageSpec
from site_node.intake.images import read_image
from site_node.intake.opening import ENDINGS, IntakeLimits

MAX_IMAGES = 64  # that are held in memory: at most 50 MB, at 512 px


def read_public(folder: Path, image: ImageSpec, seed: int) -> tuple[Pixels, ...]:
    """The folder's images at the study's size and channels, in order of their names; MAX_IMAGES by the seed if more.

    Raises style.images-missing where there is no such folder, and style.images-refused where it holds no image or one
    that cannot be read.
    """
    if not folder.is_dir():
        raise SynthwardError(
            "style.images-missing",
            f"{folder} is not a folder",
            do="put the public images there, or set style_images in settings.toml to where they are",
        )
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    except OSError as error:
        raise _refused(f"{folder} cannot be read ({error.strerror})") from error
    if not paths:
        raise _refused(f"{folder} holds no image ({', '.join(ENDINGS)})")
    if len(paths) > MAX_IMAGES:
        chosen = np.random.default_rng(seed).choice(len(paths), MAX_IMAGES, replace=False)
        paths = [paths[index] for index in sorted(chosen)]
    return tuple(_read(path, image) for path in paths)


def _read(path: Path, image: ImageSpec) -> Pixels:
    try:
        pixels = with_channels(read_image(path, IntakeLimits()), image.channels)
    except SynthwardError as error:
        raise _refused(error.what) from error
    return resize_pair(Pair(pixels, np.zeros(pixels.shape[:2], np.uint8)), image.size_px).image


def _refused(what: str) -> SynthwardError:
    return SynthwardError(
        "style.images-refused",
        what,
        why="a style that only some of the images have would be another than the one that was asked for",
        do="take out of the folder what is no image, or name another in style_images of settings.toml",
    )
