"""Slides that cannot be read: refused in one sentence, at opening if possible, and without allocating memory."""

import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image
from reference import assert_teaches
from slide_files import NOISE, tiff

from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.io import checks, tiff_reader
from monai_iste.slides import Slide


def claiming(path, pixels=NOISE, fields=("ImageLength", "ImageWidth"), value=200_000, **options):
    """A TIFF of some kilobytes whose header claims other sizes."""
    tiff(path, pixels, **options)
    with tifffile.TiffFile(path) as source:
        places = [source.pages[0].tags[name].valueoffset for name in fields]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place - 6 : place + 4] = struct.pack("<HII", 4, 1, value)  # LONG, one of it
    path.write_bytes(content)
    return path


def missing(path):
    return path.with_suffix(".svs")


def folder(path):
    return path.parent


def empty(path):
    path.touch()
    return path


def text(path):
    path = path.with_suffix(".svs")
    path.write_text("not a slide\n" * 100)
    return path


def other_text(path):
    path = path.with_suffix(".ndpi")
    path.write_text("not a slide\n" * 100)
    return path


def mirax_without_its_folder(path):
    path = path.with_suffix(".mrxs")
    path.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    return path


def fluorescence(path):
    return tiff(path, NOISE[..., 0].astype(np.uint16) * 257, photometric="minisblack")


def stack(path):
    with tifffile.TiffWriter(path) as writer:
        for _ in range(3):
            writer.write(NOISE, tile=(128, 128), photometric="rgb", contiguous=False, metadata=None)
    return path


def cut_short(path):
    tiff(path, compression=None)
    path.write_bytes(path.read_bytes()[:1_000_000])
    return path


def without_its_directory(path):
    content = tiff(path).read_bytes()
    path.write_bytes(b"II*\0" + struct.pack("<I", len(content) + 8) + content[8:])
    return path


def bomb(path):
    return claiming(path, np.zeros_like(NOISE))


def bomb_that_openslide_opens(path):
    """Tiles as large as the whole: one entry in the directory is enough for it."""
    return claiming(path, NOISE[:100, :100], ("ImageLength", "ImageWidth", "TileLength", "TileWidth"))


def striped_bomb(path):
    return claiming(path, np.zeros_like(NOISE), value=19_000, tile=None)


def bomb_of_one_tile(path):
    return claiming(path, fields=("TileLength", "TileWidth"), value=65_536)


def png_bomb(path):
    path = path.with_suffix(".png")
    Image.fromarray(NOISE[:9, :9]).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 12_000, 12_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    return path


