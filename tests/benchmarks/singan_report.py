"""What the generators' benchmark says: its figures, the claims that follow from them, the plot and the sheets."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

from shared.pairs import Pair
from shared.sheets import contact_sheet
from tests.benchmarks.harness import Claim, Row, at_least, at_most, row

# Before pyplot is there: no display is needed, and none is looked for.
matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.axes import Axes

# column -> what it is, the unit of its row, and by what its values are multiplied to be in that unit. In table order.
COLUMNS: dict[str, tuple[str, str, float]] = {
    "timed_s": ("training a case", "core-s", 1.0),
    "short_peak_mb": ("peak of a training process with its libraries", "MB", 1.0),
    "core_s": ("training, all in all, a case", "core-s", 1.0),
    "sample_s": ("drawing a sample", "core-ms", 1000.0),
    "peak_mb": ("peak of the whole training's process with its libraries", "MB", 1.0),
    "kept": ("cases whose training did not diverge", "of all", 1.0),
    "patch": ("patch distance from the training pairs", "1/1000 of the range", 1000.0),
    "halves": ("patch distance between halves of the real pairs", "1/1000 of the range", 1000.0),
    "diversity": ("distance between samples over that between real images", "", 1.0),
    "binary": ("mask values within 0.1 of 0 or 1", "of all", 1.0),
    "usable": ("masks neither empty nor full", "of all", 1.0),
    "nearest": ("correlation with the nearest training image", "", 1.0),
    "q5": ("samples nearer to training than 95 % of hold-outs are", "of all", 1.0),
    "iou": ("IoU of UNet++ on test cases", "", 1.0),
}
# Okabe and Ito's colours and a mark for each arm, as in the reports.
# arm -> the arm whose training it is, colour, mark
_MARKS = {
    "faithful share": ("faithful share", "#1a1a1a", "s"),
    "fast compared": ("fast", "#8f5300", "d"),
    "fast": ("fast", "#b34700", "D"),
    "cohort": ("cohort", "#0065a3", "o"),
    "cohort own": ("cohort own", "#00745a", "^"),
}
_SHEET_ROWS, _SHEET_COLUMNS = 3, 4


@dataclass(frozen=True)
class Figure:
    """Measured values of one column, one a run; arm: a key, words: the arm with all that it was made of."""

    size_px: int
    arm: str
    words: str
    column: str
    values: list[float]


@dataclass(frozen=True)
class Figures:
    """All figures, to be looked up by size, arm and column."""

    all: tuple[Figure, ...]

    def values(self, size_px: int, arm: str, column: str) -> list[float] | None:
        """The runs' values; None where they were not measured."""
        wanted = (size_px, arm, column)
        return next((f.values for f in self.all if (f.size_px, f.arm, f.column) == wanted), None)

    def median(self, size_px: int, arm: str, column: str) -> float | None:
        """The median over the runs."""
        values = self.values(size_px, arm, column)
        return None if values is None else statistics.median(values)

    def words(self, size_px: int, arm: str, column: str) -> str:
        """What a measured figure was made of. Raises StopIteration where there is none."""
        return next(f.words for f in self.all if (f.size_px, f.arm, f.column) == (size_px, arm, column))

    @property
    def sizes(self) -> list[int]:
        """In ascending order."""
        return sorted({figure.size_px for figure in self.all})


def rows(figures: Figures) -> list[Row]:
    """A row a figure, by size and column."""
    place = {column: index for index, column in enumerate(COLUMNS)}
    return [_row(figure) for figure in sorted(figures.all, key=lambda f: (f.size_px, place[f.column]))]


def _row(figure: Figure) -> Row:
    words, unit, factor = COLUMNS[figure.column]
    values = [round(factor * value, 4) for value in figure.values]
    return row(f"{figure.size_px} px, {words}: {figure.words}", unit, values)


def claims(figures: Figures) -> list[Claim]:
    """The goals whose figures were measured, all on medians."""
    return [claim for size in figures.sizes for claim in _claims_of(figures, size)]


