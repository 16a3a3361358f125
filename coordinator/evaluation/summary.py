"""The report's first lines, computed from its figures, for a data steward who never read a metric.

What was shared, what was not, what it was worth. Promise: no sentence claims more than its figures carry. Means are
shown with the number of patients behind them, a hold-out of few patients is called what it is, and what is missing is
said before any figure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.evaluation.cells import Cell, Key, cells
from coordinator.evaluation.chance import ALL_WORDS, CLAUSE_WORDS, FEW_PATIENTS, NOISE_IOU, SOME_PATIENTS, standing
from coordinator.evaluation.report_data import ReportData, SiteData
from coordinator.evaluation.words import count, gain_text, interval, listed, megabytes
from shared.orders import OTHERS, POOLED

REAL: Key = ("real_own", None, None)
OTHERS_TOO: Key = ("real_and_others", OTHERS, None)
POOL: Key = ("synthetic_pooled", POOLED, None)
# What the headline is about, the first that any site has: why a hospital would take part, else what pairs alone give.
HEADLINES: tuple[tuple[Key, str], ...] = (
    (
        OTHERS_TOO,
        "Adding the other sites' synthetic pairs to a site's own real images changed the overlap of the lesions found "
        "with a person's outlines (IoU)",
    ),
    (
        POOL,
        "Training on all sites' synthetic pairs in place of a site's own real images changed the overlap of the "
        "lesions found with a person's outlines (IoU)",
    ),
)
# What the summary's table shows of each site, own synthetic pairs besides.
WORTH: tuple[tuple[Key, str], ...] = (
    (REAL, "own real images"),
    (OTHERS_TOO, "own real and the others' synthetic"),
    (POOL, "all sites' synthetic"),
)


@dataclass(frozen=True)
class Worth:
    """What the pairs were worth at one site. figures: (words, IoU, its interval), for networks trained on that.

    remark: how many patients stand behind it, and whether that is enough.
    """

    site: str
    figures: tuple[tuple[str, str, str], ...]
    remark: str


@dataclass(frozen=True)
class Summary:
    """headline: one sentence. gaps: what makes the report a partial one. The others: sentences, in reading order."""

    headline: str
    gaps: tuple[str, ...]
    shared: tuple[str, ...]
    kept: tuple[str, ...]
    worth: tuple[Worth, ...]
    caution: tuple[str, ...]


def summarise(data: ReportData) -> Summary:
    """The summary of a report's figures."""
    table = {(cell.key, cell.site): cell for cell in cells(data)}
    return Summary(
        headline=_headline(data, table),
        gaps=_gaps(data, list(table.values())),
        shared=_shared(data),
        kept=_kept(data),
        worth=tuple(_worth(site, table) for site in data.sites),
        caution=_caution(data, list(table.values())),
    )


def _headline(data: ReportData, table: dict[tuple[Key, str], Cell]) -> str:
    over_real = {s.name for s in data.sites if s.comparison is not None and s.comparison.reference == REAL[0]}
    for key, words in HEADLINES:
        found = [table[key, s.name] for s in data.sites if s.name in over_real and (key, s.name) in table]
        found = [cell for cell in found if cell.gains]
        if found:
            missing = [site.name for site in data.sites if site.name not in {cell.site for cell in found}]
            return f"{words} {_gains(found)}{f'; {listed(missing)} without a figure' if missing else ''}."
    return _means_headline(data, table)


def _gains(found: Sequence[Cell]) -> str:
    """The gain at each site; what it carries once, where it is the same at all of several sites."""
    texts = [f"by {gain_text(cell.gains['iou'])} at {cell.site}" for cell in found]
    texts[0] = texts[0].replace("(", "(95 % interval ", 1)
    carried = [standing(cell.gains["iou"], patients=cell.patients, runs=cell.runs) for cell in found]
    if len(found) > 1 and len(set(carried)) == 1:
        return f"{'; '.join(texts)}; {ALL_WORDS[carried[0]]}"
    return "; ".join(f"{text}, {CLAUSE_WORDS[how]}" for text, how in zip(texts, carried, strict=True))


def _means_headline(data: ReportData, table: dict[tuple[Key, str], Cell]) -> str:
    scored = {at for at, cell in table.items() if cell.iou is not None}
    both = [site.name for site in data.sites if {(REAL, site.name), (POOL, site.name)} <= scored]
    if not both:
        return "No site has both figures yet, so nothing can be said of what the synthetic pairs are worth."
    parts = [f"{_mean(table[POOL, name])} against {_mean(table[REAL, name])} at {name}" for name in both]
    return (
        "A network trained on all sites' synthetic pairs, against one trained on a site's own real images, found "
        f"lesions with an overlap (IoU) of {'; '.join(parts)}: means without intervals, so none of these gaps can be "
        "told from chance."
    )


