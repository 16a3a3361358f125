"""The one PNG form: equal pixels have equal bytes, and every other PNG of the same pixels is refused."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, PngImagePlugin

from shared.pairs import Pixels
from shared.png import SYNTHETIC_MARK, decode_png, encode_png
from tests.helpers import refused

unhurried = settings(deadline=None, max_examples=60)
sides = st.integers(1, 19)
grey = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint8, shape))
colour = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint8, (*shape, 3)))
# Of few values, so that how it is compressed makes a difference.
RGB: Pixels = np.random.default_rng(1).integers(0, 3, (24, 18, 3), np.uint8) * 90
PNG = encode_png(RGB)


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """(kind, body) of every chunk, read by hand."""
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def assembled(parts: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks, with right checksums."""
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + body


@unhurried
@given(grey | colour)
def test_pixels_come_back_as_they_were(pixels: Pixels) -> None:
    back = decode_png(encode_png(pixels))
    assert back.dtype == np.uint8
    assert back.shape == pixels.shape
    assert (back == pixels).all()


@unhurried
@given(grey | colour)
def test_equal_pixels_have_equal_bytes_wherever_they_lay_in_memory(pixels: Pixels) -> None:
    elsewhere = np.asfortranarray(pixels)[::-1].copy()[::-1]
    assert encode_png(elsewhere) == encode_png(pixels)


@unhurried
@given(grey, st.data())
def test_other_pixels_have_other_bytes(pixels: Pixels, data: st.DataObject) -> None:
    changed = pixels.copy()
    at = tuple(data.draw(st.integers(0, side - 1)) for side in pixels.shape)
    changed[at] ^= data.draw(st.integers(1, 255))
    assert encode_png(changed) != encode_png(pixels)


@unhurried
@given(grey | colour)
def test_others_read_the_same_pixels(pixels: Pixels) -> None:
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(encode_png(pixels)))), pixels)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 256), st.integers(1, 400))
def test_another_compressor_makes_the_same_bytes(seed: int, values: int, side: int) -> None:
    """Python has zlib, Pillow brings zlib-ng: where runs alone are searched for, neither has a choice of its own.

    So a site and a coordinator with different compressors agree on what is canonical.
    """
    random = np.random.default_rng(seed)
    drawn = random.integers(0, values, (side, side, 3), np.uint8).cumsum(1, np.uint8)  # neither flat nor all noise
    pillows = saved(Image.fromarray(drawn), compress_level=6, compress_type=zlib.Z_RLE)
    stream = b"".join(data for kind, data in chunks(pillows) if kind == b"IDAT")
    assert packed(zlib.decompress(stream)) == stream


def test_the_mark_that_says_synthetic_is_there_and_is_the_only_metadata() -> None:
    kinds = [kind for kind, _ in chunks(PNG)]
    assert set(kinds) == {b"IHDR", b"tEXt", b"IDAT", b"IEND"}
    assert kinds.count(b"tEXt") == 1
    assert dict(chunks(PNG))[b"tEXt"] == b"Source\x00" + SYNTHETIC_MARK.encode()
    assert Image.open(io.BytesIO(PNG)).info == {"Source": SYNTHETIC_MARK}


def saved(image: Image.Image, **options: object) -> bytes:
    """A PNG as Pillow writes it, with our mark."""
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Source", SYNTHETIC_MARK)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **({"pnginfo": mark} | options))
    return buffer.getvalue()


def exif() -> bytes:
    """An EXIF block with a description."""
    tags = Image.Exif()
    tags[0x010E] = "patient 4711"
    return tags.tobytes()


def beside(kind: bytes, **options: object) -> bytes:
    """The canonical file and one chunk more, as Pillow writes it for an option: only the chunk makes it different."""
    (body,) = (body for found, body in chunks(saved(IMAGE, **options)) if found == kind)
    return with_chunk(kind, body, before=b"IDAT")


def with_chunk(kind: bytes, body: bytes, *, before: bytes = b"IEND") -> bytes:
    """The canonical file with a chunk more."""
    return assembled([part for own in chunks(PNG) for part in ([(kind, body), own] if own[0] == before else [own])])


def packed(lines: bytes, level: int = 1, strategy: int = zlib.Z_RLE) -> bytes:
    """Lines with their filters, compressed as the form does where no option is given."""
    packer = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
    return packer.compress(lines) + packer.flush()


def streaming(stream: bytes) -> bytes:
    """The canonical file with another stream of pixels."""
    return assembled([(kind, stream if kind == b"IDAT" else data) for kind, data in chunks(PNG)])


def lines(values: Pixels = RGB, *, filters: int = 2) -> bytes:
    """Each line less the one above, behind a filter byte; for filter 0, as it is."""
    flat = values.reshape(len(values), -1)
    above = np.vstack([np.zeros_like(flat[:1]), flat[:-1]]) if filters else np.zeros_like(flat)
    return b"".join(bytes([filters]) + line.tobytes() for line in flat - above)


def test_the_writer_of_these_tests_writes_the_canonical_form_without_an_option() -> None:
    assert streaming(packed(lines())) == PNG


