"""Stored moments: the mean look of a site's training cases, as nine numbers, or two where images are grey.

Promise: each patient counts once, however many images are theirs. The file lies in the site's private folder, and is
patient data: an average over patients, with no mechanism that would bound what it tells of one of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from shared.errors import SynthwardError
from shared.files import write_private
from shared.pairs import Pixels
from shared.study import Document
from site_node.style.lab import Floats, to_lab
from site_node.style.moments import Moments, moments

# L*, a* and b* of sRGB lie within -128 to 128; nothing that was measured is outside.
_Mean = Annotated[float, Field(ge=-128.0, le=128.0, allow_inf_nan=False)]
_Covariance = Annotated[float, Field(ge=-(128.0**2), le=128.0**2, allow_inf_nan=False)]
_ROUNDING = -1e-6  # an eigenvalue that should be 0 comes back from decimal digits as nearly 0


class StoredMoments(Document):
    """The mean of L*a*b* (or L*), and the upper triangle of the covariance within an image, row by row."""

    format: Literal["synthward.moments/1"] = "synthward.moments/1"
    channels: Literal[1, 3]
    patients: int = Field(ge=1)
    mean: tuple[_Mean, ...]
    covariance: tuple[_Covariance, ...]

    @model_validator(mode="after")
    def _fits(self) -> StoredMoments:
        if (len(self.mean), len(self.covariance)) != (self.channels, self.channels * (self.channels + 1) // 2):
            raise ValueError("the numbers are not as many as the channels need")
        if np.linalg.eigvalsh(self.moments().covariance).min() < _ROUNDING:
            raise ValueError("the covariance is that of no colours")
        return self

    def moments(self) -> Moments:
        """As the transfer takes them."""
        covariance = np.zeros((self.channels, self.channels))
        covariance[np.triu_indices(self.channels)] = self.covariance
        return Moments(np.array(self.mean), covariance + np.triu(covariance, 1).T)


def take(images: Iterable[tuple[str, Pixels]]) -> StoredMoments:
    """The moments of (patient key, image) pairs, read one at a time: of each image, averaged by patient, then over all.

    images: uint8 [h, w, 3] or [h, w], all the same of the two; at least one, or ValueError.
    """
    found: defaultdict[str, list[Moments]] = defaultdict(list)
    for patient, image in images:
        found[patient].append(moments(to_lab(image)))
    if not found:
        raise ValueError("there is no image to take moments of")
    mean = _average(_average(one.mean for one in theirs) for theirs in found.values())
    covariance = _average(_average(one.covariance for one in theirs) for theirs in found.values())
    channels: Literal[1, 3] = 1 if len(mean) == 1 else 3
    return StoredMoments(
        channels=channels,
        patients=len(found),
        mean=tuple(mean.tolist()),
        covariance=tuple(covariance[np.triu_indices(channels)].tolist()),
    )


def moments_file(private: Path, channels: int) -> Path:
    """Where a site's stored moments lie in its private folder."""
    return private / f"style-moments-{channels}.json"


def save(path: Path, stored: StoredMoments) -> None:
    """Writes them for their owner only; whole or not at all. Raises storage.full."""
    write_private(path, stored.model_dump_json(indent=1).encode())


def load(path: Path) -> StoredMoments:
    """Those of a file. Raises style.moments where there is none, or where it holds something else."""
    try:
        return StoredMoments.model_validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise SynthwardError("style.moments", f"no moments are stored in {path}", do="take them first") from error
    except ValidationError as error:
        raise SynthwardError(
            "style.moments",
            f"{path} does not hold stored moments: {error.error_count()} mistakes",
            why="a style that was never measured would be taken for the site's",
            do="delete it: the next study that needs it takes the moments anew",
        ) from error


def _average(values: Iterable[Floats]) -> Floats:
    average: Floats = np.mean(list(values), axis=0)
    return average
