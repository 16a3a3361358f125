"""Style transfer in closed form: a sample takes a reference's colours and its strength of texture, band by band.

Promise: the mask is never touched, nothing is random, and strength 0 gives the sample back exactly. Reads the
reference's moments only: nine numbers of colour and three for each band; no pixel of it is copied.

The image is split by a Laplacian pyramid (Burt and Adelson, "The Laplacian pyramid as a compact image code", 1983).
The low-pass takes the reference's mean and covariance of colour, after Reinhard et al. ("Color transfer between
images", 2001) with the linear Monge-Kantorovitch map of Pitié and Kokaram ("The linear Monge-Kantorovitch linear
colour mapping for example-based colour transfer", 2007), which moves colours least of all maps that do. Each finer band
takes the reference's standard deviation, channel by channel: the second moment of the band statistics that Heeger and
Bergen ("Pyramid-based texture analysis/synthesis", 1995) match.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.pairs import Pair, Pixels, with_channels

_Floats = NDArray[np.float64]

BANDS = 3  # at most: texture of about 1, 2 and 4 px; what is coarser is colour and layout
GAIN_RANGE = (0.5, 2.5)  # beyond, a band holds noise or nothing, and a gain would only amplify it
_SMALLEST_LOWPASS_PX = 4
_ONE_LEVEL = 1.0  # variance and deviation below one grey level are rounding: whitening must not amplify it
_KERNEL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)  # Burt and Adelson's, a = 0.375


def transfer(sample: Pair, reference: Pixels, *, strength: float) -> Pair:
    """The sample with the style of the reference, blended by strength in [0, 1]; the mask is the sample's own.

    reference: uint8 [h, w] or [h, w, 3], of any size; brought to the sample's number of channels.
    Raises ValueError where strength is outside [0, 1].
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength {strength} is outside 0 to 1")
    if strength == 0.0:
        return sample
    own = _channels_last(sample.image)
    theirs = _channels_last(with_channels(reference, sample.channels))
    levels = min(_levels(own), _levels(theirs))
    own_bands, own_low = _split(own, levels)
    their_bands, their_low = _split(theirs, levels)
    styled_bands = [_match_deviation(band, to) for band, to in zip(own_bands, their_bands, strict=True)]
    styled = _join(styled_bands, _match_colours(own_low, their_low))
    blended = (1.0 - strength) * own + strength * styled
    image = np.rint(blended.clip(0.0, 255.0)).astype(np.uint8).reshape(sample.image.shape)  # [H, W, C] -> as it was
    return Pair(image, sample.mask)


def _channels_last(image: Pixels) -> _Floats:
    floats = image.astype(np.float64)
    return floats if floats.ndim == 3 else floats[:, :, None]  # [H, W] -> [H, W, 1]


def _match_deviation(band: _Floats, reference: _Floats) -> _Floats:
    """band [h, w, C], scaled channel by channel to the deviation of reference [h', w', C], within GAIN_RANGE."""
    have = band.std(axis=(0, 1))  # [h, w, C] -> [C]
    want = reference.std(axis=(0, 1))  # [h', w', C] -> [C]
    gain = (want / np.maximum(have, 1e-6)).clip(*GAIN_RANGE)
    matched: _Floats = band * gain
    return matched


def _match_colours(image: _Floats, reference: _Floats) -> _Floats:
    """image [h, w, C] with the mean and covariance of reference [h', w', C].

    The map is T = A^(-1/2) (A^(1/2) B A^(1/2))^(1/2) A^(-1/2) for covariances A and B:
    symmetric, T A T = B (Pitié and Kokaram 2007).
    """
    colours = image.reshape(-1, image.shape[2])  # [h, w, C] -> [h w, C]
    wanted = reference.reshape(-1, image.shape[2])  # [h', w', C] -> [h' w', C]
    root = _root(_covariance(colours))
    inverse = np.linalg.inv(root)
    monge = inverse @ _root(root @ _covariance(wanted) @ root) @ inverse
    mapped = (colours - colours.mean(axis=0)) @ monge + wanted.mean(axis=0)
    matched: _Floats = mapped.reshape(image.shape)  # [h w, C] -> [h, w, C]
    return matched


def _covariance(colours: _Floats) -> _Floats:
    centred = colours - colours.mean(axis=0)
    covariance: _Floats = centred.T @ centred / len(colours) + _ONE_LEVEL * np.eye(colours.shape[1])  # [n, C] -> [C, C]
    return covariance


def _root(matrix: _Floats) -> _Floats:
    """The symmetric square root of a symmetric positive matrix [C, C]."""
    values, vectors = np.linalg.eigh(matrix)
    root: _Floats = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def _levels(image: _Floats) -> int:
    """How many times an image can be halved before its low-pass holds too few pixels to have a covariance."""
    shorter = int(min(image.shape[:2]))
    return min(BANDS, max(0, (shorter // _SMALLEST_LOWPASS_PX).bit_length() - 1))


def _split(image: _Floats, levels: int) -> tuple[list[_Floats], _Floats]:
    """A Laplacian pyramid of [H, W, C]: `levels` bands, finest first, and the low-pass."""
    bands = []
    for _ in range(levels):
        halved = _blur(image)[::2, ::2]  # [H, W, C] -> [ceil(H / 2), ceil(W / 2), C]
        bands.append(image - _doubled(halved, image.shape))
        image = halved
    return bands, image


def _join(bands: list[_Floats], lowpass: _Floats) -> _Floats:
    """The inverse of _split, exact for bands that were not changed."""
    for band in reversed(bands):
        lowpass = _doubled(lowpass, band.shape) + band
    return lowpass


def _doubled(image: _Floats, shape: tuple[int, ...]) -> _Floats:
    """Image at twice its size, cut to shape. Repeated pixels, then blurred: no rule for borders or odd sides needed."""
    repeated = image.repeat(2, axis=0).repeat(2, axis=1)  # [h, w, C] -> [2 h, 2 w, C]
    return _blur(repeated[: shape[0], : shape[1]])


def _blur(image: _Floats) -> _Floats:
    """The binomial kernel along both axes of [H, W, C], borders repeated."""
    for axis in (0, 1):
        width = [(0, 0)] * 3
        width[axis] = (2, 2)
        padded = np.pad(image, width, mode="edge")
        length = image.shape[axis]
        shifted = (padded[k : k + length] if axis == 0 else padded[:, k : k + length] for k in range(len(_KERNEL)))
        image = sum((weight * part for weight, part in zip(_KERNEL, shifted, strict=True)), np.zeros(image.shape))
    return image
