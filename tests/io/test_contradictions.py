"""Files whose parts contradict each other: the right pixels, or a sentence, and never other pixels."""

import io
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from reference import assert_teaches
from slide_files import picture

from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.io import read_rgb
from monai_iste.io.orientation import upright
from monai_iste.io.whole_image import decode_pillow, read_pillow_header
from monai_iste.slides import Slide

IMAGE = picture(70, 90)
RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 2**16, IMAGE.shape).astype(np.uint16)
YCBCR = np.asarray(Image.fromarray(IMAGE).convert("YCbCr"))


def jpeg(pixels: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(pixels, level=95, subsampling="444")


def jpeg_2000(pixels: np.ndarray, **options) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, **{"codecformat": "j2k"} | options)


def jpeg_xl(pixels: np.ndarray, **options) -> bytes:
    return imagecodecs.jpegxl_encode(pixels, lossless=True, **options)


def webp(pixels: np.ndarray) -> bytes:
    return imagecodecs.webp_encode(pixels, lossless=True)


def lerc(pixels: np.ndarray) -> bytes:
    return imagecodecs.lerc_encode(pixels, planar=False)


CODECS = {
    "JPEG": (7, jpeg),
    "JPEG 2000": (34712, jpeg_2000),
    "JPEG XL": (50002, jpeg_xl),
    "WebP": (50001, webp),
    "PNG": (34933, imagecodecs.png_encode),
    "LERC": (34887, lerc),
}


def write_tiff(path, data: bytes, compression: int, bits: int = 8, photometric: int = 2, tags=(), size=IMAGE.shape[:2]):
    """A TIFF of one strip, which holds any bytes. Colors are not subsampled."""
    rows = [(256, 4, size[1]), (257, 4, size[0]), (259, 3, compression), (262, 3, photometric), (273, 4, 8)]
    rows += [(277, 3, 3), (278, 4, size[0]), (279, 4, len(data)), *tags]
    offset = 8 + len(data) + len(data) % 2
    place = offset + 2 + 12 * (len(rows) + 2) + 4
    entries = {tag: struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in rows}
    entries[530] = struct.pack("<HHIHH", 530, 3, 2, 1, 1)
    entries[258] = struct.pack("<HHII", 258, 3, 3, place)
    directory = struct.pack("<H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    head = b"II" + struct.pack("<HI", 42, offset)
    path.write_bytes(head + data + bytes(len(data) % 2) + directory + struct.pack("<3H", bits, bits, bits))
    return path


def read(path) -> np.ndarray:
    pixels = read_rgb(path).transpose(1, 2, 0)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Region(9, 11, 50, 60)), pixels[9:59, 11:71])
    return pixels


def assert_refused(path, *words: str) -> None:
    with pytest.raises(DataError) as image:
        read_rgb(path)
    assert_teaches(image.value, str(path), *words)
    with pytest.raises(DataError) as slide, Slide(path) as opened:
        opened.read(Region(0, 0, *opened.size))
    assert_teaches(slide.value, *words)


@pytest.mark.parametrize("codec", CODECS)
def test_a_segment_of_the_declared_size(tmp_path, codec):
    compression, encode = CODECS[codec]
    path = write_tiff(tmp_path / "a.tif", encode(IMAGE), compression)
    np.testing.assert_allclose(read(path).astype(int), IMAGE, atol=12 if codec == "JPEG" else 0)


@pytest.mark.parametrize("shape", [(90, 70), (35, 180), (140, 45), (7, 900)])
@pytest.mark.parametrize("codec", CODECS)
def test_a_segment_of_other_sides_and_as_many_pixels(tmp_path, codec, shape):
    compression, encode = CODECS[codec]
    path = write_tiff(tmp_path / "a.tif", encode(IMAGE.reshape(*shape, 3)), compression)
    assert_refused(path, f"{shape[0]} x {shape[1]} pixels instead of 70 x 90")


