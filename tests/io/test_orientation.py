"""Orientation 1 to 8 of TIFF and EXIF: every reader shows the image upright, with its size and pixel size turned."""

import struct
import zlib
from itertools import product

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps
from slide_files import picture

from monai_iste.inferers import Region
from monai_iste.io import probe, read_rgb
from monai_iste.io.image_reader import image_size
from monai_iste.io.orientation import stored_region, upright, upright_size
from monai_iste.io.pixel_size import find_mpp
from monai_iste.slides import Slide
from monai_iste.transforms import LoadRGB
from monai_iste.viewer.catalog import CatalogImage

IMAGE = picture(150, 220)
ORIENTATIONS = range(1, 9)


def shown(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What Pillow shows of a stored image with this orientation."""
    image = Image.fromarray(pixels)
    image.getexif()[274] = orientation
    return np.asarray(ImageOps.exif_transpose(image))


def assert_shown(path, expected: np.ndarray, tolerance: int = 0) -> None:
    """Every reader shows the same."""
    size = expected.shape[:2]
    assert image_size(path) == probe(path).size == size
    pixels = read_rgb(path).transpose(1, 2, 0)
    np.testing.assert_allclose(pixels.astype(int), expected, atol=tolerance)
    np.testing.assert_array_equal(LoadRGB()(str(path)).transpose(1, 2, 0), pixels)
    with Slide(path) as slide:
        assert slide.size == size
        np.testing.assert_array_equal(slide.read(Region(0, 0, *size)), pixels)
        for top, left, height, width in ((0, 0, 7, 9), (31, 57, 64, 80), (size[0] - 5, size[1] - 3, 5, 3)):
            part = slide.read(Region(top, left, height, width))
            np.testing.assert_array_equal(part, pixels[top : top + height, left : left + width])
    image = CatalogImage("a", path)
    np.testing.assert_array_equal(image.read(Region(3, 4, 50, 60)), pixels[3:53, 4:64])
    image.close()


LAYOUTS = {
    "strips": {"rowsperstrip": 16},
    "one strip": {"rowsperstrip": 150},
    "tiles": {"tile": (64, 48)},
    "planes": {"tile": (64, 48), "planarconfig": "separate"},
    "planes of strips": {"rowsperstrip": 16, "planarconfig": "separate"},
    "16 bits": {"tile": (64, 48)},
    "float": {"rowsperstrip": 16},
    "gray": {"tile": (64, 48), "photometric": "minisblack"},
    "inverted gray": {"rowsperstrip": 16, "photometric": "miniswhite"},
    "palette": {"tile": (64, 48), "photometric": "palette"},
    "JPEG": {"tile": (64, 48), "compression": "jpeg"},
    "JPEG strips": {"rowsperstrip": 16, "compression": "jpeg"},
    "opacity": {"tile": (64, 48), "extrasamples": ["unassalpha"]},
    "big-endian": {"rowsperstrip": 16, "byteorder": ">"},
}


def write(path, layout: str, orientation: int) -> np.ndarray:
    """Write IMAGE in a layout; return what it holds."""
    stored, expected, options = IMAGE, IMAGE, {"photometric": "rgb", **LAYOUTS[layout]}
    if layout == "16 bits":
        stored = IMAGE.astype(np.uint16) * 257
    elif layout == "float":
        stored = IMAGE.astype(np.float32) / 255
    elif "gray" in layout or layout == "palette":
        stored = np.ascontiguousarray(IMAGE[..., 0])
        expected = np.repeat(stored[..., None], 3, axis=2)
    if layout == "inverted gray":
        stored = 255 - stored
    if layout == "palette":
        colors = np.random.default_rng(0).integers(0, 256, (3, 256))
        options["colormap"] = (colors * 257).astype(np.uint16)
        expected = colors.T[stored].astype(np.uint8)
    if layout == "opacity":
        opacity = np.full((*IMAGE.shape[:2], 1), 51, np.uint8)
        stored = np.concatenate([IMAGE, opacity], axis=2)
        expected = np.round(IMAGE / 5 + 255 * 0.8).astype(np.uint8)
    if "planarconfig" in options:
        stored = stored.transpose(2, 0, 1).copy()
    tags = [(274, 3, 1, orientation, True)]
    resolution = {"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER"}  # columns 0.5, rows 0.25 um
    byteorder = options.pop("byteorder", "<")
    tifffile.imwrite(path, stored, metadata=None, extratags=tags, byteorder=byteorder, **resolution, **options)
    return expected


@pytest.mark.parametrize(("layout", "orientation"), product(LAYOUTS, ORIENTATIONS))
def test_tiff(tmp_path, layout, orientation):
    path = tmp_path / "a.tif"
    expected = write(path, layout, orientation)
    assert_shown(
        path, shown(expected, orientation), tolerance=60 if "JPEG" in layout else 1 if layout == "opacity" else 0
    )
    mpp = (0.25, 0.5) if orientation < 5 else (0.5, 0.25)
    assert probe(path).mpp == pytest.approx(mpp)
    assert find_mpp(path).mpp == pytest.approx(mpp)
    with Slide(path) as slide:
        assert slide.mpp == pytest.approx(mpp)


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_an_orientation_that_does_not_exist_is_upright(tmp_path, orientation):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, photometric="rgb", extratags=[(274, 3, 1, orientation, True)])
    assert_shown(tmp_path / "a.tif", IMAGE)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_exif(tmp_path, suffix, orientation):
    exif, path = Image.Exif(), tmp_path / f"a.{suffix}"
    exif[274] = orientation
    Image.fromarray(IMAGE).save(path, exif=exif, lossless=True, quality=100, subsampling=0)
    assert_shown(path, shown(IMAGE, orientation), tolerance=6 if suffix == "jpg" else 0)


def test_exif_behind_the_pixels_of_a_png(tmp_path):
    exif, path = Image.Exif(), tmp_path / "a.png"
    exif[274] = 6
    Image.fromarray(IMAGE).save(path)
    body, chunk = path.read_bytes(), b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(body[:-12] + late + body[-12:])
    assert_shown(path, shown(IMAGE, 6))


def test_damaged_exif_leaves_the_image_as_it_is(tmp_path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert_shown(tmp_path / "a.png", IMAGE)


@pytest.mark.parametrize("orientation", [3, 6])
def test_a_turned_slide_of_aperio(tmp_path, orientation):
    path = tmp_path / "a.svs"
    tags = [(274, 3, 1, orientation, True)]
    description = "Aperio Image Library v10|MPP = 0.5"
    tifffile.imwrite(
        path, IMAGE, photometric="rgb", tile=(64, 48), metadata=None, description=description, extratags=tags
    )
    assert_shown(path, shown(IMAGE, orientation))
    assert probe(path).pixel_size.source == "aperio"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_levels_are_turned_as_well(tmp_path, orientation):
    path = tmp_path / "a.tif"
    tags = [(274, 3, 1, orientation, True)]
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2):
            pixels = IMAGE[::step, ::step]
            writer.write(pixels, photometric="rgb", tile=(64, 48), subfiletype=step - 1, metadata=None, extratags=tags)
    with Slide(path) as slide:
        small = shown(IMAGE[::2, ::2].copy(), orientation)
        assert slide.levels == (upright_size((150, 220), orientation), small.shape[:2])
        np.testing.assert_array_equal(slide.read(Region(0, 0, *small.shape[:2]), level=1), small)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_stored_region_of_an_upright_one(orientation):
    stored = np.arange(6 * 9).reshape(6, 9)
    whole = upright(stored, orientation)
    assert whole.shape == upright_size((6, 9), orientation)
    for top, left, height, width in ((0, 0, 2, 3), (1, 2, 3, 4), (whole.shape[0] - 1, whole.shape[1] - 2, 1, 2)):
        (y, x), (h, w) = stored_region((top, left), (height, width), whole.shape, orientation)
        part = upright(stored[y : y + h, x : x + w], orientation)
        np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])
