"""The report's words: of metrics, arms, verdicts and reasons, and how numbers are written."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from shared.bundle import Verdict
from shared.findings import Gain, MeasureName
from shared.metrics import MetricName
from shared.orders import OTHERS, POOLED
from shared.study import Arm

METRIC_WORDS: dict[MetricName, str] = {
    "iou": "IoU",
    "f_score": "F-score",
    "recall": "Recall",
    "precision": "Precision",
    "accuracy": "Accuracy",
    "lesions_found": "Lesions found",
    "dice_loss": "Dice loss",
    "hd95": "HD95",
}
LOWER_IS_BETTER: tuple[MetricName, ...] = ("dice_loss", "hd95")
# In the order in which the report lists them: real images, both, synthetic pairs.
ARM_WORDS: dict[Arm, str] = {
    "real_own": "own real images",
    "real_plain": "own real images, not augmented",
    "real_classical": "own real images, classical augmentation",
    "real_and_others": "own real images and the other sites' synthetic pairs",
    "refined": "all sites' synthetic pairs, then own real images",
    "synthetic_pooled": "all sites' synthetic pairs",
    "synthetic_own": "own synthetic pairs",
    "few_real": "the first N own real images",
    "few_synthetic": "10 N synthetic pairs drawn from those N",
}
# The same where there is little room, beside a chart.
SHORT_ARM_WORDS: dict[Arm, str] = {
    "real_own": "Own real",
    "real_plain": "Own real, not augmented",
    "real_classical": "Own real, classical augmentation",
    "real_and_others": "Own real + others' synthetic",
    "refined": "All synthetic, then own real",
    "synthetic_pooled": "All sites' synthetic",
    "synthetic_own": "Own synthetic",
    "few_real": "N real",
    "few_synthetic": "10 N synthetic",
}
# Reasons of shared.bundle.RejectionReason, as a steward would put them.
REJECTION_WORDS = {
    "copy": "too near to a real image",
    "part-copy": "with a part too near to a real one",
    "mask-copy": "with a real outline",
    "text": "with writing in them",
    "implausible": "not plausible for the study",
    "duplicate": "too near to another sample",
    "mask-empty": "no lesion marked",
    "mask-full": "everything marked as lesion",
}
VERDICT_WORDS: dict[Verdict, str] = {
    "passed": "It found as many of its planted copies as the site asks for, and dropped samples that lay nearer to a "
    "training case than two patients do to one another.",
    "inconclusive": "There were too few hold-out patients to tell a copy from chance, so it shows neither that samples "
    "are free of copies nor that they are not. The site's policy let the release go to its stewards all the same.",
    "blocked": "It found a reason against this release.",
}
MEASURE_WORDS: dict[MeasureName, str] = {
    "patch_wasserstein": "Patch-sliced Wasserstein distance",
    "frechet": "Fréchet distance of features",
    "kernel": "Kernel distance of features",
    "single_image_frechet": "Single-image Fréchet distance",
    "kl_intensity": "KL divergence of intensities",
    "kl_masks": "KL divergence of mask geometry",
}
MINUS = "\N{MINUS SIGN}"


def trained_on_words(arm: Arm, trained_on: str | None, n: int | None) -> str:
    """What a network was trained on, for a table in which every site's networks stand."""
    words = f"synthetic pairs of {trained_on}" if arm == "synthetic_own" else ARM_WORDS[arm]
    if n is None:
        return words
    return f"{words}, N = {n}" if arm in ("few_real", "few_synthetic") else f"{words}, {n} a case"


def source_words(trained_on: str) -> str:
    """Whose pairs: a site's, or all."""
    return {POOLED: "all sites", OTHERS: "the other sites"}.get(trained_on, trained_on)


def signed(value: float, digits: int = 3) -> str:
    """`+0.041`, `−0.020`, `0.000`: with a sign that is as wide as a plus."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0.0:
        return text
    return f"{'+' if value > 0 else MINUS}{text}"


def number(value: float) -> str:
    """Four digits that matter, with a minus that is one."""
    return f"{value:.4g}".replace("-", MINUS)


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """`0.55 to 0.67`; nothing without an interval."""
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"


def signed_interval(gain: Gain) -> str:
    """`+0.002 to +0.080`."""
    return f"{signed(gain.low)} to {signed(gain.high)}"


def gain_text(gain: Gain) -> str:
    """`+0.041 (+0.002 to +0.080)`."""
    return f"{signed(gain.mean)} ({signed_interval(gain)})"


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


def duration(seconds: float) -> str:
    """`0.4 s`, `42 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(when: datetime) -> str:
    """`21 November 2026, 11:44 UTC`."""
    utc = when.astimezone(UTC)
    return f"{utc.day} {utc:%B %Y, %H:%M} UTC"
