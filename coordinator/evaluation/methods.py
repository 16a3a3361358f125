"""The methods paragraph, ready for a paper, and every setting of the study as it was signed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coordinator.evaluation.chance import FEW_PATIENTS
from coordinator.evaluation.report_data import ReportData
from coordinator.evaluation.words import ARM_WORDS, count, listed
from shared.study import FEW_ARMS, Arm, Study

_GENERATORS = {
    "cohort": "one generator for all training cases of a site",
    "per_case": "one generator for each training case (SinGAN-Seg)",
}
_TRAINED: dict[Arm, str] = {
    "real_own": "the site's own real training images (augmented as in every arm)",
    "real_plain": "the same without augmentation",
    "real_classical": "the same with seven classical augmentations in place of the common ones",
    "synthetic_own": "one site's synthetic pairs, tested at every site",
    "synthetic_pooled": "all sites' synthetic pairs",
    "real_and_others": "half of each batch the site's own real images, half the other sites' synthetic pairs",
    "refined": "all sites' synthetic pairs for half of the steps, then the site's own real images",
    "few_real": "the first N of the site's real training images",
    "few_synthetic": "10 N synthetic pairs of a generator that saw those N images alone",
}


def methods(data: ReportData) -> tuple[str, ...]:
    """Paragraphs: data and generators, networks and protocol, statistics and software."""
    return (_sources(data), _protocol(data), _statistics(data))


def settings(study: Study) -> tuple[tuple[str, str], ...]:
    """(key, value) of everything that the study declares, in its order."""
    return tuple((key, _value(value)) for key, value in _flat(study.model_dump(mode="json")))


def _sources(data: ReportData) -> str:
    study, sites = data.study, data.sites
    releases = [site.release for site in sites if site.release]
    style = (
        "No style was transferred"
        if study.style.kind == "none"
        else f"Style ({study.style.kind}, strength {study.style.strength:g}) was taken from {study.style.source} images"
    )
    mode = (
        "Releases carry no formal privacy guarantee (mode audited)"
        if study.privacy.mode == "audited"
        else f"Generators were trained with differential privacy (epsilon at most {study.privacy.epsilon}, delta "
        f"{study.privacy.delta}, unit: a patient at one site)"
    )
    patients = [site.holdout_patients for site in sites if site.holdout_patients is not None]
    held_out = f" ({min(patients)} to {max(patients)} patients a site)" if patients else ""
    return (
        f"{count(len(sites), 'site')} took part; {len(releases)} of them released "
        f"{count(sum(release.pairs for release in releases), 'synthetic pair')} of an image and a lesion mask "
        f"({study.image.size_px} x {study.image.size_px} px, {'RGB' if study.image.channels == 3 else 'grey'}). Each "
        f"site split its cases by patient into training and a fixed hold-out{held_out} before any training. Pairs were "
        f"sampled from {_GENERATORS[study.generator.kind]} (preset {study.generator.preset}, up to "
        f"{count(study.generator.samples_per_case, 'sample')} a training case), fitted to training patients only: no "
        f"generator saw a patient on whom its pairs were judged. {style}. Samples were screened against training and "
        f"hold-out cases with planted copies as control, and each release was approved by a steward. {mode}."
    )


def _protocol(data: ReportData) -> str:
    spec = data.study.evaluation
    arms = "; ".join(f"{_TRAINED[arm]} ({arm})" for arm in ARM_WORDS if arm in spec.arms)
    weights = {"package": "ImageNet weights", "none": "weights drawn at random"}.get(
        spec.encoder_weights, f"weights of the file with SHA-256 {spec.encoder_weights}"
    )
    few = f" N was {listed([str(n) for n in spec.few_cases])}." if set(FEW_ARMS) & set(spec.arms) else ""
    per_case = (
        f" The synthetic arms were also trained with {listed([str(n) for n in spec.per_case])} pairs a training case."
        if spec.per_case else ""
    )  # fmt: skip
    return (
        f"Segmentation networks were UNet++ (encoder {spec.encoder}, {weights}, decoder channels "
        f"{', '.join(map(str, spec.decoder_channels))}), trained with AdamW for {count(spec.steps, 'optimiser step')} "
        f"on batches of {spec.batch_size} (learning rate {spec.learning_rate:g}, warm-up and cosine decay; loss: "
        "binary cross-entropy plus 1 - soft Dice). Steps, batch size and augmentation (geometry, colour, blur, "
        "sharpening, noise) were equal in all arms but where an arm is about augmentation. A validation part, set "
        "aside from the training data by patient (by pair, where that is synthetic), chose the checkpoint; the "
        f"hold-out that is reported never did. Each network was trained with {count(len(spec.seeds), 'seed')} "
        f"({', '.join(map(str, spec.seeds))}). Networks were trained on: {arms}.{few}{per_case} Those trained on "
        "real images were trained and tested at the site that holds them; their weights never left it."
    )


def _statistics(data: ReportData) -> str:
    compared = [site.comparison for site in data.sites if site.comparison]
    if compared:
        resamples = sorted({comparison.resamples for comparison in compared})
        reference = listed(sorted({ARM_WORDS[comparison.reference] for comparison in compared}))
        how = (
            "Figures are means over patients of each patient's mean over cases and seeds. Intervals are 95 % bootstrap "
            f"intervals over patients ({listed([f'{n:,}' for n in resamples])} resamples); gains are paired by "
            f"patient, over {reference}. A gain is called beyond chance where its interval leaves out 0, at least "
            f"{FEW_PATIENTS} patients were held out and the network was trained with more than one seed; intervals "
            "are not adjusted for their number."
        )
    else:
        how = "Figures are means over seeds and patients, without intervals."
    sites = sorted({name for site in data.sites if site.release for name in site.release.software})
    versions = ", ".join(f"{name} {number}" for name, number in data.versions.items())
    return (
        f"{how} HD95 is the 95 % Hausdorff distance of the outlines as a share of the image's diagonal; a lesion "
        f"counts as found when half of it is covered. Software: {versions or 'not recorded'}; at the sites: "
        f"{', '.join(sites) or 'not recorded'}. Dataset version {data.dataset.version}, SHA-256 {data.dataset.sha256}; "
        f"study document, SHA-256 {data.study_sha256}."
    )


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
