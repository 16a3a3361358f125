"""Files that call themselves a PNG and are made to cost whoever opens them, or to be something else as well.

Made chunk by chunk: no encoder would write them. Compressed bombs are one flushed deflate block, repeated: seven
gigabytes of zeros take a moment to write down.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from shared.png import encode_png
from tests.helpers import noise_pair

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_BLOCK = 1024 * 1024  # of zeros, in one deflate block


def chunk(kind: bytes, body: bytes = b"", *, states: int | None = None) -> bytes:
    """A chunk. states: the length that it claims, where that is not its own."""
    length = len(body) if states is None else states
    return struct.pack(">I", length) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def header(width: int = 32, height: int = 32, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    """IHDR. colour: 0 grey, 2 RGB, 3 palette, 6 RGBA."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def png(*chunks: bytes, first: bytes | None = None) -> bytes:
    """A file of these chunks, with a header before them and an end after them."""
    return SIGNATURE + (header() if first is None else first) + b"".join(chunks) + chunk(b"IEND")


def bomb(inflated: int) -> bytes:
    """A zlib stream of that many zeros (a multiple of 1 MiB), about a thousandth as long."""
    deflater = zlib.compressobj(9, wbits=-15)
    block = deflater.compress(bytes(_BLOCK)) + deflater.flush(zlib.Z_FULL_FLUSH)
    # Adler-32 of n zeros: one, and n times one.
    check = (inflated % 65_521) << 16 | 1
    return b"\x78\xda" + block * (inflated // _BLOCK) + b"\x03\x00" + struct.pack(">I", check)


def _pixels(width: int = 32, height: int = 32) -> bytes:
    return chunk(b"IDAT", zlib.compress(bytes((1 + 3 * width) * height)))


def _parts(canonical: bytes) -> tuple[bytes, bytes]:
    """(everything up to the first IDAT, the rest) of a PNG."""
    at = canonical.index(b"IDAT") - 4
    return canonical[:at], canonical[at:]


def _cut(stream: bytes, size: int = 65_536) -> list[bytes]:
    return [chunk(b"IDAT", stream[at : at + size]) for at in range(0, len(stream), size)]


def _good() -> bytes:
    return encode_png(noise_pair(5).image)


def _zip_behind() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("payload.py", "print('out')")
    return _good() + buffer.getvalue()


class _Touches:
    """Would leave a trace if anybody unpickled it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def _animated() -> bytes:
    frames = chunk(b"acTL", struct.pack(">II", 2**31 - 1, 0))
    before, after = _parts(_good())
    return before + frames + after


def _jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise_pair(5).image).save(buffer, format="JPEG")
    return buffer.getvalue()


SEVEN_GB = 7 * 1024**3
MARK = _parts(_good())[0][33:]  # our text chunk: the only one that a file may have
HOSTILE: dict[str, Callable[[], bytes]] = {
    "7 GB of pixels behind a header of 32 px": lambda: png(MARK, chunk(b"IDAT", bomb(SEVEN_GB))),
    "as much in chunks as an encoder writes them": lambda: png(MARK, *_cut(bomb(SEVEN_GB))),
    "1 GB of text in zTXt": lambda: png(chunk(b"zTXt", b"Source\0\0" + bomb(1024**3)), _pixels()),
    "1 GB of text in iTXt": lambda: png(chunk(b"iTXt", b"Source\0\1\0\0\0" + bomb(1024**3)), _pixels()),
    "1 GB of a colour profile": lambda: png(chunk(b"iCCP", b"x\0\0" + bomb(1024**3)), _pixels()),
    "a hundred texts of 60 MB": lambda: png(
        *(chunk(b"zTXt", b"%d\0\0" % n + bomb(60 * _BLOCK)) for n in range(100)), _pixels()
    ),
    "60,000 x 60,000": lambda: png(_pixels(), first=header(60_000, 60_000)),
    "2^31 x 1": lambda: png(_pixels(), first=header(2**31 - 1, 1)),
    "0 x 0": lambda: png(_pixels(), first=header(0, 0)),
    "16 bits a value": lambda: png(chunk(b"IDAT", zlib.compress(bytes(7000))), first=header(depth=16)),
    "a palette": lambda: png(chunk(b"PLTE", bytes(768)), _pixels(), first=header(colour=3)),
    "alpha": lambda: png(chunk(b"IDAT", zlib.compress(bytes(5000))), first=header(colour=6)),
    "interlaced": lambda: png(_pixels(), first=header(interlaced=1)),
    "a chunk that states 4 GB": lambda: png(chunk(b"IDAT", bytes(50), states=2**32 - 1)),
    "a chunk that states 2 GB": lambda: png(chunk(b"zTXt", bytes(50), states=2**31 - 1), _pixels()),
    "a chunk that goes beyond the end": lambda: png(chunk(b"IDAT", bytes(50), states=5000)),
    "a chunk that states less": lambda: png(chunk(b"IDAT", bytes(50), states=10)),
    "a header that states nothing": lambda: png(_pixels(), first=chunk(b"IHDR", bytes(13), states=0)),
    "a second header of 4,096 px": lambda: png(MARK, header(4096, 4096), _pixels()),
    "a second header of 13,000 px": lambda: png(header(13_000, 13_000), MARK, chunk(b"IDAT", bomb(484 * _BLOCK))),
    "no pixels": lambda: png(),
    "no end": lambda: _good()[:-12],
    "700,000 empty chunks of pixels": lambda: png(*[chunk(b"IDAT")] * 690_000, _pixels()),
    "700,000 private chunks": lambda: png(*[chunk(b"prVt")] * 690_000, _pixels()),
    "an animation of 2^31 pictures": _animated,
    "a zip archive behind it": _zip_behind,
    "a page in a comment": lambda: (lambda p: p[0] + chunk(b"tEXt", b"x\0<script>fetch('//x')</script>") + p[1])(
        _parts(_good())
    ),
    "a page behind it": lambda: _good() + b"<html><script>alert(1)</script></html>",
    "another mark": lambda: _good().replace(b"trainedAlgorithmicMedia", b"digitalCapture_patient_"),
    "a JPEG": _jpeg,
    "text": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>" + bytes(40),
}


def pickled(trace: Path) -> bytes:
    """A pickle behind a PNG's signature and header, which would touch trace."""
    return _good()[:33] + pickle.dumps(_Touches(trace)) + bytes(64)
