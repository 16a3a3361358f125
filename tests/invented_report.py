"""Reports of studies that never were: figures as a study could have them, for any number of sites."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from coordinator.evaluation.plan import asked
from coordinator.evaluation.report_data import (
    DatasetData,
    DistributionAnswer,
    Means,
    Release,
    ReportData,
    RunData,
    SiteData,
)
from shared.documents import digest
from shared.findings import ArmFigures, Comparison, Distribution, Gain, Interval
from shared.metrics import NAMES, MetricName, Metrics
from shared.pairs import Pair
from shared.privacy import Access, PrivacyStatement
from shared.sheets import contact_sheet
from shared.study import Arm, Study

SITES = ("alder", "birch", "cedar", "elm-university-hospital", "fir", "hazel")
STATEMENT = PrivacyStatement(accesses=(Access(kind="training"), Access(kind="screening"), Access(kind="metrics")))
ARMS: tuple[Arm, ...] = (
    "real_own", "real_plain", "real_classical", "synthetic_own", "synthetic_pooled", "real_and_others", "refined",
    "few_real", "few_synthetic",
)  # fmt: skip
# About what UNet++ reached on real polyps; invented for every other arm.
_IOU: dict[Arm, float] = {
    "real_own": 0.58, "real_plain": 0.52, "real_classical": 0.56, "synthetic_own": 0.43, "synthetic_pooled": 0.47,
    "real_and_others": 0.62, "refined": 0.61, "few_real": 0.30, "few_synthetic": 0.33,
}  # fmt: skip


def invented_study(**changes: Any) -> Study:
    """A study with every arm."""
    values: dict[str, Any] = {
        "study_id": "polyps-2027",
        "title": "Polyp segmentation across hospitals",
        "purpose": "Would a hospital's segmentation be better with what the others can share?",
        "closes": datetime(2027, 12, 31, tzinfo=UTC),
        "generator": {"samples_per_case": 5},
        "evaluation": {"arms": ARMS, "per_case": (1, 2, 3), "few_cases": (5, 10, 20, 50)},
    }
    return Study.model_validate(values | changes)


def pair(seed: int = 0, side: int = 32) -> Pair:
    """Noise with a rectangle."""
    draw = np.random.default_rng(seed)
    mask = np.zeros((side, side), np.uint8)
    mask[8:20, 10:24] = 255
    return Pair(draw.integers(0, 256, (side, side, 3), np.uint8), mask)


def metrics(iou: float) -> Metrics:
    """Metrics that could belong to an IoU."""
    f_score = 2 * iou / (1 + iou)
    return Metrics(
        dice_loss=1 - f_score, iou=iou, f_score=f_score, accuracy=0.9125, recall=f_score, precision=f_score,
        hd95=(1 - iou) / 2, lesions_found=f_score,
    )  # fmt: skip


def arm_figures(
    arm: Arm, iou: float, *, trained_on: str | None = None, n: int | None = None, seeds: int = 3, spread: float = 0.05,
    gain: float | None = None, gain_spread: float = 0.04,
) -> ArmFigures:  # fmt: skip
    """One arm with intervals of +- spread; gain None for the reference."""
    means = metrics(iou)
    figures: dict[MetricName, Interval] = {
        name: Interval(
            mean=value, low=max(0.0, round(value - spread, 3)), high=min(1.0, round(value + spread, 3))
        )
        for name in NAMES
        for value in [round(getattr(means, name), 3)]
    }  # fmt: skip
    gains: dict[MetricName, Gain] | None = None
    if gain is not None:
        gains = {
            name: Gain(mean=round(gain, 3), low=round(gain - gain_spread, 3), high=round(gain + gain_spread, 3))
            for name in NAMES
        }
    return ArmFigures(
        arm=arm, trained_on=trained_on, n=n, seeds=seeds, seed_spread=0.012, figures=figures, gains=gains
    )  # fmt: skip


def comparison(study: Study, site: str, released: Sequence[str], *, patients: int, seed: int = 0) -> Comparison:
    """Every network of the study at one site."""
    draw, spec = np.random.default_rng(seed), study.evaluation
    base, lines = draw.normal(0, 0.03), []
    for item in dict.fromkeys((i.arm, i.trained_on, i.n) for i in asked(spec, released)):
        arm, trained_on, n = item
        iou = _IOU[arm] + base + draw.normal(0, 0.015) - (0.09 if trained_on in released and trained_on != site else 0)
        if n is not None:
            iou += 0.06 * np.log(n / 5) if arm in ("few_real", "few_synthetic") else 0.04 * np.log(n / 5)
        gain = None if arm == "real_own" else iou - _IOU["real_own"] - base
        lines.append(
            arm_figures(
                arm,
                float(iou),
                trained_on=trained_on,
                n=n,
                seeds=len(spec.seeds),
                spread=0.3 / np.sqrt(patients),
                gain=gain,
                gain_spread=0.16 / np.sqrt(patients),
            )
        )
    return Comparison(
        study_sha256=digest(study), dataset_version=1, reference="real_own", patients=patients, resamples=2000,
        arms=tuple(lines),
    )  # fmt: skip


def distribution(study: Study, trained_on: str, *, features: bool) -> Distribution:
    """Distances of a source's pairs from a site's real ones."""
    plain = (("patch_wasserstein", 0.0213, 0.0091), ("kl_intensity", 0.184, 0.0312), ("kl_masks", 0.402, 0.121))
    deep = (("frechet", 148.2, 41.7), ("kernel", 0.0411, -0.0004), ("single_image_frechet", 0.0981, 0.0712))
    return Distribution.model_validate(
        {
            "study_sha256": digest(study), "dataset_version": 1, "trained_on": trained_on, "patients": 60,
            "images": 200, "features": "squeezenet" if features else "none",
            "measures": [
                {"name": name, "value": value, "yardstick": yardstick}
                for name, value, yardstick in (*plain, *(deep if features else ()))
            ],
        }
    )  # fmt: skip


def release(**changes: Any) -> Release:
    """What a site let out."""
    values: dict[str, Any] = {
        "pairs": 412, "training_patients": 84, "sampled": 420, "rejected": {"copy": 3, "mask-empty": 5}, "planted": 60,
        "planted_found": 58, "verdict": "passed", "software": ("synthward/0.1.0",), "privacy_label": STATEMENT.label(),
        "privacy_sentences": tuple(STATEMENT.sentences()), "acceptance": 412 / 420,
        "sheet_png": contact_sheet([pair(seed) for seed in range(8)], columns=8, cell_px=112), "sheet_pairs": 8,
    }  # fmt: skip
    return Release(**(values | changes))


def invented(count: int = 2, *, study: Study | None = None, **changes: Any) -> ReportData:
    """A whole report on this many sites. changes: of ReportData's fields."""
    study = study or invented_study()
    names = SITES[:count]
    sites = [
        SiteData(
            name=name,
            cases=260 - 30 * index,
            patients=120 - 12 * index,
            holdout_patients=36 - 5 * index,
            release=release(
                acceptance=0.98 - 0.11 * index, pairs=412 - 40 * index,
                membership_auc=0.56 + 0.03 * index if index % 2 else None,
                verdict="inconclusive" if 36 - 5 * index < 20 else "passed",
            ),
            comparison=comparison(study, name, names, patients=36 - 5 * index, seed=index),
            distributions=tuple(
                DistributionAnswer(trained_on=source, found=distribution(study, source, features=index % 2 == 0))
                for source in (name, "pooled")
            ),
        )
        for index, name in enumerate(names)
    ]  # fmt: skip
    values: dict[str, Any] = {
        "study": study,
        "study_sha256": digest(study),
        "created": datetime(2027, 3, 1, 12, 30, tzinfo=UTC),
        "sites": tuple(sites),
        "dataset": DatasetData(version=1, pairs=412 * count, sha256="ab" * 32),
        "versions": {"python": "3.11.9", "synthward": "0.1.0", "torch": "2.13.0"},
        "notes": ("birch counts each pair as one patient",),
        "run": RunData(
            egress={"alder": {"release": 1_234_567, "enrolment": 912}},
            seconds={"train": 124.0, "screen": 2.25},
            peak_rss_mb={"superlink": 188.4},
        ),
    }
    return ReportData(**(values | changes))


def without_comparison(data: ReportData, name: str, why: str, *, scored: float | None = None) -> ReportData:
    """The same report where one site has no comparison; scored: mean IoU of each network there, None for no answer."""
    spec, released = data.study.evaluation, [site.name for site in data.sites if site.release]
    keys = dict.fromkeys((item.arm, item.trained_on, item.n) for item in asked(spec, released))
    told = None if scored is None else metrics(scored)
    means = [
        Means(
            arm=arm, trained_on=trained_on, n=n, site=name, seeds=0 if told is None else 1, metrics=told,
            patients=None if told is None else 24, reason=why if told is None else "",
        )
        for arm, trained_on, n in keys
    ]  # fmt: skip
    sites = [
        site.model_copy(update={"comparison": None, "no_comparison": why}) if site.name == name else site
        for site in data.sites
    ]
    partial = data.model_copy(update={"sites": tuple(sites), "means": tuple(means)})
    return ReportData.model_validate(partial.model_dump())