def _claims_of(figures: Figures, size: int) -> Iterator[Claim]:
    def ratio(arm: str, column: str, over: str, over_column: str) -> float | None:
        one, other = figures.median(size, arm, column), figures.median(size, over, over_column)
        return None if one is None or other is None or other == 0.0 else one / other

    at = f"{size} px: "
    faithful, fast = (
        ratio("reference", "timed_s", "faithful", "timed_s"),
        ratio("reference", "timed_s", "fast", "timed_s"),
    )
    cohort, use = ratio("reference", "timed_s", "cohort", "core_s"), ratio("cohort", "iou", "real", "iou")
    linear = ratio("fast 6", "timed_s", "fast 2", "timed_s")
    if faithful is not None:
        yield at_least(f"{at}faithful against the reference", 1.4, "times as fast", faithful)
    if fast is not None and size == 128:
        yield at_least(f"{at}fast against the reference", 20.0, "times as fast", fast)
    if cohort is not None:
        yield at_least(f"{at}cohort against the reference, a case", 200.0, "times as fast", cohort)
    share, few = figures.median(size, "faithful share", "iou"), figures.median(size, "fast compared", "iou")
    if share is not None and few is not None:
        yield at_most(f"{at}IoU of faithful's share of iterations over fast's, same cases", 0.01, "", share - few)
    if use is not None:
        yield at_least(f"{at}IoU of cohort's samples alone over that of its real cases", 0.85, "", use)
    q5 = figures.median(size, "cohort", "q5")
    if q5 is not None:
        yield at_most(f"{at}cohort's samples nearer to training than 95 % of hold-outs are", 0.06, "of all", q5)
    if size == 250:
        for arm in ("faithful", "fast"):
            peak = figures.median(size, arm, "short_peak_mb")
            if peak is not None:
                yield at_most(f"{at}memory of a worker that trains {arm}", 1000.0, "MB", peak)
    if linear is not None:
        yield at_most(f"{at}time a case, six in a row against two: difference", 0.1, "of it", abs(linear - 1.0))


def plot(figures: Figures, path: Path) -> bool:
    """IoU over core-seconds a case, a point an arm and size, lines from the lowest run to the highest.

    The reference's whole schedule has a cost and no IoU: it is a line. False, and no file, where there is no point.
    """
    sizes = [size for size in figures.sizes if any(figures.values(size, arm, "iou") for arm in _MARKS)]
    if not sizes:
        return False
    figure, axes = pyplot.subplots(1, len(sizes), figsize=(6.2 * len(sizes), 4.2), sharey=True, squeeze=False)
    for axis, size in zip(axes[0], sizes, strict=True):
        _panel(axis, figures, size)
    axes[0][0].set_ylabel("IoU of UNet++ on real test cases")
    axes[0][0].set_ylim(bottom=0.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, bbox_inches="tight")
    pyplot.close(figure)
    return True


def _panel(axis: Axes, figures: Figures, size: int) -> None:
    for arm, (trained, colour, mark) in _MARKS.items():
        seconds, iou = figures.values(size, trained, "core_s"), figures.values(size, arm, "iou")
        if seconds is not None and iou is not None:
            (x, across), (y, along) = _spread_of(seconds), _spread_of(iou)
            words = figures.words(size, arm, "iou")
            axis.errorbar(x, y, along, across, fmt=mark, color=colour, markersize=8, capsize=3, label=words)
    for arm, style in (("real", "-"), ("real few", ":")):
        middle = figures.median(size, arm, "iou")
        if middle is not None:
            axis.axhline(middle, color="#595959", linestyle=style, label=figures.words(size, arm, "iou"))
    reference = figures.median(size, "reference", "timed_s")
    if reference is not None:
        axis.axvline(reference, color="#595959", linestyle="--", label="reference, whole schedule: IoU not measured")
    axis.set(xscale="log", title=f"{size} px", xlabel="training, core-seconds a case")
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.0, -0.14), frameon=False)


def _spread_of(values: Sequence[float]) -> tuple[float, list[list[float]]]:
    """The median, and how far the lowest and the highest are from it."""
    middle = statistics.median(values)
    return middle, [[middle - min(values)], [max(values) - middle]]


def sheet(samples: Sequence[Pair], reals: Sequence[Pair], path: Path) -> None:
    """Twelve samples at the left, spread evenly over all, and twelve real pairs at the right, each with its outline."""
    count = _SHEET_ROWS * _SHEET_COLUMNS
    cells: list[Pair] = []
    left, right = _spread(samples, count), _spread(reals, count)
    for start in range(0, count, _SHEET_COLUMNS):
        cells += left[start : start + _SHEET_COLUMNS] + right[start : start + _SHEET_COLUMNS]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(contact_sheet(cells, columns=2 * _SHEET_COLUMNS, cell_px=128))


def _spread(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """`count` pairs, evenly taken; some twice where there are fewer."""
    return [pairs[index * len(pairs) // count] for index in range(count)]
