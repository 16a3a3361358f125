"""The one PNG form in which pairs leave a site: what it is, byte for byte, and how both sides check it.

Promise: equal pixels have equal bytes, so a PNG has no room for a hidden message. Whatever does not come back byte for
byte when it is encoded again (text chunks, EXIF, ICC, alpha, trailing bytes, another filter or compressor) is refused.

    signature
    IHDR    8 bits; grey or RGB; not interlaced
    tEXt    one constant mark that says, for machines, that the image is synthetic
            (IPTC digital source type; EU AI Act, article 50)
    IDAT    one chunk: each line less the one above it (filter 2), as deflate with a search for runs alone
    IEND

No decoder of images sees the bytes of a stranger: numpy and zlib read what is left after this frame.
The format: https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from shared.errors import SynthwardError

MAX_PNG_BYTES = 8 * 1024 * 1024
MAX_SIDE_PX = 4096
SYNTHETIC_MARK = "https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KINDS = (b"IHDR", b"tEXt", b"IDAT", b"IEND")
_COLOURS = {0: 1, 2: 3}  # PNG's colour type -> channels
_UP = 2
_MEMORY_LEVEL = 9  # of zlib: how many values a block of deflate takes


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """The canonical PNG of uint8 [H, W] or [H, W, 3]: deterministic, one constant mark, no other metadata."""
    height, width = pixels.shape[:2]
    colour = 0 if pixels.ndim == 2 else 2
    values = np.ascontiguousarray(pixels).reshape(height, -1)
    lines = np.empty((height, 1 + values.shape[1]), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = values[0]
    np.subtract(values[1:], values[:-1], out=lines[1:, 1:])
    # Runs alone: every zlib that we know makes the same bytes of them, at every level. Of a photograph 2 % larger than
    # with the best filter for each line, for less than half of the time, which every reader pays too.
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, _MEMORY_LEVEL, zlib.Z_RLE)
    bodies = (
        struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0),
        b"Source\0" + SYNTHETIC_MARK.encode(),
        packer.compress(lines.data) + packer.flush(),
        b"",
    )
    return _SIGNATURE + b"".join(_chunk(kind, body) for kind, body in zip(_KINDS, bodies, strict=True))


def decode_png(data: bytes, *, max_side_px: int = MAX_SIDE_PX) -> NDArray[np.uint8]:
    """Pixels of a canonical PNG: uint8 [H, W] or [H, W, 3].

    The header's size and the chunks are checked before a pixel is decoded, and no more is inflated than the header
    states, so that a small file cannot ask for gigabytes.
    Raises SynthwardError (pairs.not-png, pairs.too-large, pairs.not-canonical).
    """
    if len(data) > MAX_PNG_BYTES:
        raise SynthwardError("pairs.too-large", f"a PNG of {len(data)} bytes exceeds {MAX_PNG_BYTES}")
    if data[:8] != _SIGNATURE or len(data) < 33 or data[12:16] != b"IHDR":
        raise SynthwardError("pairs.not-png", "an object does not start as a PNG does")
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    if not (1 <= width <= max_side_px and 1 <= height <= max_side_px):
        raise SynthwardError("pairs.too-large", f"a PNG states {width} x {height} pixels; the limit is {max_side_px}")
    if depth != 8 or colour not in _COLOURS:
        raise SynthwardError("pairs.not-canonical", "a PNG is neither 8-bit grey nor 8-bit RGB")
    lines = _inflated(_stream(data), height, width * _COLOURS[colour])
    pixels: NDArray[np.uint8] = np.add.accumulate(lines, axis=0, dtype=np.uint8)
    if _COLOURS[colour] == 3:
        pixels = pixels.reshape(height, width, 3)
    # The filters, the checksums and whatever else a file may say in two ways: there is one.
    if encode_png(pixels) != data:
        raise _not_canonical("a PNG does not come back byte for byte when it is encoded again")
    return pixels


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _stream(data: bytes) -> bytes:
    """What the one chunk of pixels holds. Raises pairs.not-png or pairs.not-canonical for other chunks than ours."""
    at, stream = len(_SIGNATURE), b""
    for expected in _KINDS:
        if at + 12 > len(data):
            raise SynthwardError("pairs.not-png", "a PNG ends within a chunk, or has no end")
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind != expected:
            raise _not_canonical("a PNG holds more than a header, our mark, one chunk of pixels and an end")
        if kind == b"IDAT":
            stream = data[at + 8 : at + 8 + length]
        at += 12 + length
    if at > len(data):
        raise SynthwardError("pairs.not-png", "a PNG ends within a chunk, or has no end")
    if at < len(data):
        raise _not_canonical("a PNG goes on after its end")
    return stream


def _inflated(stream: bytes, height: int, width_bytes: int) -> NDArray[np.uint8]:
    """The lines without their filter bytes. Raises pairs.not-png, pairs.not-canonical."""
    size = height * (1 + width_bytes)
    try:
        inflated = zlib.decompressobj().decompress(stream, size + 1)  # one more shows that there is more
    except zlib.error as error:
        raise SynthwardError("pairs.not-png", "the pixels of a PNG cannot be inflated") from error
    if len(inflated) != size:
        raise _not_canonical("a PNG has more or fewer pixels than its header states")
    return np.frombuffer(inflated, np.uint8).reshape(height, 1 + width_bytes)[:, 1:]


def _not_canonical(what: str) -> SynthwardError:
    return SynthwardError(
        "pairs.not-canonical",
        what,
        why="whatever else it carries could carry a patient",
        do="encode pairs with shared.png.encode_png of the same Synthward version",
    )
