"""When a receipt is one: signed by the coordinator whose key was pinned at enrolment, and for this very bundle."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.bundle import Manifest, Receipt, bundle_sha256
from shared.documents import parse, verify
from shared.errors import SynthwardError


def check_receipt(key: Ed25519PublicKey, manifest: Manifest, payload: bytes, signature: bytes) -> None:
    """Raises trust.signature or document.* unless this is the receipt of the bundle with that manifest."""
    verify(key, "receipt", payload, signature)
    receipt = parse(Receipt, payload)
    if receipt.bundle_sha256 != bundle_sha256(manifest) or receipt.pairs != len(manifest.pairs):
        raise SynthwardError("trust.signature", "the receipt is for another bundle")
