"""One rule for which reader opens a file: image, slide and viewer show the same pixels, whatever the codec."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from reference import assert_teaches
from slide_files import picture, tiff

from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.io import probe, read_rgb
from monai_iste.io.checks import TooManyPixels
from monai_iste.io.openslide_reader import OpenSlidePixels
from monai_iste.io.pixels import open_pixels
from monai_iste.io.tiff_reader import TiffPixels
from monai_iste.slides import Slide
from monai_iste.viewer.catalog import CatalogImage

IMAGE = picture(300, 420)
TILED = {"tile": (128, 96), "photometric": "rgb", "metadata": None}


def same_everywhere(path) -> np.ndarray:
    """Read by every consumer; return the pixels, which are the same."""
    pixels = read_rgb(path).transpose(1, 2, 0)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Region(0, 0, *slide.size)), pixels)
        np.testing.assert_array_equal(slide.read(Region(101, 77, 90, 140)), pixels[101:191, 77:217])
    image = CatalogImage("a", path)
    np.testing.assert_array_equal(image.read(Region(101, 77, 90, 140)), pixels[101:191, 77:217])
    image.close()
    return pixels


LOSSLESS = {
    "none": {},
    "LZW": {"compression": "lzw"},
    "LZW with predictor": {"compression": "lzw", "predictor": True},
    "deflate": {"compression": "zlib"},
    "PackBits": {"compression": "packbits"},
    "ZSTD": {"compression": "zstd"},
    "LZMA": {"compression": "lzma"},
    "LERC": {"compression": "lerc"},
    "JPEG 2000": {"compression": "jpeg2000", "compressionargs": {"reversible": True}},
    "JPEG XL": {"compression": "jpegxl", "compressionargs": {"lossless": True}},
    "WebP": {"compression": "webp", "compressionargs": {"lossless": True}},
    "PNG": {"compression": "png"},
}


@pytest.mark.parametrize("layout", [{}, {"tile": None, "rowsperstrip": 64}], ids=["tiles", "strips"])
@pytest.mark.parametrize("codec", LOSSLESS)
def test_lossless_codecs(tmp_path, codec, layout):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, **TILED | layout | LOSSLESS[codec])
    np.testing.assert_array_equal(same_everywhere(tmp_path / "a.tif"), IMAGE)


@pytest.mark.parametrize("subsampling", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("layout", [{}, {"tile": None, "rowsperstrip": 64}], ids=["tiles", "strips"])
def test_jpeg_as_pillow_shows_it(tmp_path, subsampling, layout):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, IMAGE, **TILED | layout, compression="jpeg", subsampling=subsampling)
    with Image.open(path) as image:
        difference = np.abs(same_everywhere(path).astype(int) - np.asarray(image.convert("RGB")))
    assert difference.max() <= 1


def aperio(path, codec: int, declared: str, convert: bool):
    """Tiles in JPEG 2000 as Aperio writes them: YCbCr (33003) or RGB (33005)."""
    pixels = np.asarray(Image.fromarray(IMAGE).convert("YCbCr")) if convert else IMAGE
    blocks = [
        imagecodecs.jpeg2k_encode(
            np.pad(part, [(0, 96 - part.shape[0]), (0, 96 - part.shape[1]), (0, 0)], mode="edge"),
            codecformat="j2k",
            reversible=True,
            mct=False,
        )
        for top in range(0, 300, 96)
        for part in (pixels[top : top + 96, left : left + 96] for left in range(0, 420, 96))
    ]
    options = {"photometric": "rgb", "metadata": None, "tile": (96, 96), "description": declared}
    tifffile.imwrite(path, iter(blocks), shape=IMAGE.shape, dtype=np.uint8, compression=34712, **options)
    with tifffile.TiffFile(path, mode="r+b") as slide:
        slide.pages.first.tags["Compression"].overwrite(codec)
    return path


@pytest.mark.parametrize(("codec", "convert"), [(33003, True), (33005, False), (34712, False)])
@pytest.mark.parametrize("declared", ["Aperio Image Library v10", "another writer"])
@pytest.mark.parametrize("name", ["a.svs", "a.tif"])
def test_jpeg_2000_of_aperio_under_any_name(tmp_path, codec, convert, declared, name):
    path = aperio(tmp_path / name, codec, declared, convert)
    expected = np.asarray(Image.fromarray(IMAGE).convert("YCbCr").convert("RGB")) if convert else IMAGE
    np.testing.assert_array_equal(same_everywhere(path), expected)


def test_vendors_are_read_by_openslide_and_other_tiffs_by_tifffile(tmp_path):
    vendor = {"description": "Aperio Image Library v10"}
    files = {
        tiff(tmp_path / "a.tif", IMAGE): TiffPixels,
        tiff(tmp_path / "a.svs", IMAGE, **vendor): OpenSlidePixels,
        tiff(tmp_path / "b.svs", IMAGE.astype(np.uint16) * 257, **vendor): TiffPixels,
        tiff(tmp_path / "c.svs", IMAGE, compression="webp", **vendor): TiffPixels,
    }
    for path, reader in files.items():
        pixels = open_pixels(path)
        assert isinstance(pixels, reader), path
        pixels.close()
        same_everywhere(path)


def trestle(path):
    """Tiles that overlap by 16 pixels, as MedScan writes them."""
    description = "Background Color=E6E6E6;Objective Power=20;OverlapsXY=16 16"
    tiff(path, IMAGE, tile=(64, 64), description=description, software="MedScan")
    return path


def test_overlaps_of_trestle(tmp_path):
    pixels = same_everywhere(trestle(tmp_path / "a.tif"))
    assert pixels.shape < IMAGE.shape
    np.testing.assert_array_equal(pixels[:48, 48:96], IMAGE[:48, 64:112])  # the second tile covers the overlap


@pytest.mark.parametrize("tile", [(128, 96), None])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_missing_tiles_and_strips_are_white(tmp_path, tile, dtype):
    path, stored = tmp_path / "a.tif", IMAGE.astype(dtype) * (257 if dtype == np.uint16 else 1)
    tifffile.imwrite(path, stored, photometric="rgb", metadata=None, tile=tile, rowsperstrip=None if tile else 50)
    with tifffile.TiffFile(path, mode="r+b") as file:
        tag = file.pages.first.tags["TileByteCounts" if tile else "StripByteCounts"]
        tag.overwrite((tag.value[0], 0, *tag.value[2:]))
    expected = IMAGE.copy()
    expected[(slice(0, 128), slice(96, 192)) if tile else slice(50, 100)] = 255
    np.testing.assert_array_equal(same_everywhere(path), expected)


def test_the_content_decides_and_not_the_name(tmp_path):
    tiff(tmp_path / "a.png", IMAGE)
    Image.fromarray(IMAGE).save(tmp_path / "b.tif", "PNG")
    for name, kind in (("a.png", "tiff"), ("b.tif", "png")):
        np.testing.assert_array_equal(same_everywhere(tmp_path / name), IMAGE)
        assert probe(tmp_path / name).kind == kind


def test_a_tile_that_claims_to_be_larger(tmp_path):
    huge = imagecodecs.jpeg8_encode(np.zeros((3000, 3000, 3), np.uint8))
    options = {"shape": (128, 128, 3), "dtype": np.uint8, "tile": (128, 128), "photometric": "rgb", "metadata": None}
    for codec, data in (("jpeg", huge), ("jpeg2000", imagecodecs.jpeg2k_encode(np.zeros((3000, 3000, 3), np.uint8)))):
        tifffile.imwrite(tmp_path / "a.tif", iter([data]), compression=codec, **options)
        with pytest.raises(DataError) as caught:
            read_rgb(tmp_path / "a.tif")
        assert_teaches(caught.value, "a.tif", "3000 x 3000")


@pytest.mark.parametrize("codec", ["jpegxl", "webp"])
def test_a_tile_that_claims_to_be_larger_in_other_codecs(tmp_path, codec):
    encode = {"jpegxl": imagecodecs.jpegxl_encode, "webp": imagecodecs.webp_encode}[codec]
    options = {"shape": (128, 128, 3), "dtype": np.uint8, "tile": (128, 128), "photometric": "rgb", "metadata": None}
    for pixels in (np.zeros((600, 500, 3), np.uint8), np.zeros((600, 600, 3), np.uint8)):
        tifffile.imwrite(tmp_path / "a.tif", iter([encode(pixels)]), compression=codec, **options)
        with pytest.raises(DataError) as caught:
            read_rgb(tmp_path / "a.tif")
        assert_teaches(caught.value, "a.tif", f"600 x {pixels.shape[1]}")


def test_more_pixels_than_memory_holds_are_still_read_by_regions(tmp_path, monkeypatch):
    monkeypatch.setattr("monai_iste.io.checks.MAX_PIXELS", 1000)
    for name in ("a.tif", "a.png"):
        Image.fromarray(IMAGE).save(tmp_path / name)
        with pytest.raises(TooManyPixels):
            read_rgb(tmp_path / name)
    with Slide(tmp_path / "a.tif") as slide:
        np.testing.assert_array_equal(slide.read(Region(9, 8, 70, 60)), IMAGE[9:79, 8:68])
    with pytest.raises(TooManyPixels):
        Slide(tmp_path / "a.png")
