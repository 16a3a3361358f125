"""Whether a gain may be called beyond chance: not by its interval alone.

The interval is over hold-out patients. A few patients carry none, and with one training run a network it says nothing
of how much two runs of one setting differ, which on real polyps was up to 0.09 IoU.
"""

from __future__ import annotations

from typing import Literal

from shared.findings import Gain

# Below this many patients a site's mean is an anecdote; with a few dozen it still moves with who is in it.
FEW_PATIENTS = 10
SOME_PATIENTS = 30
# Two seeds of one arm differed by up to this much IoU on 200 real polyps.
NOISE_IOU = 0.09

Standing = Literal["beyond", "within", "once", "few"]
STANDING_WORDS: dict[Standing, str] = {
    "beyond": "beyond chance",
    "within": "may be chance",
    "once": "one training run each: may be chance",
    "few": "too few patients to say",
}


# The same as the end of a sentence's clause, of one gain and of several.
CLAUSE_WORDS: dict[Standing, str] = {
    "beyond": "beyond chance",
    "within": "which may be chance",
    "once": "which may be chance, with one training run each",
    "few": "from too few patients to say",
}
ALL_WORDS: dict[Standing, str] = {
    "beyond": "all beyond chance",
    "within": "all of which may be chance",
    "once": "all of which may be chance, with one training run each",
    "few": "all from too few patients to say",
}


def standing(gain: Gain, *, patients: int | None, runs: int) -> Standing:
    """What a gain carries. patients: of the hold-out, None where nobody told. runs: fewest trainings of either side."""
    if patients is None or patients < FEW_PATIENTS:
        return "few"
    if not gain.beyond_chance:
        return "within"
    return "beyond" if runs > 1 else "once"
