"""Bytes that call themselves a document and are made to cost whoever reads them more than whoever sends them."""

from __future__ import annotations

import json
from collections.abc import Callable

from shared.documents import MAX_DOCUMENT_BYTES

HUNDRED_MB = 100_000_000


def _filled(unit: bytes, before: bytes, after: bytes, size: int = MAX_DOCUMENT_BYTES) -> bytes:
    """`before`, as many units with commas between them as there is room for, `after`."""
    count = (size - len(before) - len(after)) // (len(unit) + 1)
    return before + b",".join([unit] * count) + after


def _many_keys(before: bytes, after: bytes) -> bytes:
    return before + b",".join(b'"%x":0' % number for number in range(1_450_000)) + after


def _twice(payload: bytes) -> bytes:
    """An honest document with its first key once more."""
    key, value = next(iter(json.loads(payload).items()))
    return b"{" + json.dumps(key).encode() + b":" + json.dumps(value).encode() + b"," + payload[1:]


# name -> what makes it of an honest document of its kind
COSTLY: dict[str, Callable[[bytes], bytes]] = {
    "100 MB of text": lambda honest: honest[:-1] + b',"x":"' + b"a" * HUNDRED_MB + b'"}',
    "100 MB of objects": lambda _: _filled(b"{}", b"[", b"]", HUNDRED_MB),
    "100,000 lists deep": lambda _: b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects deep": lambda _: b'{"a":' * 100_000 + b"0" + b"}" * 100_000,
    "as many objects as fit": lambda _: _filled(b"{}", b"[", b"]"),
    "as many objects as are let in": lambda _: _filled(b'{"a":1}' + b" " * 52, b"[", b"]"),
    "as many keys as fit": lambda _: _many_keys(b"{", b"}"),
    "as many keys as fit, where keys are counted": lambda _: _many_keys(b'{"audit":{"rejected":{', b"}}}"),
    "as many empty pairs as fit": lambda _: _filled(b"{}", b'{"pairs":[', b"]}"),
    "as many empty pairs as are let in": lambda _: _filled(b"{}" + b" " * 58, b'{"pairs":[', b"]}"),
    "wide characters": lambda _: b'{"title":"' + "\N{SNAIL}".encode() + b"a" * (MAX_DOCUMENT_BYTES - 40) + b'"}',
    "a number of 16 million digits": lambda _: b"9" * MAX_DOCUMENT_BYTES,
    "a number with an endless exponent": lambda honest: honest[:-1] + b',"x":1e' + b"9" * 1_000_000 + b"}",
    "a key twice": _twice,
    "a field more": lambda honest: honest[:-1] + b',"policy":{"min_patients":1}}',
    "no JSON": lambda _: b"\x80\x04K\x01.",
    "nothing": lambda _: b"",
}
