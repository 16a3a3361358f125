"""Revocation, seen from the coordinator: checked, recorded durably, and answered with a signed receipt.

From the receipt on, no new dataset version holds the bundle and the same bundle is never accepted again. What was
built or handed on before cannot be called back: receivers ask the signed list, which says what they hold.
"""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from coordinator.store.revocations import add_revocation, revocation, revocations
from coordinator.store.store import Store
from shared.documents import canonical, parse, sign, verify
from shared.errors import SynthwardError
from shared.identity import public_key
from shared.revocation import Revocation, RevocationList, RevocationReceipt


def read_revocation(store: Store, site: str, payload: bytes, signature: bytes) -> Revocation:
    """A revocation that this site has signed, of a bundle that is its own. Raises trust.signature or admission.site."""
    verify(public_key(store.site(site).signing_key), "revocation", payload, signature)
    found = parse(Revocation, payload)
    row = store.bundle(found.bundle_sha256)
    if found.site != site or (row is not None and row.site != site):
        raise SynthwardError("admission.site", f"site {site} would take back a bundle that is not its own")
    return found


def take_back(
    store: Store, key: Ed25519PrivateKey, revoked: Revocation, payload: bytes, signature: bytes
) -> tuple[bytes, bytes]:
    """(receipt, signature) of a revocation, recorded before it is answered. Safe to repeat: the receipt is the same."""
    receipt = canonical(
        RevocationReceipt(bundle_sha256=revoked.bundle_sha256, site=revoked.site, noted_at=datetime.now(UTC))
    )
    return add_revocation(store, revoked, payload, signature, (receipt, sign(key, "revocation-receipt", receipt)))


def check_not_revoked(store: Store, site: str, bundle_sha256: str) -> None:
    """Raises admission.revoked when this site took the bundle back, before it came or after."""
    if revocation(store, site, bundle_sha256) is not None:
        raise SynthwardError("admission.revoked", f"site {site} has taken back bundle {bundle_sha256}")


def list_for_receivers(store: Store) -> RevocationList:
    """Every accepted release that was taken back until now."""
    return RevocationList(made_at=datetime.now(UTC), revoked=tuple(revocations(store)))