def _mean(cell: Cell) -> str:
    return "no figure" if cell.iou is None else f"{cell.iou.mean:.2f}"


def _gaps(data: ReportData, found: Sequence[Cell]) -> tuple[str, ...]:
    lines = []
    for site in data.sites:
        if site.release is None:
            lines.append(f"{site.name} released nothing: {site.no_release}.")
        # In mode dp nobody asks for intervals: none is missing.
        if site.comparison is None and data.study.privacy.mode != "dp":
            lines.append(f"{site.name} has no intervals and no gains: {site.no_comparison}.")
        reasons = Counter(cell.reason for cell in found if cell.site == site.name and cell.reason)
        lines += [f"{site.name} has no figures for {count(n, 'network')}: {why}." for why, n in sorted(reasons.items())]
        few = [cell for cell in found if cell.site == site.name and 0 < cell.seeds < len(data.study.evaluation.seeds)]
        if few:
            lines.append(f"{site.name} has fewer training runs than the study asks of {count(len(few), 'network')}.")
    return tuple(lines)


def _shared(data: ReportData) -> tuple[str, ...]:
    released = sum(site.release.pairs for site in data.sites if site.release)
    lines = [
        f"{count(released, 'synthetic pair')} of an image and a lesion outline, drawn by generators; each release was "
        "screened, and approved by a steward of its site.",
        "Averages over hold-out patients and their intervals, measured at the sites on real images that stayed there.",
    ]
    if data.run and data.run.egress:
        total = sum(sum(kinds.values()) for kinds in data.run.egress.values())
        lines.append(f"In all {megabytes(total)} left the sites; listed below by site and kind.")
    return tuple(lines)


def _kept(data: ReportData) -> tuple[str, ...]:
    known = [(site.cases, site.patients) for site in data.sites if site.cases is not None and site.patients is not None]
    what = "Every real image"
    if len(known) == len(data.sites):
        what = f"{count(sum(c for c, _ in known), 'real image')} of {count(sum(p for _, p in known), 'patient')}"
    return (
        f"{what}: they stayed at their sites, where networks came to be trained and tested.",
        "Generators, weights trained on real images, file names and patient keys: by design, no message has a field "
        "for them.",
    )


def _worth(site: SiteData, table: dict[tuple[Key, str], Cell]) -> Worth:
    own: Key = ("synthetic_own", site.name, None)
    figures = []
    for key, words in (*WORTH, (own, "own synthetic")):
        cell = table.get((key, site.name))
        iou = cell.iou if cell is not None else None
        figures.append((words, "–", "") if iou is None else (words, f"{iou.mean:.2f}", interval(iou.low, iou.high)))
    patients = site.holdout_patients
    if patients is None:
        return Worth(site.name, tuple(figures), "number unknown: no conclusion")
    few = ": too few for a conclusion" if patients < FEW_PATIENTS else ""
    return Worth(site.name, tuple(figures), f"{count(patients, 'hold-out patient')}{few}")


def _caution(data: ReportData, found: Sequence[Cell]) -> tuple[str, ...]:
    lines = []
    if data.study.privacy.mode == "dp":
        lines.append("Figures and numbers of hold-out patients were noised at the sites before they left (mode dp).")
    if any(cell.seeds == 1 for cell in found):
        lines.append(
            "Figures with one training run carry an interval over patients only. On real polyps two runs of one "
            f"setting differed by up to {NOISE_IOU:.2f} IoU, so smaller gaps are no differences."
        )
    held = [(site.name, site.holdout_patients) for site in data.sites if site.holdout_patients is not None]
    few = [name for name, patients in held if patients < FEW_PATIENTS]
    some = [name for name, patients in held if FEW_PATIENTS <= patients < SOME_PATIENTS]
    if few:
        lines.append(
            f"Fewer than {FEW_PATIENTS} hold-out patients at {listed(few)}: one patient more or less would change the "
            "figure. They show that the study runs, not what it is worth."
        )
    if some:
        lines.append(f"Fewer than {SOME_PATIENTS} hold-out patients at {listed(some)}: figures there are rough.")
    if any(cell.gains for cell in found):
        lines.append("Of many intervals of 95 %, one in twenty leaves out the truth by chance: they are not adjusted.")
    lines.append("Passing the screening does not make a synthetic image anonymous: see each site's privacy statement.")
    return tuple(lines)
