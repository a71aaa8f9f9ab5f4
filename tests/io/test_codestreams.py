"""Tables of JPEG that are damaged: refused by every reader, where decoders would show other pixels."""

import io
import struct

import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image
from slide_files import picture

from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.io import read_rgb
from monai_iste.io.codestreams import check_jpeg_tables
from monai_iste.slides import Slide

IMAGE = picture(96, 128)
TABLES = 347  # TIFF's tag of the tables of all segments


def jpeg(**options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(IMAGE).save(stream, "JPEG", quality=90, **options)
    return stream.getvalue()


def shared(path) -> tuple[bytearray, int, int]:
    """Write a TIFF with shared tables; its bytes, and where its tables and their count stand."""
    Image.fromarray(IMAGE).save(path, compression="jpeg", quality=90)
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages.first.tags[TABLES]
        return bytearray(path.read_bytes()), tag.valueoffset, tag.offset


def place(data: bytes, marker: int) -> int:
    """First byte of the content of the first segment with a marker."""
    return data.index(bytes([0xFF, marker])) + 4


def assert_refused(path) -> None:
    with pytest.raises(DataError, match="JPEG"):
        read_rgb(path)
    with pytest.raises(DataError, match="JPEG"), Slide(path) as slide:
        slide.read(Region(0, 0, *slide.size))


# What is damaged: the marker of the segment, the first byte in it, and the bytes that stand there then.
DAMAGE = {
    "a step of 0": (0xDB, 5, b"\0"),
    "64 steps of 0": (0xDB, 1, bytes(64)),
    "steps of 3 bytes": (0xDB, 0, b"\x20"),
    "the fifth table": (0xDB, 0, b"\4"),
    "codes without values": (0xC4, 1, bytes(16)),
    "too many short codes": (0xC4, 1, b"\3"),
    "values of 0": (0xC4, 20, bytes(6)),
    "a category of 200": (0xC4, 18, b"\xc8"),
    "a third kind": (0xC4, 0, b"\x20"),
    "a length of 0": (0xC4, -2, b"\0\0"),
    "a length beyond the end": (0xC4, -2, b"\xff\xff"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_tables_of_all_segments(tmp_path, name):
    path, (marker, at, damage) = tmp_path / "a.tif", DAMAGE[name]
    data, begin, _ = shared(path)
    np.testing.assert_allclose(read_rgb(path).astype(int), IMAGE.transpose(2, 0, 1), atol=60)
    at += place(data[begin:], marker) + begin
    data[at : at + len(damage)] = damage
    path.write_bytes(data)
    assert_refused(path)


@pytest.mark.parametrize("count", [3, 30, 80, 200])
def test_tables_of_all_segments_that_are_cut_short(tmp_path, count):
    path = tmp_path / "a.tif"
    data, _, tag = shared(path)
    data[tag + 4 : tag + 8] = struct.pack("<I", count)
    path.write_bytes(data)
    assert_refused(path)


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_tables_of_one_image(tmp_path, suffix, name):
    path, (marker, at, damage) = tmp_path / f"a{suffix}", DAMAGE[name]
    data = bytearray(jpeg())
    at += place(data, marker)
    data[at : at + len(damage)] = damage
    if suffix == ".jpg":
        path.write_bytes(data)
    else:
        write_segment(path, bytes(data))
    with pytest.raises(DataError):
        read_rgb(path)


def write_segment(path, data: bytes) -> None:
    """Write a TIFF whose only strip is a JPEG of YCbCr."""
    shape, tags = IMAGE.shape, []
    values = {256: shape[1], 257: shape[0], 258: 8, 259: 7, 262: 6, 273: 0, 277: 3, 278: shape[0], 279: len(data)}
    values[273] = 8 + 2 + 12 * len(values) + 4
    for tag, value in values.items():
        tags.append(struct.pack("<HHII", tag, 4, 1, value))
    path.write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + b"".join(tags) + bytes(4) + data)


@pytest.mark.parametrize("name", ["", *DAMAGE])
def test_a_slide_of_aperio(tmp_path, name):
    """OpenSlide would show whatever its decoder makes of the tables."""
    stream, tiles = io.BytesIO(), []
    Image.fromarray(IMAGE).save(stream, "JPEG", quality=90, streamtype=1)
    tables = bytearray(stream.getvalue())
    if name:
        marker, at, damage = DAMAGE[name]
        at += place(tables, marker)
        tables[at : at + len(damage)] = damage
    for top, left in ((0, 0), (0, 64), (48, 0), (48, 64)):
        stream = io.BytesIO()
        Image.fromarray(IMAGE[top : top + 48, left : left + 64]).save(stream, "JPEG", quality=90, streamtype=2)
        tiles.append(stream.getvalue())
    path, about = (
        tmp_path / "a.svs",
        "Aperio Image Library v11\r\n128x96 [0,0 128x96] (64x48) JPEG/RGB Q=90|AppMag = 20",
    )
    tags = [(TABLES, 7, len(tables), bytes(tables), True)]
    options = {"tile": (48, 64), "photometric": "ycbcr", "compression": "jpeg", "subsampling": (2, 2), "metadata": None}
    tifffile.imwrite(path, iter(tiles), shape=IMAGE.shape, dtype="uint8", description=about, extratags=tags, **options)
    assert openslide.OpenSlide.detect_format(path) == "aperio"
    if name:
        assert_refused(path)
    else:
        np.testing.assert_allclose(read_rgb(path).astype(int), IMAGE.transpose(2, 0, 1), atol=60)


def test_whole_tables_pass(tmp_path):
    for options in ({}, {"progressive": True}, {"optimize": True}, {"subsampling": 0}, {"restart_marker_rows": 1}):
        data = jpeg(**options)
        check_jpeg_tables(data)
        (tmp_path / "a.jpg").write_bytes(data)
        expected = np.asarray(Image.open(tmp_path / "a.jpg"))
        np.testing.assert_array_equal(read_rgb(tmp_path / "a.jpg").transpose(1, 2, 0), expected)
        write_segment(tmp_path / "a.tif", data)
        np.testing.assert_allclose(read_rgb(tmp_path / "a.tif").transpose(1, 2, 0).astype(int), expected, atol=1)
    check_jpeg_tables(jpeg()[:2] + jpeg())  # a second beginning is skipped
    for quality in (1, 30, 100):
        Image.fromarray(IMAGE).save(tmp_path / "b.tif", compression="jpeg", quality=quality)
        assert read_rgb(tmp_path / "b.tif").shape == (3, 96, 128)


def test_tables_alone_hold_nothing_else():
    check_jpeg_tables(b"\xff\xd8\xff\xd9", alone=True)
    check_jpeg_tables(b"\xff\xd8", alone=True)  # some writers leave the end out
    with pytest.raises(ValueError, match="other bytes"):
        check_jpeg_tables(b"\xff\xd8" + bytes(20), alone=True)
