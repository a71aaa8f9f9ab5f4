"""Slides and plain images, tiled or not, 8 bits or more: every reader returns the same pixels at the same position."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
import tifffile
from monai.data import WSIReader
from PIL import Image, ImageCms
from slide_files import NOISE, tiff

from monai_iste.errors import DataError
from monai_iste.inferers import Region
from monai_iste.io import pixels as routes
from monai_iste.io import tiff_reader
from monai_iste.slides import Slide

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def segments_decoded(monkeypatch) -> list:
    """Count the tiles and strips of TIFFs that are decoded from now on."""
    decoded = []

    def count(data, *arguments, check=tiff_reader.check_segment):
        decoded.append(arguments)
        check(data, *arguments)

    monkeypatch.setattr(tiff_reader, "check_segment", count)
    return decoded


def test_of_a_tiled_tiff_only_the_needed_tiles_are_decoded_once(tmp_path, monkeypatch):
    decoded = segments_decoded(monkeypatch)
    with Slide(tiff(tmp_path / "a.tif")) as slide:
        assert not decoded
        slide.read(Region(130, 7, 100, 200))  # in the second row of tiles, the first two
        slide.read(Region(135, 9, 100, 200))
        assert len(decoded) == 2


def test_a_tiled_tiff(tmp_path):
    with Slide(tiff(tmp_path / "a.tif")) as slide:
        assert slide.size == (611, 747)
        assert slide.levels == ((611, 747),)
        np.testing.assert_array_equal(slide.read(Region(0, 0, 611, 747)), NOISE)
        part = slide.read(Region(130, 7, 300, 401))
    np.testing.assert_array_equal(part, NOISE[130:430, 7:408])
    assert part.dtype == np.uint8
    assert part.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("suffix", ["png", "bmp", "webp"])
def test_a_plain_image_is_decoded_once_when_it_is_read(tmp_path, monkeypatch, suffix):
    Image.fromarray(NOISE).save(tmp_path / f"a.{suffix}", lossless=True)
    decoded = []
    decode = lambda path, decode=routes.decode_pillow: decoded.append(path) or decode(path)  # noqa: E731
    monkeypatch.setattr(routes, "decode_pillow", decode)
    with Slide(tmp_path / f"a.{suffix}") as slide:
        assert slide.size == (611, 747)
        assert not decoded
        part = slide.read(Region(130, 7, 300, 401))
        slide.read_at((100, 100), Region(0, 0, 5, 5))
        assert len(decoded) == 1
    np.testing.assert_array_equal(part, NOISE[130:430, 7:408])
    assert part.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_the_result_of_read_is_a_copy(tmp_path, shape):
    """A plain image is held: what is read of it is a copy."""
    Image.fromarray(NOISE[: shape[0], : shape[1]]).save(tmp_path / "a.png")
    with Slide(tmp_path / "a.png") as slide:
        before = slide.read(Region(0, 0, *shape)).copy()
        parts = (
            slide.read(Region(0, 0, *shape)),
            slide.read_at((2, 2), Region(0, 0, 2, 2)),
            slide.read_at((7, 1), Region(0, 0, 7, 1)),
        )
        for part in parts:
            assert part.flags["WRITEABLE"]
            part[:] = 0
        np.testing.assert_array_equal(slide.read(Region(0, 0, *shape)), before)


def test_sixteen_bits_are_rounded_as_images_are(tmp_path):
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    with Slide(tiff(tmp_path / "a.tif", np.stack([values, values.T, values[::-1]], axis=2))) as slide:
        np.testing.assert_array_equal(slide.read(Region(0, 0, 256, 256))[..., 0], np.round(values / 257))


def test_colors_that_openslide_does_not_know_are_read_by_the_rules_of_images(tmp_path):
    with Slide(tiff(tmp_path / "a.tif", NOISE.astype(np.float32) / 255)) as slide:
        np.testing.assert_array_equal(slide.read(Region(3, 5, 20, 30)), NOISE[3:23, 5:35])
    with Slide(tiff(tmp_path / "b.tif", NOISE[..., 0], photometric="minisblack")) as slide:
        np.testing.assert_array_equal(slide.read(Region(3, 5, 20, 30)), NOISE[3:23, 5:35, :1].repeat(3, 2))


def test_missing_tiles_and_transparency_show_the_background(tmp_path, monkeypatch):
    tiles = [np.full((128, 128, 3), 100, np.uint8), None, np.full((128, 128, 3), 50, np.uint8), None]
    tifffile.imwrite(
        tmp_path / "a.tif", iter(tiles), shape=(256, 256, 3), dtype=np.uint8, tile=(128, 128), photometric="rgb"
    )
    with Slide(tmp_path / "a.tif") as slide:
        assert slide.read(Region(100, 100, 50, 60))[[0, 49, 0, 49], [0, 0, 59, 59]].tolist() == [
            [100] * 3,
            [50] * 3,
            [255] * 3,
            [255] * 3,
        ]
        gray = slide.read_at((64, 64), Region(0, 0, 64, 64))
    assert (gray[5, 5].tolist(), gray[5, 60].tolist()) == ([100] * 3, [255] * 3)
    background = np.concatenate([np.full((256, 256, 3), 40, np.uint8), np.full((256, 256, 1), 51, np.uint8)], 2)
    with Slide(tiff(tmp_path / "b.tif", background, extrasamples=["unassalpha"])) as slide:
        assert slide.read(Region(0, 0, 9, 9)) == pytest.approx(255 - (255 - 40) / 5, abs=0.6)  # opacity 51 / 255
    properties = openslide.OpenSlide.properties.fget
    monkeypatch.setattr(
        openslide.OpenSlide,
        "properties",
        property(lambda slide: {**properties(slide), "openslide.background-color": "0A14F0"}),
    )
    tifffile.imwrite(
        tmp_path / "a.svs",
        iter(tiles),
        shape=(256, 256, 3),
        dtype=np.uint8,
        tile=(128, 128),
        photometric="rgb",
        description="Aperio Image Library v10",
        metadata=None,
    )
    with Slide(tmp_path / "a.svs") as slide:
        assert slide.read(Region(100, 200, 1, 1)).ravel().tolist() == [10, 20, 240]


def test_monai_reads_the_same(tmp_path):
    path = tiff(tmp_path / "a.tif")
    reader = WSIReader(backend="openslide")
    theirs, _ = reader.get_data(reader.read(str(path)), location=(40, 50), size=(60, 70), level=0)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(Region(40, 50, 60, 70)), theirs.transpose(1, 2, 0))


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_threads_read_what_one_reads(tmp_path, name):
    path = tmp_path / name
    tiff(path) if name == "a.tif" else Image.fromarray(NOISE).save(path)
    boxes = [(int(top), int(left)) for top, left in np.random.default_rng(1).integers(0, 500, (200, 2))]
    with Slide(path) as slide, ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda box: slide.read(Region(*box, 64, 64)), boxes))
    for (top, left), part in zip(boxes, parts, strict=True):
        np.testing.assert_array_equal(part, NOISE[top : top + 64, left : left + 64])


def test_threads_that_wait_for_an_image_decode_it_once(tmp_path, monkeypatch):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    decoded = []

    def slowly(path, read=routes.decode_pillow):
        decoded.append(path)
        time.sleep(0.2)
        return read(path)

    monkeypatch.setattr(routes, "decode_pillow", slowly)
    with Slide(tmp_path / "a.png") as slide, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda top: slide.read(Region(top, 0, 9, 9)), range(4)))
    assert len(decoded) == 1


@pytest.mark.parametrize("name", ["a.tif", "b.tif", "a.png"])
def test_color_profile(tmp_path, name):
    if name == "a.png":
        Image.fromarray(NOISE).save(tmp_path / name, icc_profile=SRGB)
    else:
        tiff(tmp_path / name, iccprofile=SRGB if name == "a.tif" else SRGB.replace(b"RGB ", b"GRAY", 1))
    with Slide(tmp_path / name) as slide:
        assert slide.icc == (None if name == "b.tif" else SRGB)


@pytest.mark.parametrize("read", ["read", "read_at"])
@pytest.mark.parametrize("kind", ["shortened", "overwritten", "removed"])
def test_a_file_that_changed_is_not_called_damaged(tmp_path, kind, read):
    """What is read from a file that is just written again fails in many ways, of which the change is the cause."""
    path = tiff(tmp_path / "a.tif")
    regions = [(NOISE.shape[:2], Region(top, 0, 128, 700)) for top in range(0, 384, 128)]
    with Slide(path) as slide:
        slide.read(Region(0, 0, 9, 9))
        if kind == "removed":
            slide.close()
            path.unlink()
        else:
            data = path.read_bytes()
            path.write_bytes(data[:999] if kind == "shortened" else data[:999] + bytes(len(data) - 999))
        for size, region in regions if read == "read_at" else [(None, region) for _, region in regions]:
            with pytest.raises(DataError, match="stay as it was"):
                slide.read(region) if size is None else slide.read_at((size[0] - 9, size[1]), region)
