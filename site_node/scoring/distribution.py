"""How far synthetic pairs are from a site's real ones, each distance beside that of two halves of the real ones.

The real patients are split in two halves at random, A and B. A measure's value is the distance of synthetic pairs from
A, its yardstick the distance of B from A, with equally many images on every side: most of these distances grow as
images get fewer, and only so can the two be held against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

import numpy as np
from torch import Tensor

from shared.errors import SynthwardError
from shared.findings import Measure
from shared.pairs import Pair
from site_node.scoring.described import describe, joined
from site_node.scoring.frechet import frechet_distance
from site_node.scoring.histograms import intensity_divergence, mask_divergence
from site_node.scoring.kernel import kernel_distance
from site_node.scoring.patch_wasserstein import patch_distance
from site_node.scoring.single_image import inner_statistics, single_image_distance
from site_node.scoring.stacks import stacked
from site_node.style.features import Features

FEWEST_PATIENTS = 4  # two in each half
MOST_IMAGES = 200  # of each side: more cost more, and say little more
MOST_SINGLE_IMAGES = 50  # each is compared with each


def measure_distribution(
    synthetic: Sequence[Pair], real: Mapping[str, Sequence[Pair]], *, features: Features | None, seed: int
) -> tuple[int, tuple[Measure, ...]]:
    """(images of each side, measures). real: patient key -> the patient's pairs; all pairs are of one size.

    Without features, only the measures that need none. Reads no more pairs than it uses. Raises screening.inconclusive
    with fewer than four patients, and ValueError with fewer than two synthetic pairs.
    """
    patients = sorted(patient for patient, pairs in real.items() if len(pairs))
    if len(patients) < FEWEST_PATIENTS:
        raise SynthwardError(
            "screening.inconclusive",
            f"{len(patients)} real patients; two halves to compare need {FEWEST_PATIENTS}",
            why="without a distance between real patients, a distance to synthetic pairs says nothing",
            do="import more patients",
        )
    if len(synthetic) < 2:
        raise ValueError("one synthetic pair has no distribution")
    random = np.random.default_rng(seed)
    random.shuffle(patients)
    middle = len(patients) // 2
    halves = [_in_turns([real[patient] for patient in half], random) for half in (patients[:middle], patients[middle:])]
    images = min(MOST_IMAGES, len(synthetic), *map(len, halves))
    drawn = [synthetic[int(place)] for place in random.permutation(len(synthetic))[:images]]
    half_a, half_b = ([pairs[place] for pairs, place in half[:images]] for half in halves)
    return images, tuple(_measures(drawn, half_a, half_b, features, seed))


def _in_turns(patients: Sequence[Sequence[Pair]], random: np.random.Generator) -> list[tuple[Sequence[Pair], int]]:
    """All pairs, unread, as (the patient's pairs, place): first one of each patient, then a second of each."""
    queues = [[(pairs, int(place)) for place in random.permutation(len(pairs))] for pairs in patients]
    return [item for turn in zip_longest(*queues) for item in turn if item is not None]


def _measures(
    synthetic: list[Pair], half_a: list[Pair], half_b: list[Pair], features: Features | None, seed: int
) -> list[Measure]:
    sides = [stacked(side) for side in (synthetic, half_b, half_a)]
    patches = [patch_distance(side, half_a, seed=seed) for side in (synthetic, half_b)]
    found = [Measure(name="patch_wasserstein", value=patches[0], yardstick=patches[1])]
    if features is not None:
        found += _in_features([side[:, :3] for side in sides], features)
    intensities = [intensity_divergence(side, sides[2]) for side in sides[:2]]
    masks = [mask_divergence(side, sides[2]) for side in sides[:2]]
    return [
        *found,
        Measure(name="kl_intensity", value=intensities[0], yardstick=intensities[1]),
        Measure(name="kl_masks", value=masks[0], yardstick=masks[1]),
    ]


def _in_features(sides: list[Tensor], features: Features) -> list[Measure]:
    """The measures on images [N, 3, H, W]: synthetic, half B, half A."""
    *others, half_a = (describe(side, features) for side in sides)
    (value, yard) = (joined(side, half_a) for side in others)
    inner = [inner_statistics(side[:MOST_SINGLE_IMAGES], features) for side in sides]
    return [
        Measure(name="frechet", value=frechet_distance(*value), yardstick=frechet_distance(*yard)),
        Measure(name="kernel", value=kernel_distance(*value), yardstick=kernel_distance(*yard)),
        Measure(
            name="single_image_frechet",
            value=single_image_distance(inner[0], inner[2]),
            yardstick=single_image_distance(inner[1], inner[2]),
        ),
    ]
