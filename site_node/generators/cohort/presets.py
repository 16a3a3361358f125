"""How large a cohort's generator is and how long it is trained, by name. Numbers only; nothing here reads an image.

At 64 px, on one thread of a server's core, for a cohort of any size: `fast` 13 minutes, `demo` about one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from site_node.generators.cohort.adversarial import Schedule


@dataclass(frozen=True)
class CohortPreset:
    """One size and schedule. Widths are feature channels, in the order in which the maps are passed through."""

    name: str

    layout_px: int  # the coarsest scale's longest side is at most this
    layout_widths: tuple[int, ...]
    layout_critic_widths: tuple[int, ...]
    layout: Schedule

    detail_width: int
    detail_critic_widths: tuple[int, ...]
    detail: Schedule
    crop_px: int  # side of the crops that the finer scales are trained on

    labeller_steps: int  # of the segmenter that draws the masks; 0: the pyramid's own masks stay


FAST = CohortPreset(
    name="fast",
    layout_px=32,
    layout_widths=(96, 64, 48, 24),
    layout_critic_widths=(24, 48, 64, 96),
    layout=Schedule(steps=2000, batch=32, learning_rate=5e-3, penalty=1.0, penalty_every=4),
    detail_width=40,
    detail_critic_widths=(32, 48, 64),
    detail=Schedule(steps=600, batch=16, learning_rate=5e-3, penalty=2.0, penalty_every=4, reconstruction=10.0),
    crop_px=32,
    labeller_steps=200,
)

DEMO = replace(
    FAST,
    name="demo",
    layout=replace(FAST.layout, steps=220, batch=16),
    detail=replace(FAST.detail, steps=40, batch=8),
    labeller_steps=60,
)

COHORT_PRESETS: dict[str, CohortPreset] = {preset.name: preset for preset in (FAST, DEMO)}


def with_half_the_batch(preset: CohortPreset) -> CohortPreset:
    """The preset for a machine that lacks the memory: half as many images in each step."""
    layout, detail = (replace(part, batch=max(1, part.batch // 2)) for part in (preset.layout, preset.detail))
    return replace(preset, layout=layout, detail=detail)
