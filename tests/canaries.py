"""Words that stand in a hospital's data and nowhere else, and a search for them in whatever bytes.

A word is sought in every spelling in which software passes text on: as it is, in either case, in UTF-16, in
hexadecimal, in base64 at each of its three alignments, percent-encoded, and inside what zlib or gzip has compressed.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

# One word for each thing that could tell. All letters, so that no escaping changes them.
FILE = "Zaunkoenig"  # the images' file names
PATIENT = "Rotkehlchen"  # patient keys
FOLDER = "Goldammer"  # the data folder
TEXT = "Nachtigall"  # text chunks and EXIF of the images
HOSPITAL = "Eisvogel"  # the path under which the site's own folder lies
ALL = (FILE, PATIENT, FOLDER, TEXT, HOSPITAL)
_ZLIB_START = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")
_MOST_INFLATED = 4 * 1024 * 1024


def spellings(word: str) -> Iterator[bytes]:
    """The byte forms of a word, in lower case where case is kept by the form."""
    raw = word.encode()
    yield raw.lower()
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le"):
        yield word.lower().encode(encoding)
    yield raw.hex().encode()
    yield "".join(f"%{byte:02x}" for byte in raw).encode()
    for text in (raw, raw.lower()):
        for shift in range(3):
            # What stands before shifts the alignment; characters that a neighbour's bits reach into are left out.
            coded = base64.b64encode(bytes(shift) + text).rstrip(b"=")
            yield coded[(0, 2, 3)[shift] : len(coded) - (1 if (len(text) + shift) % 3 else 0)]


def found_in(data: bytes, words: Iterable[str] = ALL) -> set[str]:
    """Those of the words that stand in data in any spelling, also inside compressed parts."""
    parts = [data, *_inflated(data)]
    return {word for word in words if any(_stands(word, part) for part in parts)}


def _stands(word: str, data: bytes) -> bool:
    lower = data.lower()
    # Base64 knows upper case from lower; every other form is sought without regard to it.
    return any(form in (data if form != form.lower() else lower) for form in spellings(word))


def _inflated(data: bytes) -> Iterator[bytes]:
    """What comes out wherever a zlib or gzip stream starts in data."""
    for start in _ZLIB_START.finditer(data):
        inflater = zlib.decompressobj(wbits=47)
        try:
            plain = inflater.decompress(data[start.start() :], _MOST_INFLATED)
        except zlib.error:
            continue
        if plain:
            yield plain


def found_under(folder: Path, words: Iterable[str] = ALL, *, leaving_out: Iterable[Path] = ()) -> dict[str, set[str]]:
    """File -> words that stand in its bytes, or in its name below folder, for every file that has any."""
    left_out = tuple(leaving_out)
    told = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(path.is_relative_to(other) for other in left_out):
            name = str(path.relative_to(folder))
            words_here = found_in(path.read_bytes(), words) | found_in(name.encode(), words)
            if words_here:
                told[name] = words_here
    return told