TWELVE = IMAGE.astype(np.uint16) * 16 + 7
DEPTHS = {
    "JPEG 2000 of 16 in 8": (34712, jpeg_2000(DEEP), 8),
    "JPEG 2000 of 8 in 16": (34712, jpeg_2000(IMAGE), 16),
    "JPEG 2000 of 12 in 16": (34712, jpeg_2000(TWELVE, bitspersample=12), 16),
    "JPEG 2000 of 5 in 8": (34712, jpeg_2000(IMAGE >> 3, bitspersample=5), 8),
    "JPEG XL of 16 in 8": (50002, jpeg_xl(DEEP), 8),
    "JPEG XL of 8 in 16": (50002, jpeg_xl(IMAGE), 16),
    "JPEG XL of 12 in 16": (50002, jpeg_xl(TWELVE, bitspersample=12), 16),
    "PNG of 16 in 8": (34933, imagecodecs.png_encode(DEEP), 8),
    "PNG of 8 in 16": (34933, imagecodecs.png_encode(IMAGE), 16),
    "LERC of 16 in 8": (34887, lerc(DEEP), 8),
    "LERC of 8 in 16": (34887, lerc(IMAGE), 16),
    "JPEG of 8 in 16": (7, jpeg(IMAGE), 16),
    "JPEG of 12 in 16": (7, imagecodecs.jpeg8_encode(TWELVE, bitspersample=12, level=95), 16),
}


@pytest.mark.parametrize("name", DEPTHS)
def test_a_segment_of_another_depth(tmp_path, name):
    compression, data, bits = DEPTHS[name]
    assert_refused(write_tiff(tmp_path / "a.tif", data, compression, bits), "instead of")


@pytest.mark.parametrize("name", [name for name in DEPTHS if "12 in 16" in name])
def test_the_same_depth_declared(tmp_path, name):
    compression, data, _ = DEPTHS[name]
    path = write_tiff(tmp_path / "a.tif", data, compression, 12, photometric=6 if compression == 7 else 2)
    np.testing.assert_allclose(
        read(path).astype(int), np.round(TWELVE * (255 / 4095)), atol=12 if compression == 7 else 0
    )


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
@pytest.mark.parametrize("codec", CODECS)
def test_a_segment_that_is_cut_short(tmp_path, codec, share):
    compression, encode = CODECS[codec]
    data = encode(picture(200, 240))
    assert_refused(write_tiff(tmp_path / "a.tif", data[: int(share * len(data))], compression, size=(200, 240)), "200")


def test_a_padded_segment_is_whole(tmp_path):
    path = write_tiff(tmp_path / "a.tif", jpeg(IMAGE) + bytes(100), 7)
    np.testing.assert_allclose(read(path).astype(int), IMAGE, atol=12)


@pytest.mark.parametrize("box", ["j2k", "jp2"])
def test_ycbcr_in_jpeg_2000_is_converted_once(tmp_path, box):
    data = jpeg_2000(YCBCR, codecformat=box, colorspace=3, mct=False)  # 3: sYCC, which only the box of JP2 states
    path = write_tiff(tmp_path / "a.tif", data, 34712, photometric=6)
    np.testing.assert_array_equal(read(path), np.asarray(Image.fromarray(YCBCR, "YCbCr").convert("RGB")))


def test_depths_that_differ_between_colors(tmp_path):
    values = RNG.integers(0, [32, 64, 32], (70, 90, 3))
    words = (values[..., 0] << 11 | values[..., 1] << 5 | values[..., 2]).astype(">u2").tobytes()
    path = write_tiff(tmp_path / "a.tif", words, 1)
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        tiff.pages.first.tags["BitsPerSample"].overwrite((5, 6, 5))
    assert_refused(path, "(5, 6, 5) bits per sample")


def test_an_orientation_that_is_stored_as_a_byte(tmp_path):
    path = write_tiff(tmp_path / "a.tif", IMAGE.tobytes(), 1, tags=[(274, 1, 6)])
    np.testing.assert_array_equal(read_rgb(path).transpose(1, 2, 0), IMAGE.swapaxes(0, 1)[:, ::-1])


# --- PNG and BMP ------------------------------------------------------------------------------------------------------


