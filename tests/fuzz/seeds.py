"""Honest bytes for each target, from which fuzzing starts. Drawn and generated: nothing of a patient's.

python -m tests.fuzz.seeds     writes them into tests/fuzz/corpus, beside what fuzzing has found worth keeping
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from shared.documents import canonical
from shared.messages import OrderKind
from shared.orders import ComparisonRequest, DistributionRequest, MeasurementRequest
from shared.pairs import sha256_hex
from shared.png import encode_png
from shared.study import Document
from tests.fuzz.targets import KINDS, MODELS, SITE, joined, seed_study
from tests.helpers import manifest_of, noise_pair, png_objects

CORPUS = Path(__file__).parent / "corpus"


def seeds() -> dict[str, list[bytes]]:
    """Honest bytes for each target, from which fuzzing starts."""
    study = seed_study()
    entries, objects = png_objects([noise_pair(1)])
    bundle = manifest_of(study, SITE, entries, made_on="2026-01-01")
    order = {"order_id": "m-1", "study_sha256": sha256_hex(canonical(study)), "dataset_version": 1}
    asked: list[tuple[OrderKind, Document]] = [
        ("measurement", MeasurementRequest.model_validate({**order, "arm": "real_own", "seed": 0})),
        ("comparison", ComparisonRequest.model_validate(order)),
        (
            "distribution",
            DistributionRequest.model_validate({**order, "trained_on": "pooled", "pairs_sha256": "0" * 64}),
        ),
    ]
    listed = [study, bundle, *(document for _, document in asked), entries[0], bundle.audit]
    small = np.zeros((4, 4, 3), np.uint8)
    npy = (
        b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }" + b" " * 60 + b"\n" + b"0000"
    )
    return {
        "documents": [bytes([MODELS.index(type(document))]) + canonical(document) for document in listed],
        "manifest": [canonical(bundle)],
        "pngs": [
            b"\0" + encode_png(small), b"\0" + encode_png(noise_pair(2, size_px=16).mask), b"\1" + bytes(60),
            b"\2" + zlib.compress(bytes(100)), b"\3tRNS" + bytes(6),
        ],
        "arrays": [npy, b"PK\x03\x04" + bytes(30)],
        "orders": [
            b"\0" + canonical(study),
            *(bytes([KINDS.index(kind)]) + canonical(document) + b"\0" + npy for kind, document in asked),
        ],
        "portable": [
            b"\3" + joined([canonical(bundle), *objects.values()]),
            b"\3" + joined([canonical(bundle)]),
            b"\2" + joined([canonical(bundle), *objects.values()]),
            b"\1" + joined([b"{}"]),
        ],
    }  # fmt: skip


def write() -> None:
    """Writes each seed under its digest."""
    for name, inputs in seeds().items():
        (CORPUS / name).mkdir(parents=True, exist_ok=True)
        for data in inputs:
            (CORPUS / name / sha256_hex(data)[:16]).write_bytes(data)


if __name__ == "__main__":
    write()
