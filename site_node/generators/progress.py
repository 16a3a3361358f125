"""What a training says of itself while it runs. It never leaves the site: how long a case trains tells of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `step` of `steps` iterations of scale `scale` (from 0) of `scales`.

    done: share of the whole training's expected work, in [0, 1]. It goes back to the start when a training that
    diverged is tried again at a lower rate.
    """

    scale: int
    scales: int
    step: int
    steps: int
    done: float
