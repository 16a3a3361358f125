"""Kind `moments`: a sample takes the mean and covariance of a reference's colours, and nothing else of it.

Nine numbers of the reference in CIE L*a*b* (two where images are grey). Colours go by the linear Monge-Kantorovitch
map of Pitié and Kokaram ("The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer",
2007), which moves them least of all linear maps that match both moments; the idea of matching them is Reinhard et
al.'s ("Color transfer between images", 2001).

Promise: at full strength the moments are the reference's, but for colours that sRGB does not have, for rounding to 8
bits, and for directions in which the sample holds no colour to spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.pairs import Pixels
from site_node.style.lab import Floats, from_lab, to_lab

# Variance in L*a*b* under which a direction holds rounding only (8 bits give about 0.02): a map to a wide reference
# would turn it into noise.
_LEAST_VARIANCE = 0.25


@dataclass(frozen=True)
class Moments:
    """mean: [C], covariance: [C, C] symmetric, of L*a*b* (C = 3) or of L* (C = 1)."""

    mean: Floats
    covariance: Floats


class MomentTransfer:
    """The kind `moments`; its look is a reference's Moments."""

    def look(self, reference: Pixels) -> Moments:
        """The moments of uint8 [h, w, 3] or [h, w]."""
        return moments(to_lab(reference))

    def move(self, images: Sequence[Pixels], looks: Sequence[Moments], seed: int) -> list[Floats]:  # noqa: ARG002
        """Each image with its look's moments: float64 in [0, 255], of the image's shape."""
        return [from_lab(with_moments(to_lab(image), look)) for image, look in zip(images, looks, strict=True)]


def moments(colours: Floats) -> Moments:
    """Mean and covariance over the pixels of [h, w, C]."""
    flat = colours.reshape(-1, colours.shape[2])  # [h, w, C] -> [n, C]
    mean = flat.mean(axis=0)
    centred = flat - mean
    return Moments(mean, centred.T @ centred / len(flat))


def with_moments(colours: Floats, wanted: Moments) -> Floats:
    """colours [h, w, C], mapped linearly so that their moments are the wanted ones.

    The map is T = A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2) for covariances A and B: symmetric, T A T = B.
    """
    own = moments(colours)
    root, inverse = _roots(own.covariance)
    middle, _ = _roots(root @ wanted.covariance @ root, least=0.0)
    mapped: Floats = (colours - own.mean) @ (inverse @ middle @ inverse) + wanted.mean
    return mapped


def _roots(matrix: Floats, least: float = _LEAST_VARIANCE) -> tuple[Floats, Floats]:
    """The square root of a symmetric [C, C] whose eigenvalues are raised to `least`, and its inverse (0: none)."""
    values, vectors = np.linalg.eigh(matrix)
    roots = np.sqrt(np.maximum(values, least))
    inverse = (vectors / roots) @ vectors.T if least > 0.0 else np.zeros_like(matrix)
    return (vectors * roots) @ vectors.T, inverse
