"""Signed documents: canonical JSON (RFC 8785), an Ed25519 signature, and a strict way back.

A signature covers the document's kind as well as its bytes, so that a signed study can never be passed off as a signed
measurement or receipt. Parsing refuses whatever is not the canonical form of what it says: duplicate keys, other
spellings of a number, unknown fields. It is bounded in memory and time whatever the bytes are: a few of them can stand
for an object of hundreds.
"""

from __future__ import annotations

import json
from typing import Any, Literal, TypeVar

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ValidationError

from shared.errors import SynthwardError
from shared.pairs import sha256_hex

Kind = Literal[
    "study", "measurement", "comparison", "distribution", "manifest", "receipt", "enrolment", "contents",
    "revocation", "revocation-receipt", "revocations", "checkpoint",
]  # fmt: skip
MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
# A manifest of 100,000 pairs has five values a pair. Of empty objects, 16 MiB would hold five million.
MAX_VALUES = 600_000
MAX_KEYS = 2_000  # of one object
_TOLD_PLACES = 5
ModelT = TypeVar("ModelT", bound=BaseModel)


def canonical(model: BaseModel) -> bytes:
    """The one byte form of a document: RFC 8785 canonical JSON, UTF-8."""
    return rfc8785.dumps(model.model_dump(mode="json"))


def digest(model: BaseModel) -> str:
    """SHA-256 of the canonical form, in hexadecimal: the document's name for machines."""
    return sha256_hex(canonical(model))


def parse(model: type[ModelT], payload: bytes) -> ModelT:
    """The document in payload. Raises document.malformed or document.not-canonical."""
    if len(payload) > MAX_DOCUMENT_BYTES:
        raise SynthwardError("document.malformed", f"a document of {len(payload)} bytes is over the limit")
    if sum(payload.count(sign) for sign in (b",", b"[", b"{")) > MAX_VALUES:
        raise SynthwardError("document.malformed", f"a document of more than {MAX_VALUES} values is over the limit")
    try:
        document = model.model_validate(json.loads(payload, object_pairs_hook=_no_duplicates))
        spelled = canonical(document)  # may refuse too: a number beyond what JSON holds exactly
    except (ValueError, RecursionError) as error:
        # A validation error quotes its input; on a wire that would be somebody else's text, so only places are told.
        places = (
            "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['type']}" for e in error.errors()[:_TOLD_PLACES])
            if isinstance(error, ValidationError)
            else type(error).__name__
        )
        raise SynthwardError("document.malformed", f"not a valid {model.__name__} document ({places})") from error
    if spelled != payload:
        raise SynthwardError(
            "document.not-canonical",
            f"a {model.__name__} document is not in canonical form",
            why="two spellings of one document would have two digests",
        )
    return document


def sign(key: Ed25519PrivateKey, kind: Kind, payload: bytes) -> bytes:
    """Ed25519 signature over the kind and the payload: 64 bytes."""
    return key.sign(_covered(kind, payload))


def verify(key: Ed25519PublicKey, kind: Kind, payload: bytes, signature: bytes) -> None:
    """Raises trust.signature unless signature is key's over this kind and payload."""
    try:
        key.verify(signature, _covered(kind, payload))
    except InvalidSignature as error:
        raise SynthwardError(
            "trust.signature",
            f"the signature of a {kind} does not fit",
            why="it was signed with another key, or changed on its way",
            do="ask the other side which key it uses, by telephone, before trusting it",
        ) from error


def _covered(kind: Kind, payload: bytes) -> bytes:
    return b"synthward/" + kind.encode() + b"\x00" + payload


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:  # each that is not of the schema would be an error of its own
        raise ValueError("an object has too many keys")
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key stands twice")
    return unique
