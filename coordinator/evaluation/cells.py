"""The report's one table: a cell for each network at each site, whichever of a site's answers it comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from coordinator.evaluation.report_data import Means, ReportData
from shared.findings import ArmFigures, Comparison, Gain
from shared.metrics import NAMES, MetricName
from shared.study import Arm

Key = tuple[Arm, str | None, int | None]


@dataclass(frozen=True)
class Figure:
    """A mean over patients in [0, 1], and its interval; without one, low and high are None."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Cell:
    """One network at one site: figures of all metrics over `seeds` seeds, or a reason why there are none.

    gains: over the comparison's reference, where there is a comparison and this is not the reference. runs: the fewest
    training runs on either side of them.
    """

    arm: Arm
    trained_on: str | None
    n: int | None
    site: str
    seeds: int = 0
    patients: int | None = None
    figures: Mapping[MetricName, Figure] = field(default_factory=dict)
    gains: Mapping[MetricName, Gain] = field(default_factory=dict)
    runs: int = 0
    reason: str = ""

    @property
    def key(self) -> Key:
        """What the network is, without where it was tested."""
        return self.arm, self.trained_on, self.n

    @property
    def iou(self) -> Figure | None:
        """The figure that the charts show."""
        return self.figures.get("iou")


def cells(data: ReportData) -> tuple[Cell, ...]:
    """All cells of a report: by site in the report's order, what was compared first."""
    found = []
    for site in data.sites:
        if site.comparison is not None:
            found += [_compared(figures, site.name, site.comparison) for figures in site.comparison.arms]
        found += [_mean(means) for means in data.means if means.site == site.name]
    return tuple(found)


def ends(figures: Iterable[Figure]) -> list[float]:
    """Both ends of each interval, or the mean where there is none: what an axis has to reach."""
    return [
        value for figure in figures
        for value in ((figure.mean,) if figure.low is None or figure.high is None else (figure.low, figure.high))
    ]  # fmt: skip


def _compared(figures: ArmFigures, site: str, comparison: Comparison) -> Cell:
    references = [other.seeds for other in comparison.arms if other.arm == comparison.reference]
    return Cell(
        arm=figures.arm,
        trained_on=figures.trained_on,
        n=figures.n,
        site=site,
        seeds=figures.seeds,
        patients=comparison.patients,
        figures={name: Figure(i.mean, i.low, i.high) for name, i in figures.figures.items()},
        gains=dict(figures.gains or {}),
        runs=min([figures.seeds, *references]),
    )


def _mean(means: Means) -> Cell:
    metrics = means.metrics
    return Cell(
        arm=means.arm,
        trained_on=means.trained_on,
        n=means.n,
        site=means.site,
        seeds=means.seeds,
        patients=means.patients,
        figures={} if metrics is None else {name: Figure(getattr(metrics, name)) for name in NAMES},
        reason=means.reason,
    )
