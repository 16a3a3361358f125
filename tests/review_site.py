"""A site whose steward has something to review: phantoms as cases, samples near and far, an audit of them.

The audit's figures are computed from the pictures that are there, by plain correlation: they are as real as a
screening of phantoms can be, without waiting for one.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from argon2 import PasswordHasher
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from shared.bundle import Manifest, Verdict
from shared.documents import canonical
from shared.identity import new_signing_key
from shared.pairs import Pair, Pixels, sha256_hex
from shared.privacy import Access, PrivacyStatement
from shared.study import Study
from site_node.airlock.accounts import Accounts
from site_node.airlock.workflow import Airlock, release_folder
from site_node.cases import Case, PrivateStore, holdout, training
from site_node.jobs import Queue
from site_node.phantoms.scenes import scene
from site_node.policy import Policy
from site_node.screening.report import (
    Attack,
    AuditReport,
    CheckName,
    CheckResult,
    Control,
    Histogram,
    Interval,
    Near,
    Quantiles,
    Share,
)
from site_node.settings import Home
from tests.helpers import manifest_of, png_objects
from tests.sites import make_site, make_study

PASSWORD = "correct horse battery staple"
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)  # of tests: the real one takes 64 MiB and its time
POLICY = Policy(stewards=("ada", "grace"), min_patients=2, min_holdout_patients=1)
TITLE = "Polyp segmentation across three hospitals"
KINDS = (
    "exact", "jpeg-30", "mirrored", "turned-90", "turned-15", "cropped-70", "recoloured", "warped", "blurred",
    "half-blended", "lesion-pasted", "blocks-shuffled",
)  # fmt: skip
CHECKS: tuple[CheckName, ...] = ("whole", "crop", "features", "embedding", "lesion", "blocks", "mask")


@dataclass(frozen=True)
class ReviewSite:
    """A site with accounts and releases. release_id: the one to review."""

    home: Home
    store: PrivateStore
    accounts: Accounts
    release_id: str
    manifest: Manifest

    @property
    def airlock(self) -> Airlock:
        """The site's airlock."""
        return Airlock(self.store)

    @property
    def digest(self) -> str:
        """What a vote must be for."""
        return self.airlock.release(self.release_id).bundle_sha256

    def actions(self, actor: str) -> list[str]:
        """What the journal says somebody did with the release, in order."""
        policy = POLICY.model_copy(update={"required_approvals": 1})
        return [e.action for e in self.airlock.history(policy, self.release_id, "ada") if e.actor == actor]


def review_site(
    folder: Path, *, policy: Policy = POLICY, samples: int = 20, size_px: int = 32, cases: int = 8,
    verdict: Verdict = "passed",
) -> ReviewSite:  # fmt: skip
    """A site with `cases` phantoms, one release of `samples` pairs, and accounts for the policy's stewards.

    Made once for equal arguments, then copied: making one takes ten times as long.
    """
    template, manifest = _template(policy, samples, size_px, cases, verdict)
    shutil.copytree(template, folder)
    home = Home(folder)
    store = PrivateStore(home.private)
    return ReviewSite(home, store, Accounts(store, hasher=CHEAP), manifest.release_id, manifest)


@cache
def _template(policy: Policy, samples: int, size_px: int, cases: int, verdict: Verdict) -> tuple[Path, Manifest]:
    holder = tempfile.TemporaryDirectory()
    atexit.register(holder.cleanup)
    home = make_site(Path(holder.name) / "site", new_signing_key(), policy=policy)
    store = PrivateStore(home.private)
    store.replace_cases(((f"patient-{seed}", _phantom(seed, 2 * size_px)) for seed in range(cases)), actor="test")
    study = make_study(title=TITLE, image={"size_px": size_px})
    Queue(home.exchange).take_study(canonical(study))
    found = store.cases()
    split = store.split(found, 0.4)
    sides = list(training(found, split)), list(holdout(found, split))
    pairs = _samples(samples, sides[0] if verdict == "blocked" else [], study)
    accounts = Accounts(store, hasher=CHEAP)
    for name in policy.stewards:
        accounts.add(name, PASSWORD)
    report = audit(pairs, *sides, study, verdict=verdict)
    manifest = add_release(store, study, pairs, report, patients=len(split.training))
    store.engine.dispose()
    return home.path, manifest


def add_release(
    store: PrivateStore, study: Study, pairs: list[Pair], report: AuditReport, *, patients: int, number: int = 1
) -> Manifest:
    """Drafts a release of these pairs, as the trainer does."""
    entries, objects = png_objects(pairs)
    accesses = (Access(kind="training"), Access(kind="moments"), Access(kind="screening"))
    manifest = manifest_of(
        study, "north", entries, release_id=f"release-{sha256_hex(canonical(study))[:15]}{number}",
        training_patients=patients, privacy=PrivacyStatement(accesses=accesses),
    )  # fmt: skip
    target = release_folder(store, manifest.release_id) / "objects"
    target.mkdir(parents=True)
    for name, data in objects.items():
        (target / f"{name}.png").write_bytes(data)
    Airlock(store).draft(manifest, report.model_dump(mode="json"), made_by="trainer")
    return manifest


