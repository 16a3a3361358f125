"""What the benchmark of private training says: rows, the claims that follow from them, and a plot over epsilon."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from tests.benchmarks.harness import Claim, Row, at_least, at_most, row

# Before pyplot is there: no display is needed, and none is looked for.
matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.ticker import NullLocator

CLAIMED_AT, CLAIMED_CASES = 8.0, 400
# arm -> the words of its rows and its line; None: a level, without an epsilon.
ARMS: dict[str, tuple[str, str | None]] = {
    "private": ("private generator", "#0072b2"),
    "scratch": ("private critic from scratch", "#d55e00"),
    "moments": ("prior with noised colour moments", "#009e73"),
    "votes": ("prior re-weighted by noisy votes", "#cc79a7"),
    "prior": ("prior alone", None),
    "cohort": ("cohort generator, no privacy", None),
    "real": ("real pairs", None),
}
_UNITS = {"iou": "IoU", "step_s": "core-s", "certified": "epsilon", "certifiable": "epsilon"}


@dataclass(frozen=True)
class Figure:
    """One measured figure, a value a run. epsilon: -1 where there is no guarantee, 0 where no patient was read."""

    size_px: int
    cases: int
    arm: str
    epsilon: float
    column: str
    values: list[float]


def rows(figures: Sequence[Figure]) -> list[Row]:
    """A row a figure."""
    ordered = sorted(figures, key=lambda f: (f.column, f.size_px, f.cases, f.arm, f.epsilon))
    return [row(_words(figure), _UNITS[figure.column], [round(v, 4) for v in figure.values]) for figure in ordered]


def _words(figure: Figure) -> str:
    if figure.column == "step_s":
        return f"critic step, {figure.arm.removeprefix('step ')}"
    guarantee = "no noise" if figure.epsilon < 0 else f"epsilon {figure.epsilon:g}"
    if figure.arm == "audit":
        return f"audit with {figure.cases} canaries, {guarantee}: {figure.column} epsilon"
    words, colour = ARMS[figure.arm]
    return f"{figure.size_px} px, {figure.cases} cases: {words}" + (f", {guarantee}" if colour else "")


def claims(figures: Sequence[Figure]) -> list[Claim]:
    """The goals whose figures were measured, on medians."""
    return list(_claims(figures))


def _claims(figures: Sequence[Figure]) -> Iterator[Claim]:
    steps = {f.arm: statistics.median(f.values) for f in figures if f.column == "step_s"}
    if {"step private", "step plain"} <= steps.keys():
        ratio = steps["step private"] / steps["step plain"]
        yield at_most("a private critic step against a plain one", 2.0, "times its time", ratio)
    for figure in figures:
        if figure.column == "certified" and figure.epsilon > 0:
            yield at_most(
                f"audit at epsilon {figure.epsilon:g}: what it certifies", figure.epsilon, "", figure.values[0]
            )
        elif figure.column == "certified":
            yield at_least("audit without noise: the leak is found", 1.0, "certified epsilon", figure.values[0])
    for size, cases in sorted({(f.size_px, f.cases) for f in figures if f.column == "iou"}):
        if cases == CLAIMED_CASES:
            yield from _claims_of(figures, size, cases)


def _claims_of(figures: Sequence[Figure], size: int, cases: int) -> Iterator[Claim]:
    of = {(f.arm, f.epsilon): f.values for f in figures if (f.size_px, f.cases, f.column) == (size, cases, "iou")}
    private = of.get(("private", CLAIMED_AT))
    at = f"{size} px, {cases} cases, epsilon {CLAIMED_AT:g}: "
    if private is None:
        return
    prior, real = of.get(("prior", 0.0)), of.get(("real", -1.0))
    if prior is not None and min(len(private), len(prior)) > 1:  # one run has no spread to exceed
        spread = max(max(values) - min(values) for values in (private, prior))
        gain = statistics.median(private) - statistics.median(prior)
        yield at_least(f"{at}IoU over the prior's, less the seeds' spread", 0.001, "", gain - spread)
    if real is not None:
        share = statistics.median(private) / statistics.median(real)
        yield at_least(f"{at}IoU over that of the real pairs", 0.7, "", share)


def plot(figures: Sequence[Figure], path: Path) -> bool:
    """IoU over epsilon, a panel a cohort and size, with the runs' range. False, and no file, where there is none."""
    shown = [f for f in figures if f.column == "iou"]
    panels = sorted({(f.size_px, f.cases) for f in shown})
    if not panels:
        return False
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5.2 * len(panels), 4.2), sharey=True, squeeze=False)
    for axis, (size, cases) in zip(axes[0], panels, strict=True):
        here = [f for f in shown if (f.size_px, f.cases) == (size, cases)]
        for arm, (words, colour) in ARMS.items():
            own = sorted((f for f in here if f.arm == arm), key=lambda f: f.epsilon)
            medians = [statistics.median(f.values) for f in own]
            if own and colour is None:
                style = {"prior": ":", "cohort": "--", "real": "-"}[arm]
                axis.axhline(medians[0], color="#595959", linestyle=style, label=words)
            elif own:
                ranges = [[m - min(f.values) for f, m in zip(own, medians, strict=True)],
                          [max(f.values) - m for f, m in zip(own, medians, strict=True)]]  # fmt: skip
                axis.errorbar([f.epsilon for f in own], medians, ranges, fmt="o-", color=colour, capsize=3, label=words)
        axis.set(xscale="log", title=f"{cases} cases, {size} px", xlabel="epsilon")
        axis.set_xticks(sorted({f.epsilon for f in here if f.epsilon > 0}) or [1.0])
        axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(color="#dddddd", linewidth=0.6)
        axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.14), frameon=False)
    axes[0][0].set_ylabel("IoU of UNet++ on real test cases")
    axes[0][0].set_ylim(bottom=0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)
    return True
