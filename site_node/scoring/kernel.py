"""How far two sets of images are apart in a network's features: the kernel distance, without bias at any number.

Unlike the Fréchet distance it fits nothing, so that its mean is 0 for two sets from one source however few they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def kernel_distance(some: Floats, others: Floats) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / d + 1)^3, unbiased; may fall under 0.

    some, others: [N, d] and [M, d], two rows or more. Binkowski et al., "Demystifying MMD GANs", 2018; the estimate of
    Gretton et al., "A kernel two-sample test", 2012, lemma 6.
    """
    if min(len(some), len(others)) < 2:
        raise ValueError("one image has no other to be compared with")
    return _between_its_own(some) + _between_its_own(others) - 2.0 * float(_kernel(some, others).mean())


def _between_its_own(vectors: Floats) -> float:
    """Mean kernel of two different vectors of a set: none with itself, which is where the bias comes from."""
    similar, count = _kernel(vectors, vectors), len(vectors)
    return float((similar.sum() - np.trace(similar)) / (count * (count - 1)))


def _kernel(some: Floats, others: Floats) -> Floats:
    return np.asarray((some @ others.T / some.shape[1] + 1.0) ** 3)
