"""The trainer's part of a revocation: signs it, hands it to the link, and ends the release on the receipt.

The reason that the steward gave is not in what is signed: it stays in the private journal.
"""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.documents import canonical, sign
from shared.errors import SynthwardError
from shared.identity import load_signing_key, public_key
from shared.release import State
from shared.revocation import Revocation, check_receipt
from site_node.airlock.workflow import Airlock
from site_node.jobs import Queue
from site_node.revocations import Revocations
from site_node.settings import Home

_log = structlog.get_logger("site.trainer")


def take_back(home: Home, airlock: Airlock, queue: Queue) -> None:
    """Takes every release that a steward revoked one step on. Safe to repeat, also after a kill between two steps."""
    revoking = [release for release in airlock.releases() if release.state is State.REVOKING]
    if not revoking:
        return
    membership, revocations = home.membership(), Revocations(queue)
    coordinator = public_key(bytes.fromhex(membership.coordinator_key))
    known = {row.bundle_sha256: row for row in revocations.all()}
    for release in revoking:
        row = known.get(release.bundle_sha256)
        if row is None:
            payload = canonical(
                Revocation(
                    bundle_sha256=release.bundle_sha256, site=membership.site, revoked_on=datetime.now(UTC).date()
                )
            )
            signature = sign(load_signing_key(home.seal_keys / "signing.key"), "revocation", payload)
            revocations.add(release.bundle_sha256, payload, signature)
        elif row.receipt is not None and _holds(
            coordinator, row.receipt, row.receipt_signature, release.bundle_sha256, membership.site
        ):
            airlock.revoked(release.release_id, actor="coordinator")


def _holds(key: Ed25519PublicKey, payload: bytes, signature: bytes, bundle_sha256: str, site: str) -> bool:
    """Whether the receipt is the coordinator's for this bundle; the trainer does not take the link's word for it."""
    try:
        check_receipt(key, payload, signature, bundle_sha256=bundle_sha256, site=site)
    except SynthwardError as error:
        _log.error("receipt-refused", code=error.code)
        return False
    return True