REFUSED = [
    (missing, "does not exist"),
    (folder, "the folder"),
    (empty, "is empty"),
    (text, "damaged or unsupported"),
    (other_text, "a slide that OpenSlide reads"),
    (mirax_without_its_folder, "a slide that OpenSlide reads"),
    (stack, "stack of several pages"),
    (cut_short, "cut short at 1,000,000"),
    (without_its_directory, "damaged or unsupported"),
    (bomb, "claims 200000 x 200000"),
    (bomb_that_openslide_opens, "claims 200000 x 200000"),
    (striped_bomb, "claims 19000 x 19000"),
    (bomb_of_one_tile, "tiles of 65536 x 65536"),
    (png_bomb, "claims 12000 x 12000"),
]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("make", "words"), REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_refused_at_opening_in_one_sentence_and_without_memory(tmp_path, make, words):
    path = make(tmp_path / "a.tif")
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as caught:
            Slide(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert_teaches(caught.value, str(path), words)
    assert "\n" not in str(caught.value)


def test_more_pixels_than_a_slide_has(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif")
    monkeypatch.setattr(checks, "MAX_SLIDE_PIXELS", 611 * 747)
    Slide(path).close()
    monkeypatch.setattr(checks, "MAX_SLIDE_PIXELS", 611 * 747 - 1)
    with pytest.raises(DataError) as caught:
        Slide(path)
    assert_teaches(caught.value, "611 x 747", "456,416 pixels")


def test_an_image_that_is_too_large_to_be_held(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif", tile=None, rowsperstrip=611)
    monkeypatch.setattr(tiff_reader, "MAX_PIXELS", 1000)
    with pytest.raises(DataError) as caught:
        Slide(path)
    assert_teaches(caught.value, "strips of 611 x 747", "Convert it to tiles")


def test_background_and_tiles_that_are_not_stored_are_plausible(tmp_path):
    background = np.full((512, 512, 3), 244, np.uint8)
    shape = {"shape": (8192, 8192, 3), "dtype": np.uint8, "tile": (512, 512), "photometric": "rgb"}
    tifffile.imwrite(tmp_path / "a.tif", (background for _ in range(256)), compression="zlib", **shape)
    tifffile.imwrite(tmp_path / "b.tif", iter([background] + [None] * 255), compression="zlib", **shape)
    for name, color in (("a.tif", 244), ("b.tif", 255)):
        with Slide(tmp_path / name) as slide:
            assert np.unique(slide.read(Region(8000, 8000, 99, 99))) == color


def test_a_deep_gray_image_is_refused_when_it_is_opened(tmp_path):
    with pytest.raises(DataError) as caught:
        Slide(fluorescence(tmp_path / "a.tif"))
    assert_teaches(caught.value, "a.tif", "16", "fluorescence")


def with_a_damaged_tile(path, **options):
    tiff(path, **options)
    with tifffile.TiffFile(path) as source:
        offset, length = source.pages[0].dataoffsets[7], source.pages[0].databytecounts[7]  # second row of six
    content = bytearray(path.read_bytes())
    content[offset : offset + length] = bytes(length)
    path.write_bytes(content)
    return path


def test_a_tile_that_cannot_be_decoded(tmp_path):
    path = with_a_damaged_tile(tmp_path / "a.tif")
    with Slide(path) as slide:
        with pytest.raises(DataError) as caught:
            slide.read(Region(120, 130, 50, 60))
        assert_teaches(caught.value, str(path), "row 120, column 130", "50 x 60", "damaged", "Copy or export it again")
        np.testing.assert_array_equal(slide.read(Region(0, 0, 128, 300)), NOISE[:128, :300])
        with pytest.raises(DataError):
            slide.read(Region(120, 130, 50, 60))


def test_a_tile_that_openslide_cannot_decode(tmp_path):
    path = with_a_damaged_tile(tmp_path / "a.svs", description="Aperio Image Library v10", compression="jpeg")
    with Slide(path) as slide:
        slide.read(Region(0, 0, 128, 300))
        with pytest.raises(DataError) as caught:
            slide.read(Region(120, 130, 50, 60))
        assert_teaches(caught.value, str(path), "row 120, column 130", "50 x 60", "opened again")
        with pytest.raises(DataError) as caught:  # also where it could be read before
            slide.read_at((300, 400), Region(0, 0, 9, 9))
        assert_teaches(caught.value, str(path), "row 0", "opened again")
    with Slide(path) as slide:
        slide.read(Region(0, 0, 128, 300))


def test_a_file_that_shrinks_while_it_is_open(tmp_path):
    path = tiff(tmp_path / "a.tif", compression=None)
    with Slide(path) as slide:
        slide.read(Region(0, 0, 9, 9))
        os.truncate(path, 900_000)
        with pytest.raises(DataError) as caught:
            slide.read(Region(600, 700, 5, 6))
        assert_teaches(caught.value, str(path), "stay as it was", "a changed file")
        assert "row 600, column 700" in str(caught.value.__cause__)


def test_an_image_that_is_gone_or_replaced_before_it_is_read(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path)
    with Slide(path) as slide:
        Image.fromarray(NOISE[:-1]).save(path)
        with pytest.raises(DataError) as caught:
            slide.read(Region(0, 0, 5, 5))
        assert_teaches(caught.value, str(path), "stay as it was", "a changed file")
        assert "another size" in str(caught.value.__cause__)
        path.unlink()
        with pytest.raises(DataError) as caught:
            slide.read(Region(0, 0, 5, 5))
        assert_teaches(caught.value, str(path), "does not exist")


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_closed_slide_is_not_read(tmp_path, name):
    path = tmp_path / name
    tiff(path) if name == "a.tif" else Image.fromarray(NOISE).save(path)
    slide = Slide(path)
    slide.read(Region(0, 0, 5, 5))
    slide.close()
    slide.close()
    for read in (lambda: slide.read(Region(0, 0, 5, 5)), lambda: slide.read_at((9, 9), Region(0, 0, 5, 5))):
        with pytest.raises(DataError) as caught:
            read()
        assert_teaches(caught.value, str(path), "closed")
