"""What the utility benchmark says: rows, the claims that follow from them, and a plot of the arms.

Figures, intervals and gains are made by the product's own comparison (site_node.scoring.comparison), on patients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

from shared.findings import ArmFigures, Gain
from shared.metrics import MetricName, Metrics
from site_node.scoring.comparison import compare
from tests.benchmarks.harness import Claim, Row, at_least, at_most, row

# Before pyplot is there: no display is needed, and none is looked for.
matplotlib.use("Agg")
from matplotlib import pyplot

RESAMPLES, DECIMALS, BOOTSTRAP_SEED = 2000, 4, 0
SYNTHETIC_OF_REAL = 0.95  # of the F-score
FEW_AT, FEW_GAIN = 5, 0.30  # relative, of the IoU
OTHERS_GAIN = 0.05  # IoU, at the other hospital
OWN_LOSS = 0.02  # IoU, at one's own
MEMORY_GROWTH = 1.1
_SHOWN: tuple[MetricName, ...] = ("iou", "f_score")
_WORDS = {"iou": "IoU", "f_score": "F-score"}
_OVER_PATIENTS = "mean, 95 % over patients"
# What a network was trained on, seen from where it is tested: colour, marker, and place within the arm's line.
_KINDS = (
    ("its own", "#0072b2", "o", 0.2),
    ("another hospital's", "#d55e00", "s", 0.0),
    ("all", "#009e73", "D", -0.2),
)


@dataclass(frozen=True)
class Measured:
    """One network's scores: tested at -> seed -> patient key -> the mean over the patient's cases.

    failed: the error codes of seeds that gave no network.
    """

    part: str
    label: str
    trained_on: str
    n: int | None
    scores: dict[str, dict[int, dict[str, Metrics]]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        """The arm as rows name it."""
        unit = {"few": " cases", "per_case": " a case"}.get(self.part, "")
        return self.label + (f", {self.n}{unit}" if self.n else "")


def figures_of(by_seed: Mapping[int, Mapping[str, Metrics]]) -> ArmFigures:
    """One network's figures at one hospital."""
    return compare(
        {("real_own", None, None): by_seed}, "real_own", decimals=DECIMALS, seed=BOOTSTRAP_SEED, resamples=RESAMPLES
    )[0]


def gain_of(found: Measured, reference: Measured, at: str, metric: MetricName = "iou") -> Gain | None:
    """The gain of a network over a reference at a hospital, on the seeds that both have; None where there is none."""
    ours, theirs = found.scores.get(at, {}), reference.scores.get(at, {})
    seeds = ours.keys() & theirs.keys()
    if not seeds:
        return None
    both = {
        # Which arms they are is nothing to the comparison: a reference, and what is compared with it.
        ("real_own", None, None): {seed: theirs[seed] for seed in seeds},
        ("synthetic_own", None, None): {seed: ours[seed] for seed in seeds},
    }
    compared = compare(both, "real_own", decimals=DECIMALS, seed=BOOTSTRAP_SEED, resamples=RESAMPLES)  # type: ignore[arg-type]
    return None if compared[1].gains is None else compared[1].gains[metric]


def rows(words: str, measured: Sequence[Measured], peaks: Mapping[int, float] | None) -> list[Row]:
    """Two rows a network and hospital, one more for its seeds and one for its gain over its reference."""
    return [*_rows(words, measured), *(_peak_row(count, peak) for count, peak in sorted((peaks or {}).items()))]


def _rows(words: str, measured: Sequence[Measured]) -> Iterator[Row]:
    tested = {at: max(len(scores) for scores in found.scores[at].values()) for found in measured for at in found.scores}
    for at, patients in sorted(tested.items()):
        yield Row(f"{words}, tested at {at}", "patients", 1, patients, patients, patients)
    for found in measured:
        of = f"{words}, {found.words} of {found.trained_on}"
        if found.failed:
            yield Row(f"{of}: no network ({', '.join(sorted(set(found.failed)))})", "runs", len(found.failed), 0, 0, 0)
        for at, by_seed in found.scores.items():
            figures = figures_of(by_seed)
            for metric in _SHOWN:
                interval = figures.figures[metric]
                name = f"{of}, at {at}: {_WORDS[metric]}"
                yield Row(name, _OVER_PATIENTS, figures.seeds, interval.mean, interval.low, interval.high)
            if len(by_seed) > 1:
                yield row(f"{of}, at {at}: IoU by seed", "IoU", [_mean_iou(scores) for scores in by_seed.values()])
            reference = reference_of(found, measured, at)
            gain = None if reference is None else gain_of(found, reference, at)
            if gain is not None and reference is not None:
                name = f"{of}, at {at}: IoU over {reference.words} of {reference.trained_on}"
                seeds = len(by_seed.keys() & reference.scores[at].keys())
                yield Row(name, _OVER_PATIENTS, seeds, gain.mean, gain.low, gain.high)


def _mean_iou(scores: Mapping[str, Metrics]) -> float:
    return round(sum(metrics.iou for metrics in scores.values()) / len(scores), DECIMALS)


def _peak_row(count: int, peak: float) -> Row:
    return row(f"peak memory, {count} network{'s' if count > 1 else ''} trained and scored in a row", "MB", [peak])


