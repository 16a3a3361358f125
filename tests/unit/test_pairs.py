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

from shared.pairs import SYNTHETIC_MARK, Pair, Pixels, check_mask, decode_png, encode_png, resize_pair, with_channels
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


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.integers(1, 256), st.integers(1, 400))
def test_another_compressor_makes_the_same_bytes(seed: int, values: int, side: int) -> None:
    """Pillow brings zlib-ng, Python has zlib: where runs alone are searched for, neither has a choice of its own.

    So a site and a coordinator whose Pillows bring different compressors agree on what is canonical.
    """
    smooth = np.random.default_rng(seed).integers(0, values, (side, side, 3), np.uint8).cumsum(1, np.uint8)
    stream = b"".join(data for kind, data in chunks(encode_png(smooth)) if kind == b"IDAT")
    packer = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    assert packer.compress(zlib.decompress(stream)) + packer.flush() == stream


def test_the_mark_that_says_synthetic_is_there_and_is_the_only_metadata() -> None:
    kinds = [kind for kind, _ in chunks(PNG)]
    assert set(kinds) == {b"IHDR", b"tEXt", b"IDAT", b"IEND"}
    assert kinds.count(b"tEXt") == 1
    assert dict(chunks(PNG))[b"tEXt"] == b"Source\x00" + SYNTHETIC_MARK.encode()
    assert Image.open(io.BytesIO(PNG)).info == {"Source": SYNTHETIC_MARK}


def saved(image: Image.Image, **options: object) -> bytes:
    """A PNG as Pillow writes it, with our mark, so that only the option makes it different."""
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Source", SYNTHETIC_MARK)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", **({"pnginfo": mark, "compress_level": 6, "compress_type": zlib.Z_RLE} | options))
    return buffer.getvalue()


def test_the_writer_of_these_tests_writes_the_canonical_form_without_an_option() -> None:
    assert saved(Image.fromarray(RGB)) == PNG


def two_texts(keyword: str, text: str) -> PngImagePlugin.PngInfo:
    """Our mark, and a text of somebody else's."""
    info = PngImagePlugin.PngInfo()
    info.add_text("Source", SYNTHETIC_MARK)
    info.add_text(keyword, text)
    return info


def exif() -> bytes:
    """An EXIF block with a description."""
    tags = Image.Exif()
    tags[0x010E] = "patient 4711"
    return tags.tobytes()


def refiltered(png: bytes) -> bytes:
    """The same pixels, each line under filter 0, compressed in the same way."""
    width = RGB.shape[1] * 3
    lines = b"".join(b"\0" + RGB.tobytes()[at : at + width] for at in range(0, RGB.size, width))
    packer = zlib.compressobj(6, strategy=zlib.Z_RLE)
    packed = packer.compress(lines) + packer.flush()
    parts = [(kind, packed if kind == b"IDAT" else data) for kind, data in chunks(png)]
    return assembled(parts)


def interlaced(png: bytes) -> bytes:
    """The header says interlaced; one pixel is the same either way."""
    parts = [(kind, data[:12] + b"\x01" if kind == b"IHDR" else data) for kind, data in chunks(png)]
    return assembled(parts)


def with_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk more, before the end."""
    parts = chunks(PNG)
    return assembled([*parts[:-1], (kind, data), parts[-1]])


def split_stream() -> bytes:
    """The same stream in two chunks: where it is cut could say something."""
    parts = []
    for kind, data in chunks(PNG):
        parts += [(kind, data[:20]), (kind, data[20:])] if kind == b"IDAT" else [(kind, data)]
    return assembled(parts)


IMAGE = Image.fromarray(RGB)
OTHERS: dict[str, bytes] = {
    "text": saved(IMAGE, pnginfo=two_texts("Comment", "patient 4711")),
    "mark-changed": assembled([(kind, data.replace(b"https", b"httpS")) for kind, data in chunks(PNG)]),
    "no-mark": saved(IMAGE, pnginfo=PngImagePlugin.PngInfo()),
    "exif": saved(IMAGE, exif=exif()),
    "icc": saved(IMAGE, icc_profile=b"a profile with room for a name"),
    "time": with_chunk(b"tIME", b"\x07\xea\x01\x01\x00\x00\x00"),
    "density": saved(IMAGE, dpi=(300, 300)),
    "private-chunk": with_chunk(b"paTi", b"4711"),
    "animated": with_chunk(b"acTL", b"\0\0\0\1\0\0\0\0"),
    "transparent-colour": saved(IMAGE, transparency=(1, 2, 3)),
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
    "level-9": saved(IMAGE, compress_level=9, compress_type=zlib.Z_DEFAULT_STRATEGY),
    "level-0": saved(IMAGE, compress_level=0),
    "other-strategy": saved(IMAGE, compress_type=zlib.Z_DEFAULT_STRATEGY),
    "other-filter": refiltered(PNG),
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


@unhurried
@given(grey)
def test_a_mask_is_refused_exactly_when_it_has_a_third_value(mask: Pixels) -> None:
    check_mask(np.where(mask > 100, 255, 0).astype(np.uint8))
    if set(np.unique(mask)) - {0, 255}:
        with refused("pairs.mask-not-binary"):
            check_mask(mask)


def test_a_mask_with_colours_is_refused() -> None:
    with refused("pairs.mask-not-binary"):
        check_mask(np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8)),
        (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.uint8)),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool)),
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint8)),
    ],
)
def test_what_makes_no_pair_cannot_be_one(image: Pixels, mask: Pixels) -> None:
    with pytest.raises(ValueError, match=r"pair|image|uint8"):
        Pair(image, mask)


@unhurried
@given(colour, st.sampled_from([8, 32]))
def test_a_resized_mask_is_still_nothing_but_0_and_255(image: Pixels, size_px: int) -> None:
    pair = resize_pair(Pair(image, np.where(image[..., 0] > 127, 255, 0).astype(np.uint8)), size_px)
    assert pair.image.shape == (size_px, size_px, 3)
    check_mask(pair.mask)


def test_grey_and_colour_turn_into_one_another() -> None:
    assert with_channels(RGB, 1).shape == (24, 18)
    back = with_channels(with_channels(RGB, 1), 3)
    assert (back[..., 0] == back[..., 2]).all()
