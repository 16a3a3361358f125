"""The report's first lines, computed from its figures, for a data steward who never read a metric.

What was shared, what was not, what it was worth. Promise: no sentence claims more than its figures carry. Means are
shown with the number of patients behind them, and a hold-out of few patients is called what it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from coordinator.evaluation.report_data import ReportData

# Below this many patients a site's mean is an anecdote; with a few dozen it still moves with who is in it.
FEW_PATIENTS = 10
SOME_PATIENTS = 30
# Two seeds of one arm differed by up to this much IoU on 200 real polyps; what is smaller is no difference.
NOISE_IOU = 0.09

REAL, OWN, POOLED = "real_own", "synthetic_own", "synthetic_pooled"


@dataclass(frozen=True)
class Worth:
    """What the pairs were worth at one site."""

    site: str
    text: str


@dataclass(frozen=True)
class Summary:
    """headline: one sentence. The others: sentences, in the order in which they are read."""

    headline: str
    shared: tuple[str, ...]
    kept: tuple[str, ...]
    worth: tuple[Worth, ...]
    caution: tuple[str, ...]


def summarise(data: ReportData) -> Summary:
    """The summary of a report's figures."""
    return Summary(
        headline=_headline(data),
        shared=_shared(data),
        kept=_kept(data),
        worth=tuple(_worth_at(data, site.name, site.holdout_patients) for site in data.sites),
        caution=_caution(data),
    )


def _headline(data: ReportData) -> str:
    real, pooled = data.arms.get(REAL, {}), data.arms.get(POOLED, {})
    both = [site for site in data.sites if site.name in real and site.name in pooled]
    if not both:
        return "No site has both figures yet, so nothing can be said of what the synthetic pairs are worth."
    reached, target = fmean(pooled[s.name].iou for s in both), fmean(real[s.name].iou for s in both)
    patients = sum(site.holdout_patients for site in both)
    few = patients < SOME_PATIENTS
    share = "" if few else _share(reached, target)
    return (
        f"A network trained on all sites' synthetic pairs found lesions in real images with an overlap (IoU) of "
        f"{reached:.2f}, against {target:.2f} for one trained on each site's own real images{share}. "
        f"Mean of {count(len(both), 'site')}, {count(patients, 'hold-out patient')} in all"
        f"{': too few for a conclusion' if few else ''}."
    )


def _shared(data: ReportData) -> tuple[str, ...]:
    released = sum(site.released for site in data.sites)
    total = sum(sum(kinds.values()) for kinds in data.egress.values())
    lines = [
        f"{count(released, 'synthetic pair')} of an image and a lesion outline, drawn by generators; each release was "
        "screened, and approved by a steward of its site.",
        "Averages of six metrics, measured at the sites on real images that stayed there.",
    ]
    if data.egress:
        lines.append(f"In all {megabytes(total)} left the sites; listed below by site and kind.")
    return tuple(lines)


def _kept(data: ReportData) -> tuple[str, ...]:
    cases, patients = sum(site.cases for site in data.sites), sum(site.patients for site in data.sites)
    return (
        f"{count(cases, 'real image')} of {count(patients, 'patient')}: they stayed at their sites, where networks "
        "came to be tested.",
        "Generators, weights trained on real images, file names and patient keys: by design, no message has a field "
        "for them.",
    )


def _worth_at(data: ReportData, site: str, patients: int) -> Worth:
    figures = {arm: sites[site].iou for arm, sites in data.arms.items() if site in sites}
    real, pooled, own = figures.get(REAL), figures.get(POOLED), figures.get(OWN)
    few = patients < FEW_PATIENTS
    behind = f"{count(patients, 'hold-out patient')}{': far too few for a conclusion' if few else ''}."
    if real is None or pooled is None:
        return Worth(site, f"not measured against its own real images; {behind}")
    text = f"IoU {pooled:.2f} with all sites' synthetic pairs, {real:.2f} with its own real images"
    # Few patients carry no verdict: the figures stand there, a share or a gain would read as a finding.
    text += "" if few else _share(pooled, real)
    if own is not None:
        text += f", {own:.2f} with its own synthetic pairs alone"
        if not few:
            text += f". {_pooling(pooled - own)}"
    return Worth(site, f"{text}{';' if few else '.'} {behind}")


def _pooling(gain: float) -> str:
    if abs(gain) <= NOISE_IOU:
        return "Pooling the sites made no clear difference"
    return f"Pooling the sites {'gained' if gain > 0 else 'lost'} {abs(gain):.2f}"


def _caution(data: ReportData) -> tuple[str, ...]:
    lines = [
        f"Each figure comes from one training run. On real polyps two runs of one setting differed by up to "
        f"{NOISE_IOU:.2f} IoU, so smaller gaps are no differences."
    ]
    few = [site.name for site in data.sites if site.holdout_patients < FEW_PATIENTS]
    some = [site.name for site in data.sites if FEW_PATIENTS <= site.holdout_patients < SOME_PATIENTS]
    if few:
        lines.append(
            f"Fewer than {FEW_PATIENTS} hold-out patients at {listed(few)}: one patient more or less would change the "
            "figure. They show that the study runs, not what it is worth."
        )
    if some:
        lines.append(f"Fewer than {SOME_PATIENTS} hold-out patients at {listed(some)}: figures there are rough.")
    lines.append("Passing the screening does not make a synthetic image anonymous: see each site's privacy statement.")
    return tuple(lines)


def _share(reached: float, target: float) -> str:
    # A share of nearly nothing says nothing.
    return f" (that is {100 * reached / target:.0f} %)" if target >= 0.05 else ""


def count(number: int, noun: str) -> str:
    """`1 site`, `1,200 sites`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def megabytes(size: int) -> str:
    """Bytes in the unit that people read: `512 B`, `3.4 kB`, `12.0 MB`. Decimal units."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1e3:.1f} kB" if size < 1_000_000 else f"{size / 1e6:,.1f} MB"
