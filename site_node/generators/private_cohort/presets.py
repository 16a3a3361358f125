"""How a private generator is trained, by name: all of it public, none of it chosen by looking at a hospital's images.

What privacy costs is no part of a preset's networks: the sampling rate, the number of steps and the clip stand in a
schedule of the same name, and sigma follows from them and from the study's epsilon and delta.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

MOST_STEPS = 1200  # private steps of a critic, in all


@dataclass(frozen=True)
class PrivatePreset:
    """Widths are feature channels.

    keep: weight of the mean absolute change of a scene, against the critic's word; penalty: weight of the zero-centred
    gradient penalty between drawn images; average: share of the averaged weights that a step keeps; views: turns of
    each private image that a gradient is averaged over, before the clip; most_images: of a patient in one step.
    """

    name: str
    critic_px: int = 32
    critic_widths: tuple[int, ...] = (16, 32, 48)
    refiner_width: int = 16
    scenes: int = 400  # public pairs that the training draws from
    public_steps: int = 100  # of a critic between scenes and recoloured ones, before it sees a patient
    batch: int = 32
    critic_rate: float = 1e-3
    refiner_rate: float = 2e-4
    penalty: float = 1.0
    keep: float = 4.0
    average: float = 0.99
    views: int = 2
    most_images: int = 4


FAST = PrivatePreset("fast")
DEMO = replace(FAST, name="demo", scenes=40, public_steps=10, batch=8, views=1)
PRIVATE_PRESETS: dict[str, PrivatePreset] = {preset.name: preset for preset in (FAST, DEMO)}


# Private steps that are paid for beyond a schedule's own: a job that was killed does at most one step a second time,
# and the queue starts a job three times at most.
SPARE_STEPS = 2


@dataclass(frozen=True)
class Schedule:
    """q: each patient's probability in each step; steps: private ones, at most 1,200 with those to spare; clip: of a
    patient's gradient, in the L2 norm.
    """

    q: float
    steps: int
    clip: float = 1.0


SCHEDULES: dict[str, Schedule] = {"fast": Schedule(0.1, 600), "demo": Schedule(0.1, 60)}


def with_half_the_batch(preset: PrivatePreset) -> PrivatePreset:
    """The preset for a machine that lacks the memory. What is private of a step stays as it is."""
    return replace(preset, batch=max(1, preset.batch // 2))
