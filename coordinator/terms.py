"""A bundle's terms: what its manifest states is what the study asked for, within the study's limits."""

from __future__ import annotations

from coordinator.claims import check_claim
from shared.bundle import Manifest
from shared.errors import SynthwardError
from shared.study import Study

MAX_BUNDLE_BYTES = 64 * 1024**3


def check_terms(manifest: Manifest, study: Study) -> None:
    """Raises admission.study, admission.size, admission.floor, admission.epsilon."""
    stated = (
        manifest.size_px, manifest.channels, manifest.generator, manifest.preset, manifest.style, manifest.style_source,
        manifest.privacy.mode,
    )  # fmt: skip
    asked = (
        study.image.size_px, study.image.channels, study.generator.kind, study.generator.preset, study.style.kind,
        study.style.source, study.privacy.mode,
    )  # fmt: skip
    if stated != asked:
        raise SynthwardError("admission.study", f"the bundle states {stated}, the study asks for {asked}")
    if len(manifest.pairs) > study.release.max_pairs or sum(manifest.objects().values()) > MAX_BUNDLE_BYTES:
        raise SynthwardError("admission.size", f"the bundle has {len(manifest.pairs)} pairs, more than agreed")
    if manifest.training_patients < study.release.min_patients:
        raise SynthwardError("admission.floor", "the bundle comes from fewer patients than the study's floor")
    if manifest.privacy.dp is not None:
        check_claim(manifest.privacy.dp, study.privacy)