def audit(
    pairs: list[Pair], train: list[Case], held: list[Case], study: Study, *, verdict: Verdict = "passed"
) -> AuditReport:
    """An audit of the pairs, by correlation with the training cases."""
    names = [line.image for pair in pairs for line in png_objects([pair])[0]]
    bank = {case.case_id: _vectors(case.load_for(study.image).image) for case in train}
    near = [_nearest(pair.image, bank) for pair in pairs]
    between = [_nearest(case.load_for(study.image).image, bank)[1] for case in held]
    scores = [score for _, score in near]
    limit = round(min(1.0, max(scores) + 0.005), 3)  # what came nearer was dropped
    nearest = sorted(zip(names, near, strict=True), key=lambda item: -item[1][1])[:4]
    checks = tuple(
        CheckResult(
            name=name, drops=name != "embedding", limit=limit, dropped=3 if name == "whole" else 0,
            samples=Quantiles.of(scores), between_patients=Quantiles.of(between),
            histogram=Histogram.of(scores, between),
            nearest=tuple(Near(sample=sample, case_id=case, score=score) for sample, (case, score) in nearest),
        )
        for name in CHECKS
    )  # fmt: skip
    missed = 0 if verdict == "passed" else 8
    why = {
        "passed": (),
        "inconclusive": (f"{len(held)} patients are held out; under 40 the limits are too uncertain",),
        "blocked": ("of copies with blocks shuffled 12 of 20 were found; the policy asks for 80 %",),
    }
    return AuditReport.model_validate(
        {
            "verdict": verdict,
            "why": why[verdict],
            "sampled": len(pairs) + 5,
            "accepted": len(pairs),
            "rejected": {"copy": 3, "mask-empty": 2},
            "training_patients": len(train),
            "holdout_patients": len(held),
            "checks": checks,
            "false_alarms": Share.of(0, len(held)),
            "controls": tuple(
                Control(
                    kind=kind, found=Share.of(20 - (missed if kind == "blocks-shuffled" else place % 2), 20),
                    floor=0.8 if place > 9 else 0.95, by_nearest_pixel=Share.of(max(0, 20 - 3 * place), 20),
                )
                for place, kind in enumerate(KINDS)
            ),
            "membership": (
                Attack(
                    name="distance", auc=Interval(value=0.53, low=0.44, high=0.62),
                    true_positives_at_1=Interval(value=0.02, low=0.0, high=0.07), limit=0.65,
                ),
                Attack(
                    name="critic", auc=Interval(value=0.71, low=0.62, high=0.8),
                    true_positives_at_1=Interval(value=0.08, low=0.02, high=0.18), limit=None,
                ),
            ),
            "copying_z": -0.4,
            "nearer_to_training": Share.of(31, 60),
            "mask_copies": {"samples": Share.of(1, len(pairs)), "between_patients": Share.of(0, len(held))},
            "seconds": {"train": 61.0, "screen": 4.2},
            "set_aside": {"00ff": "training.too-small"},
        }
    )  # fmt: skip


@cache
def _phantom(seed: int, size_px: int) -> Pair:
    return scene("endoscopy_warm", seed, size_px)


def _samples(count: int, leaking: list[Case], study: Study) -> list[Pair]:
    """Phantoms of nobody; each fourth is mostly one of these cases, mirrored, as a leaking generator draws."""
    pairs = []
    for number in range(count):
        pair = _phantom(1000 + number, study.image.size_px)
        if leaking and number % 4 == 0:
            real = leaking[number % len(leaking)].load_for(study.image)
            mixed = 0.7 * real.image[:, ::-1].astype(np.float32) + 0.3 * pair.image + number % 7
            blurred = Image.fromarray(np.clip(mixed, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.6))
            pair = Pair(np.asarray(blurred), np.ascontiguousarray(real.mask[:, ::-1]))
        pairs.append(pair)
    return pairs


def _vectors(image: Pixels) -> NDArray[np.float64]:
    """Both mirrors of a picture as vectors of mean 0 and length 1: [2, 256]."""
    small = np.asarray(Image.fromarray(image).convert("L").resize((16, 16), Image.Resampling.BOX), dtype=np.float64)
    both = np.stack([small.ravel(), small[:, ::-1].ravel()])
    both -= both.mean(axis=1, keepdims=True)
    return np.asarray(both / np.linalg.norm(both, axis=1, keepdims=True))


def _nearest(image: Pixels, bank: dict[str, NDArray[np.float64]]) -> tuple[str, float]:
    """(the case that correlates most, how much)."""
    own = _vectors(image)[0]
    scores = {case_id: float((vectors @ own).max()) for case_id, vectors in bank.items()}
    best = max(scores, key=lambda case_id: scores[case_id])
    return best, min(1.0, round(scores[best], 4))