def reference_of(found: Measured, measured: Sequence[Measured], at: str) -> Measured | None:
    """What a network is to be better than: real cases of the same hospital, or of `at` for those of all hospitals.

    Drawn from a few: those few. In style: the same samples without.
    """
    label, n = {"few": ("few_real", found.n), "style": ("synthetic_own", 1)}.get(found.part, ("real_own", None))
    hospital = found.trained_on if any(found.trained_on == name for name in found.scores) else at
    other = of(measured, label, hospital, n)
    return None if other is found else other


def of(measured: Sequence[Measured], label: str, trained_on: str, n: int | None = None) -> Measured | None:
    """The network of this arm, where it was measured."""
    return next((m for m in measured if (m.label, m.trained_on, m.n) == (label, trained_on, n)), None)


def claims(words: str, measured: Sequence[Measured], peaks: Mapping[int, float] | None) -> list[Claim]:
    """The goals whose figures were measured, hospital by hospital."""
    hospitals = sorted({at for found in measured for at in found.scores})
    found = [claim for at in hospitals for claim in _claims_at(words, measured, at, hospitals)]
    if peaks and {1, 3} <= peaks.keys():
        found.append(
            at_most("peak memory of three networks in a row, over that of one", MEMORY_GROWTH, "", peaks[3] / peaks[1])
        )
    return found


def _claims_at(words: str, measured: Sequence[Measured], own: str, hospitals: Sequence[str]) -> Iterator[Claim]:
    real, synthetic = of(measured, "real_own", own), of(measured, "synthetic_own", own)
    if _have(own, real, synthetic):
        ratio = _mean(synthetic, own, "f_score") / _mean(real, own, "f_score")
        yield at_least(f"{words}, {own}: F-score of synthetic alone over real alone", SYNTHETIC_OF_REAL, "", ratio)
    yield from _style_claim(words, measured, own)
    few_real, few = of(measured, "few_real", own, FEW_AT), of(measured, "few_synthetic", own, FEW_AT)
    if _have(own, few_real, few):
        gain = _mean(few, own, "iou") / max(_mean(few_real, own, "iou"), 1e-9) - 1
        yield at_least(
            f"{words}, {own}: relative IoU gain of 10 x {FEW_AT} drawn over {FEW_AT} real", FEW_GAIN, "", gain
        )
    both = of(measured, "real_and_others", own)
    if real is None or both is None:
        return
    for at in hospitals:
        gain_there = gain_of(both, real, at)
        if gain_there is None:
            continue
        name = f"{words}, real of {own} and others' synthetic over real alone, at {at}: "
        if at == own:
            yield at_least(f"{name}IoU, low end of the interval", -OWN_LOSS, "", gain_there.low)
        else:
            yield at_least(f"{name}IoU", OTHERS_GAIN, "", gain_there.mean)


def _style_claim(words: str, measured: Sequence[Measured], own: str) -> Iterator[Claim]:
    raw = of(measured, "synthetic_own", own, 1)
    styled = [m for m in measured if m.part == "style" and m.trained_on == own]
    gains = [] if raw is None else [(gain_of(m, raw, own), m.label) for m in styled]
    kept = [(gain, label) for gain, label in gains if gain is not None]
    if kept:
        best, label = max(kept, key=lambda item: item[0].mean)
        name = f"{words}, {own}: IoU of the best of {len(kept)} styles ({label}) over none, low end of the interval"
        yield Claim(name, "> 0", best.low, best.low > 0.0)


def _have(at: str, *found: Measured | None) -> bool:
    return all(one is not None and at in one.scores for one in found)


def _mean(found: Measured | None, at: str, metric: MetricName) -> float:
    assert found is not None
    return figures_of(found.scores[at]).figures[metric].mean


def plot(measured: Sequence[Measured], path: Path) -> bool:
    """The arms' IoU with their intervals, a panel a hospital. False, and no file, where nothing was measured."""
    hospitals = sorted({at for found in measured for at in found.scores})
    if not hospitals:
        return False
    labels = list(dict.fromkeys(found.words for found in measured if found.scores))
    figure, axes = pyplot.subplots(
        1,
        len(hospitals),
        figsize=(5.2 * len(hospitals), 1.6 + 0.3 * len(labels)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, at in zip(axes[0], hospitals, strict=True):
        for words, colour, marker, offset in _KINDS:
            here = [m for m in measured if at in m.scores and _kind(m, at) == words]
            shown = [(m, figures_of(m.scores[at]).figures["iou"]) for m in here]
            if not shown:
                continue
            places = [len(labels) - labels.index(m.words) + offset for m, _ in shown]
            errors = [[i.mean - i.low for _, i in shown], [i.high - i.mean for _, i in shown]]
            axis.errorbar(
                [i.mean for _, i in shown], places, xerr=errors, fmt=marker, color=colour, capsize=2, markersize=4,
                linewidth=1, label=f"trained on {words}",
            )  # fmt: skip
        axis.set(title=f"tested at {at}", xlabel="IoU (mean, 95 % over patients)", xlim=(0.0, None))
        axis.grid(color="#dddddd", linewidth=0.6)
    axes[0][0].set_yticks([len(labels) - place for place in range(len(labels))], labels)
    handles = {words: line for axis in axes[0] for line, words in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
    return True


def _kind(found: Measured, at: str) -> str:
    if found.trained_on == at:
        return "its own"
    return "another hospital's" if found.trained_on in found.scores else "all"