def interlaced(png: bytes) -> bytes:
    """The header says interlaced; one pixel is the same either way."""
    parts = [(kind, data[:12] + b"\x01" if kind == b"IHDR" else data) for kind, data in chunks(png)]
    return assembled(parts)


def split_stream() -> bytes:
    """The same stream in two chunks: where it is cut could say something."""
    parts = []
    for kind, data in chunks(PNG):
        parts += [(kind, data[:20]), (kind, data[20:])] if kind == b"IDAT" else [(kind, data)]
    return assembled(parts)


IMAGE = Image.fromarray(RGB)
OTHERS: dict[str, bytes] = {
    "text": with_chunk(b"tEXt", b"Comment\0patient 4711", before=b"IDAT"),
    "text-behind": with_chunk(b"tEXt", b"Comment\0patient 4711"),
    "mark-changed": assembled([(kind, data.replace(b"https", b"httpS")) for kind, data in chunks(PNG)]),
    "no-mark": assembled([part for part in chunks(PNG) if part[0] != b"tEXt"]),
    "exif": beside(b"eXIf", exif=exif()),
    "icc": beside(b"iCCP", icc_profile=b"a profile with room for a name"),
    "time": with_chunk(b"tIME", b"\x07\xea\x01\x01\x00\x00\x00"),
    "density": beside(b"pHYs", dpi=(300, 300)),
    "private-chunk": with_chunk(b"paTi", b"4711"),
    "animated": with_chunk(b"acTL", b"\0\0\0\1\0\0\0\0"),
    "transparent-colour": beside(b"tRNS", transparency=(1, 2, 3)),
    "alpha": saved(IMAGE.convert("RGBA")),
    "grey-alpha": saved(IMAGE.convert("LA")),
    "palette": saved(IMAGE.convert("P")),
    "one-bit": saved(IMAGE.convert("1")),
    "sixteen-bit": saved(Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)),
    "interlaced": interlaced(encode_png(RGB[:1, :1])),
    "trailing-byte": PNG + b"\0",
    "trailing-zip": PNG + b"PK\x05\x06" + bytes(18),
    "twice": PNG + PNG,
    "two-stream-chunks": split_stream(),
    "level-9": streaming(packed(lines(), 9, zlib.Z_DEFAULT_STRATEGY)),
    "level-0": streaming(packed(lines(), 0)),
    "other-strategy": streaming(packed(lines(), 1, zlib.Z_HUFFMAN_ONLY)),
    "other-filter": streaming(packed(lines(filters=0))),
    "as-pillow-writes-it": saved(IMAGE),
    "a-line-more": streaming(packed(lines() + lines()[:55])),
    "a-byte-more": streaming(packed(lines() + b"\0")),
    "a-byte-less": streaming(packed(lines()[:-1])),
    "a-byte-behind-the-stream": streaming(packed(lines()) + b"\0"),
    "stream-without-its-sum": streaming(packed(lines())[:-4]),
    "sum-of-a-chunk": PNG[:29] + bytes(4) + PNG[33:],
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_png_of_the_same_pixels_is_refused(name: str) -> None:
    assert OTHERS[name] != PNG
    with refused("pairs.not-canonical"):
        decode_png(OTHERS[name])


@pytest.mark.parametrize(
    "data",
    [b"", b"\x89PNG\r\n\x1a\n", PNG[:40], PNG[: len(PNG) // 2], b"GIF89a" + bytes(60), b"PK\x03\x04" + PNG,
     PNG[:12] + b"IDAT" + PNG[16:], b"\x80\x04" + bytes(64), b"BM" + bytes(100)],
    ids=["empty", "signature", "header", "half", "gif", "zip-first", "no-header", "pickle", "bitmap"],
)  # fmt: skip
def test_what_is_no_whole_png_is_refused(data: bytes) -> None:
    with refused("pairs.not-png"):
        decode_png(data)


@unhurried
@given(st.integers(0, len(PNG) * 8 - 1))
def test_no_flipped_bit_passes_unseen(bit: int) -> None:
    changed = bytearray(PNG)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(Exception, match=r"\[pairs\.(not-canonical|not-png|too-large)\]"):
        decode_png(bytes(changed))


@unhurried
@given(st.integers(0, len(PNG) - 1))
def test_no_cut_passes_unseen(length: int) -> None:
    with pytest.raises(Exception, match=r"\[pairs\.(not-canonical|not-png)\]"):
        decode_png(PNG[:length])


@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (2**31 - 1, 1), (4097, 1), (0, 5), (5, 0)])
def test_a_header_that_asks_for_too_much_is_refused_before_a_pixel_is_decoded(width: int, height: int) -> None:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    bomb = assembled([(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1_000_000))), (b"IEND", b"")])
    tracemalloc.start()
    try:
        with refused("pairs.too-large"):
            decode_png(bomb)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_file_larger_than_a_png_may_be_is_refused() -> None:
    with refused("pairs.too-large"):
        decode_png(PNG + bytes(8 * 1024 * 1024))


def test_an_image_over_the_callers_limit_is_refused() -> None:
    assert decode_png(PNG, max_side_px=24).shape == RGB.shape
    with refused("pairs.too-large"):
        decode_png(PNG, max_side_px=23)
