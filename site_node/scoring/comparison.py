"""Which arm is better, and is it beyond chance? All arms at one site, on the same patients, with intervals.

A patient's figure for an arm is the mean over the arm's seeds; an arm's figure is the mean over patients. An interval
says what other patients of the same kind could have given, with these networks; what other seeds could have given
stands beside it as seed_spread. A gain is the mean over patients of their own differences, so that hard patients, who
are hard for every arm, cancel out. Each interval stands for itself: of twenty gains of nothing, one leaves 0 out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shared.findings import ArmFigures, Gain, Interval
from shared.metrics import NAMES, MetricName, Metrics
from shared.study import Arm
from site_node.scoring.intervals import Floats, bootstrap_mean

ArmKey = tuple[Arm, str | None, int | None]  # arm, trained_on, n
BySeed = Mapping[int, Mapping[str, Metrics]]  # seed -> patient key -> the mean over the patient's cases


def compare(
    scores: Mapping[ArmKey, BySeed], reference: Arm, *, decimals: int, seed: int, resamples: int = 2000
) -> tuple[ArmFigures, ...]:
    """The figures of each arm in `scores`, in its order, rounded to `decimals`.

    The reference of an arm is the reference arm with the same trained_on and n where there is one, otherwise the one
    that shares n, then trained_on, then the one without either. Raises ValueError where an arm has no seed, where the
    patients of two networks are not the same, and with fewer than two patients.
    """
    patients = _shared_patients(scores)
    figures = {key: _by_patient(by_seed, patients) for key, by_seed in scores.items()}  # [P, metrics] each
    found = []
    for (arm, trained_on, n), values in figures.items():
        against = None if arm == reference else _reference(figures, reference, trained_on, n)
        found.append(
            ArmFigures(
                arm=arm,
                trained_on=trained_on,
                n=n,
                seeds=len(scores[arm, trained_on, n]),
                seed_spread=round(_seed_spread(scores[arm, trained_on, n]), decimals),
                figures=_intervals(values, seed, resamples, decimals),
                gains=None if against is None else _gains(values - against, seed, resamples, decimals),
            )
        )
    return tuple(found)


def _shared_patients(scores: Mapping[ArmKey, BySeed]) -> list[str]:
    """The patients of every network, sorted, so that their order in the mappings changes nothing."""
    if not all(scores.values()):
        raise ValueError("an arm was measured with no seed")
    everyone = [frozenset(by_patient) for by_seed in scores.values() for by_patient in by_seed.values()]
    if len(set(everyone)) > 1:
        raise ValueError("networks were scored on different patients: their differences are not paired")
    return sorted(everyone[0]) if everyone else []


def _by_patient(by_seed: BySeed, patients: list[str]) -> Floats:
    """Means over seeds, float64 [P, metrics]."""
    stacked = [
        [[getattr(by_patient[patient], name) for name in NAMES] for patient in patients]
        for _, by_patient in sorted(by_seed.items())
    ]
    return np.mean(np.array(stacked, dtype=np.float64), axis=0)  # type: ignore[no-any-return]  # [seeds, P, metrics]


def _reference(
    figures: Mapping[ArmKey, Floats], reference: Arm, trained_on: str | None, n: int | None
) -> Floats | None:
    nearest: tuple[ArmKey, ...] = (
        (reference, trained_on, n), (reference, None, n), (reference, trained_on, None), (reference, None, None),
    )  # fmt: skip
    return next((figures[key] for key in nearest if key in figures), None)


def _seed_spread(by_seed: BySeed) -> float:
    """Sample standard deviation over seeds of the mean IoU; 0 with one seed."""
    ious = [np.mean([metrics.iou for metrics in by_patient.values()]) for by_patient in by_seed.values()]
    return float(np.std(ious, ddof=1)) if len(ious) > 1 else 0.0


def _intervals(values: Floats, seed: int, resamples: int, decimals: int) -> dict[MetricName, Interval]:
    rows = _rounded(values, seed, resamples, decimals, lowest=0.0)
    return {name: Interval(mean=mean, low=low, high=high) for name, (mean, low, high) in zip(NAMES, rows, strict=True)}


def _gains(differences: Floats, seed: int, resamples: int, decimals: int) -> dict[MetricName, Gain]:
    rows = _rounded(differences, seed, resamples, decimals, lowest=-1.0)
    return {name: Gain(mean=mean, low=low, high=high) for name, (mean, low, high) in zip(NAMES, rows, strict=True)}


def _rounded(values: Floats, seed: int, resamples: int, decimals: int, *, lowest: float) -> list[list[float]]:
    """(mean, low, high) of each metric: rounding keeps their order, and the last bit of a sum may stand over 1."""
    found = np.stack(bootstrap_mean(values, seed=seed, resamples=resamples), axis=1)  # [metrics, 3]
    return [[round(value, decimals) + 0.0 for value in row] for row in np.clip(found, lowest, 1.0).tolist()]
