"""Normalised cross-correlation of a template with every image of a bank, at every allowed shift, by FFT.

The largest correlation over shifts is what tells a copy; the energy under the template, by which it is divided, is
computed once for each shape of template (Lewis, Fast Normalized Cross-Correlation, 1995).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from site_node.screening.interface import Nearness
from site_node.screening.residual import Plane

# A stretch of a bank's image with less energy than this share of the average counts as having so much: else the
# noise of a flat stretch would correlate with anything.
_LEAST_ENERGY = 0.15
_SMALLEST = 64


class Sliding:
    """A bank of square planes of one size."""

    def __init__(self, planes: Sequence[Plane]) -> None:
        """planes: float32 [S, S] each, zero where nothing is to be compared."""
        self.count = len(planes)
        self._side = planes[0].shape[0] if planes else _SMALLEST
        # A bank of none holds one empty plane, which is near to nothing: the FFT takes no batch of none.
        images = torch.from_numpy(np.stack(planes)) if planes else torch.zeros(1, self._side, self._side)
        self._images = torch.fft.rfft2(images)  # [N, S, S/2+1]
        self._squares = torch.fft.rfft2(images * images)
        self._mean_energy = max(float((images * images).mean()), 1e-6)

    def energy(self, weight: Plane) -> torch.Tensor:
        """[N, S, S]: the root of each image's energy under weight (0 or 1, [T, T]) at each shift."""
        spectrum = torch.fft.rfft2(_padded(weight[None], self._side)[0]).conj()
        energy: torch.Tensor = torch.fft.irfft2(self._squares * spectrum, s=(self._side, self._side))
        return energy.clamp(min=_LEAST_ENERGY * self._mean_energy * float(weight.sum())).sqrt()

    def nearest(self, views: Sequence[Plane], energy: torch.Tensor, shifts: Sequence[int]) -> Nearness:
        """The largest correlation of any view with any image at any shift.

        views: [T, T] each, T <= S, zero outside the weight that energy was made for; shifts: of rows and of columns.
        """
        if not self.count:
            return Nearness(-1.0, None)
        templates = _padded(np.stack(views), self._side)  # [V, S, S]
        lengths = templates.flatten(1).norm(dim=1).clamp(min=1e-6)
        spectra = torch.fft.rfft2(templates).conj()
        allowed = torch.tensor(shifts) % self._side
        under = energy[:, allowed][:, :, allowed]  # [N, K, K]
        best = torch.full((self.count,), -1.0)
        for spectrum, length in zip(spectra, lengths, strict=True):
            match = torch.fft.irfft2(self._images * spectrum, s=(self._side, self._side))
            match = match[:, allowed][:, :, allowed] / under / length
            best = torch.maximum(best, match.flatten(1).amax(1))
        place = int(best.argmax())
        return Nearness(float(best[place]), place)


def _padded(templates: NDArray[np.float32], side: int) -> torch.Tensor:
    """[V, T, T] -> [V, side, side], the template in the upper left corner."""
    room = torch.zeros(len(templates), side, side)
    room[:, : templates.shape[1], : templates.shape[2]] = torch.from_numpy(templates)
    return room
