"""Chance that differential privacy rests on: Gaussian noise and coin flips that nobody can repeat.

The stream is ChaCha20's, keyed by the operating system. The key is made when the stream is, never stored, logged or
handed out, and a stream cannot be copied, saved or seeded: who could repeat it could take the noise off again.

What it does not promise: nothing is done about the time that a draw takes. A Gaussian number is the sum of four, so
that the gaps between floating-point numbers, by which a single one could be told from its noise, are filled (Holohan
and Braghin, "Secure random sampling in differential privacy", ESORICS 2021; the remedy that Opacus' secure mode takes).
"""

from __future__ import annotations

import math
import secrets
from typing import NoReturn, Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from numpy.typing import NDArray
from torch import Tensor

_SUMMED = 4
_KEY_BYTES, _NONCE_BYTES = 32, 16


class Chance(Protocol):
    """A source of chance, as mechanisms see it."""

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Independent numbers, uniform in [0, 1): [count]."""

    def normal(self, count: int) -> NDArray[np.float64]:
        """Independent standard Gaussian numbers: [count]."""


class SecretChance:
    """The source of chance for every private access. One for each training or release."""

    def __init__(self) -> None:
        self._stream = Cipher(
            ChaCha20(secrets.token_bytes(_KEY_BYTES), secrets.token_bytes(_NONCE_BYTES)), mode=None
        ).encryptor()

    def uniform(self, count: int) -> NDArray[np.float64]:
        """[count], in steps of 2^-53."""
        drawn = np.frombuffer(self._stream.update(bytes(8 * count)), dtype="<u8")
        numbers: NDArray[np.float64] = (drawn >> np.uint64(11)).astype(np.float64) * 2.0**-53
        return numbers

    def normal(self, count: int) -> NDArray[np.float64]:
        """[count], by Box and Muller's formula, each the sum of four over two."""
        pairs = _SUMMED // 2 * count
        radius = np.sqrt(-2.0 * np.log1p(-self.uniform(pairs)))  # 1 - u is in (0, 1]: the logarithm stays finite
        angle = 2.0 * math.pi * self.uniform(pairs)
        drawn = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])  # -> [4 count]
        summed: NDArray[np.float64] = drawn.reshape(_SUMMED, count).sum(axis=0) / math.sqrt(_SUMMED)
        return summed

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream of private noise is neither copied nor saved")


def gaussian(like: Tensor, std: float, chance: Chance) -> Tensor:
    """Noise N(0, std^2), independent in each element, of the shape, type and device of `like`.

    std: at least 0, in the units of what the noise is added to. With 0 nothing is drawn.
    """
    if not std >= 0.0 or math.isinf(std):
        raise ValueError(f"a standard deviation of {std} is none")
    if std == 0.0:
        return torch.zeros_like(like)
    drawn = torch.from_numpy(chance.normal(like.numel()) * std)
    return drawn.view(like.shape).to(like.device, like.dtype)
