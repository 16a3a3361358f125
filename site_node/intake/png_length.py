"""Does a PNG hold all the rows that its header promises?

Pillow reports a stream that breaks off, but a stream that ends properly after too few rows it fills up with zeros and
says nothing. A lesion cut away like that would look like background, so the bytes are counted here before decoding.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples a pixel (PNG specification, table 11.1)
_STEP_BYTES = 1 << 16
# Adam7: first column, first row, column step, row step of each pass (PNG specification, section 8.2).
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_is_complete(file: BinaryIO) -> bool:
    """Whether the first image of a PNG inflates to every byte that its header promises.

    Reads from the start and leaves the position anywhere. Memory: some 64 KiB pieces, whatever the header states.
    Call it after the header's size was accepted, because the time grows with that size.
    """
    file.seek(0)
    start = file.read(33)  # signature, and the whole header chunk that must come first
    if len(start) < 33 or start[:8] != _SIGNATURE or start[12:16] != b"IHDR":
        return False
    missing = _promised_bytes(start[16:29])
    inflate = zlib.decompressobj()
    try:
        for piece in _image_data(file):
            while piece and missing > 0 and not inflate.eof:
                missing -= len(inflate.decompress(piece, _STEP_BYTES))
                piece = inflate.unconsumed_tail
            if missing <= 0 or inflate.eof:
                break
        # zlib may still hold rows back whose input it has taken already.
        while missing > 0 and (rest := inflate.decompress(b"", _STEP_BYTES)):
            missing -= len(rest)
    except zlib.error:
        return False
    return missing <= 0


def _image_data(file: BinaryIO) -> Iterator[bytes]:
    """The pieces of all IDAT chunks, from the position after the header; ends where the file or its chunks end."""
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            return
        if kind == b"IDAT":
            while length and (piece := file.read(min(length, _STEP_BYTES))):
                length -= len(piece)
                yield piece
        file.seek(length + 4, 1)  # what is left of the chunk, and its checksum


def _promised_bytes(header: bytes) -> int:
    """The inflated length in bytes of the picture that an IHDR of 13 bytes describes, filter bytes included."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _SAMPLES.get(colour, 1)
    total = 0
    for left, top, column_step, row_step in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns = max(0, -(-(width - left) // column_step))
        rows = max(0, -(-(height - top) // row_step))
        if columns and rows:
            total += rows * (1 + -(-columns * bits // 8))
    return int(total)
