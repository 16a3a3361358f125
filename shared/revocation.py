"""Taking back a release that has left: the site's revocation, the coordinator's receipt, the list for receivers.

Only a digest, a site and a date travel. Why a release was taken back, and whose consent it was, stays at the site.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field

from shared.documents import canonical, parse, sign, verify
from shared.errors import SynthwardError
from shared.study import Document, Sha256, Slug


class Revocation(Document):
    """A site takes back one of its bundles. Signed by the site, kind "revocation"."""

    format: Literal["synthward.revocation/1"] = "synthward.revocation/1"
    bundle_sha256: Sha256
    site: Slug
    revoked_on: date


class RevocationReceipt(Document):
    """The coordinator's word that no new dataset version will hold the bundle. Kind "revocation-receipt"."""

    format: Literal["synthward.revocation-receipt/1"] = "synthward.revocation-receipt/1"
    bundle_sha256: Sha256
    site: Slug
    noted_at: datetime


class RevocationList(Document):
    """Every release that was taken back, for receivers. Signed by the coordinator, kind "revocations"."""

    format: Literal["synthward.revocations/1"] = "synthward.revocations/1"
    made_at: datetime
    revoked: tuple[Revocation, ...] = Field(max_length=100_000)


def check_receipt(key: Ed25519PublicKey, payload: bytes, signature: bytes, *, bundle_sha256: str, site: str) -> None:
    """Raises trust.signature unless this is the coordinator's receipt for that site's revocation of that bundle."""
    verify(key, "revocation-receipt", payload, signature)
    receipt = parse(RevocationReceipt, payload)
    if (receipt.bundle_sha256, receipt.site) != (bundle_sha256, site):
        raise SynthwardError("trust.signature", "the receipt is for another revocation")


def write_list(key: Ed25519PrivateKey, revocations: RevocationList) -> str:
    """The list as a file: a line of canonical JSON, a line with the signature in hexadecimal."""
    payload = canonical(revocations)
    return f"{payload.decode()}\n{sign(key, 'revocations', payload).hex()}\n"


def read_list(key: Ed25519PublicKey, text: str) -> RevocationList:
    """The list in such a file. Raises document.malformed or trust.signature."""
    try:
        line, signature = text.rstrip("\n").split("\n")
        raw = bytes.fromhex(signature)
    except ValueError as error:
        raise SynthwardError(
            "document.malformed",
            "this is no list of revocations",
            do="ask the coordinator's operator for a new one: synthward-coordinator revocations",
        ) from error
    payload = line.encode()
    verify(key, "revocations", payload, raw)
    return parse(RevocationList, payload)
