"""Two small noised releases that could move a prior towards a site: pooled colour moments, and votes over groups.

Each is one Gaussian release over all patients (site_node/dp/release.py); the benchmark asks what they are worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pair, with_channels
from site_node.dp.accountant import sigma_for
from site_node.dp.release import noised_mean
from site_node.generators.inputs import stream
from site_node.generators.private_cohort.generator import shrunk, stacked
from site_node.generators.private_cohort.prior import ENDOSCOPY, Phantoms
from site_node.style.lab import from_lab, to_lab
from site_node.style.moments import Moments, with_moments

Floats = NDArray[np.float64]
Patients = Sequence[Sequence[Pair]]
_CENTRE, _UNIT = np.array([45.0, 15.0, 15.0]), 30.0  # of L*a*b*, public: about the middle of what cameras see
_MOMENTS_CLIP = 3.0
_UPPER = np.triu_indices(3)
_GROUPS, _ROUNDS, _PX = 12, 15, 4
_CANDIDATES = 3  # scenes for each one that is kept


@cache
def sigma_of(epsilon: float, patients: int) -> float:
    """What one Gaussian release needs for `epsilon` at delta = 1 / (10 N)."""
    return sigma_for(epsilon, 1.0 / (10 * patients), q=1.0, steps=1)


def with_moments_of(patients: Patients, sigma: float, size_px: int, count: int, seed: int) -> list[Pair]:
    """Scenes, all through the one linear map of colours that gives them the patients' pooled moments."""
    wanted = _moments(noised_mean([np.stack([_colours(p) for p in own]) for own in patients],
                                  sigma=sigma, clip=_MOMENTS_CLIP))  # fmt: skip
    scenes = _scenes(size_px, count, seed)
    pooled = np.concatenate([to_lab(scene.image) for scene in scenes])  # [N S, S, 3]: as one tall image
    moved = np.split(from_lab(with_moments(pooled, wanted)), len(scenes))
    images = [np.rint(image).clip(0, 255).astype(np.uint8) for image in moved]
    return [Pair(image, scene.mask) for image, scene in zip(images, scenes, strict=True)]


def _colours(pair: Pair) -> Floats:
    """First and second moments of an image's pixels: [9]."""
    colours = ((to_lab(with_channels(pair.image, 3)) - _CENTRE) / _UNIT).reshape(-1, 3)
    return np.concatenate([colours.mean(0), (colours.T @ colours / len(colours))[_UPPER]])


def _moments(nine: Floats) -> Moments:
    """The way back, with a covariance that is one whatever the noise was."""
    second = np.zeros((3, 3))
    second[_UPPER] = nine[3:]
    second = second + np.triu(second, 1).T
    values, vectors = np.linalg.eigh(second - np.outer(nine[:3], nine[:3]))
    covariance = (vectors * values.clip(1e-3)) @ vectors.T
    return Moments(_UNIT * nine[:3] + _CENTRE, _UNIT**2 * covariance)


def voted_for(patients: Patients, sigma: float, size_px: int, count: int, seed: int) -> list[Pair]:
    """Scenes of the groups that patients' images lie nearest to, as often as they were voted for."""
    scenes = _scenes(size_px, _CANDIDATES * count, seed)
    looks = _looks(scenes)
    random = np.random.default_rng(seed)
    centres = _centres(looks, random)
    group = _nearest(looks, centres)
    votes = noised_mean(
        [np.eye(len(centres))[_nearest(_looks(own), centres)] for own in patients], sigma=sigma, clip=1.0
    )
    weights = votes.clip(0.0) / np.bincount(group, minlength=len(centres)).clip(1)
    chance = weights[group] / weights[group].sum()
    chosen = random.choice(len(scenes), size=count, p=chance)
    return [scenes[index] for index in chosen]


def _scenes(size_px: int, count: int, seed: int) -> list[Pair]:
    return Phantoms(ENDOSCOPY, size_px).draw(count, stream("bench-prior", seed))


def _looks(pairs: Sequence[Pair]) -> Floats:
    """Coarse colours and mask of pairs: [N, 4 x 4 x 4]."""
    looks: Floats = np.stack([shrunk(stacked([pair]), _PX).numpy().ravel() for pair in pairs]).astype(np.float64)
    return looks


def _nearest(looks: Floats, centres: Floats) -> NDArray[np.int64]:
    """[N]"""
    nearest: NDArray[np.int64] = np.square(looks[:, None] - centres).sum(2).argmin(1)
    return nearest


def _centres(looks: Floats, random: np.random.Generator) -> Floats:
    """Lloyd's algorithm on public scenes: [G, 64]; a group that loses all its scenes keeps its centre."""
    centres = looks[random.choice(len(looks), _GROUPS, replace=False)]
    for _ in range(_ROUNDS):
        group = _nearest(looks, centres)
        centres = np.stack(
            [looks[group == k].mean(0) if (group == k).any() else centre for k, centre in enumerate(centres)]
        )
    return centres