def png(path, rows: bytes, bits: int, color: int, *chunks: tuple[bytes, bytes], interlaced: bool = False):
    head = struct.pack(">IIBBBBB", 90, 70, bits, color, 0, 0, interlaced)
    body = b""
    for kind, data in ((b"IHDR", head), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        body += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of a PNG, each with its filter, 0."""
    rows = b""
    for row in values.reshape(len(values), -1).tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        rows += b"\0" + int(text + "0" * (-len(text) % 8), 2).to_bytes(-(-len(text) // 8), "big")
    return rows


@pytest.mark.parametrize("high", [0, 0x100])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_transparent_gray_of_a_png(tmp_path, bits, high):
    values = RNG.integers(0, 2**bits, (70, 90))
    path = png(tmp_path / "a.png", packed(values, bits), bits, 0, (b"tRNS", struct.pack(">H", 2 | high)))
    expected = np.where(values == 2, 255, np.round(values * (255 / (2**bits - 1))))
    np.testing.assert_array_equal(read(path), expected[..., None].repeat(3, 2))


def test_transparent_rgb_of_a_png(tmp_path):
    color = IMAGE[5, 5]
    key = struct.pack(">3H", *(256 + int(n) for n in color))
    path = png(tmp_path / "a.png", packed(IMAGE, 8), 8, 2, (b"tRNS", key))
    is_key = (color == IMAGE).all(2, keepdims=True)
    np.testing.assert_array_equal(read(path), np.where(is_key, 255, IMAGE))


@pytest.mark.parametrize(
    ("bits", "color", "channels"), [(8, 2, 3), (8, 6, 4), (8, 0, 1), (8, 3, 1), (4, 0, 1), (16, 2, 3)]
)
@pytest.mark.parametrize("rows", [1, 40, 69])
def test_a_png_without_its_last_rows(tmp_path, bits, color, channels, rows):
    values = RNG.integers(1, 2**bits, (70, 90, channels))
    palette = [(b"PLTE", bytes(range(256)) * 3)] if color == 3 else []
    whole = png(tmp_path / "whole.png", packed(values, bits), bits, color, *palette)
    assert read(whole).shape == (70, 90, 3)
    assert_refused(png(tmp_path / "a.png", packed(values[:rows], bits), bits, color, *palette), "all rows")


def test_an_interlaced_png_without_its_last_passes(tmp_path):
    rows = packed(IMAGE[::8, ::8], 8) + packed(IMAGE[::8, 4::8], 8)
    assert_refused(png(tmp_path / "a.png", rows, 8, 2, interlaced=True), "all rows")


@pytest.mark.parametrize("interlaced", [False, True])
def test_black_is_no_missing_row(tmp_path, interlaced):
    black = np.zeros_like(IMAGE)
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [packed(black[y::dy, x::dx], 8) for y, x, dy, dx in (passes if interlaced else ((0, 0, 1, 1),))]
    np.testing.assert_array_equal(read(png(tmp_path / "a.png", b"".join(parts), 8, 2, interlaced=interlaced)), black)


@pytest.mark.parametrize("opacity", [0, 51])
def test_a_bmp_that_is_nowhere_opaque_has_no_opacity(tmp_path, opacity):
    stored = np.concatenate([IMAGE[..., ::-1], np.full((70, 90, 1), opacity, np.uint8)], 2)
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    head = struct.pack("<IiiHHIIiiII", 124, 90, -70, 1, 32, 3, stored.nbytes, 0, 0, 0, 0) + masks + bytes(68)
    data = b"BM" + struct.pack("<IHHI", 14 + 124 + stored.nbytes, 0, 0, 138) + head + stored.tobytes()
    (tmp_path / "a.bmp").write_bytes(data)
    expected = IMAGE if opacity == 0 else np.round(IMAGE / 5 + 204)
    np.testing.assert_array_equal(read(tmp_path / "a.bmp"), expected)
    assert Image.open(io.BytesIO(data)).mode == "RGBA"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_what_only_pillow_reads_is_upright_or_refused(tmp_path, orientation):
    """Pillow distorts uncompressed TIFFs of orientation 5 to 8."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, photometric="rgb", metadata=None, extratags=[(274, 3, 1, orientation, True)])
    if orientation < 5:
        assert read_pillow_header(path, ("TIFF",)).size == (70, 90)
        np.testing.assert_array_equal(decode_pillow(path, ("TIFF",)), upright(IMAGE, orientation))
    else:
        with pytest.raises(DataError, match="stored turned"):
            read_pillow_header(path, ("TIFF",))
    tifffile.imwrite(
        path, IMAGE, photometric="rgb", metadata=None, compression="zlib", extratags=[(274, 3, 1, orientation, True)]
    )
    np.testing.assert_array_equal(decode_pillow(path, ("TIFF",)), upright(IMAGE, orientation))
