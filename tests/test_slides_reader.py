"""Reading slides: the right pixels at the right place, a pixel size that somebody stated, and refusals that teach."""

import math
import os
import struct
import time
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import openslide
import pytest
import tifffile
from monai.data import WSIReader
from PIL import Image, ImageCms
from reference import assert_teaches

from monai_iste.errors import ConfigError, DataError, ShapeError
from monai_iste.pixel_size import PixelSize, find_mpp, source_mpp
from monai_iste.slides import Slide, files, resampling
from monai_iste.slides.resampling import LevelPixels, best_level, level_extent, resample_region

NOISE = np.random.default_rng(0).integers(0, 256, (611, 747, 3), dtype=np.uint8)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
APERIO = "Aperio Image Library v11.2.1 \r\n747x611 [0,0 747x611] (256x256) JPEG/RGB Q=30|AppMag = 20|MPP = {}"
LANCZOS = Image.Resampling.LANCZOS


def tiff(path, *levels, tile=(128, 128), **options):
    """A pyramid as OpenSlide knows it: levels one after another, all but the first marked as reduced."""
    settings = {"tile": tile, "photometric": "rgb", "compression": "zlib", "metadata": None} | options
    with tifffile.TiffWriter(path) as writer:
        for index, level in enumerate(levels or (NOISE,)):
            writer.write(level, subfiletype=int(index > 0), **settings)
    return path


def resized(pixels, size):
    """(h, w, 3) to (3, H, W) by Pillow, all at once."""
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], LANCZOS)).transpose(2, 0, 1)


def difference(one, other):
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


# --- which file is read how -------------------------------------------------------------------------------------------


def test_a_tiled_tiff_is_read_through_openslide(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "read_rgb", None)
    with Slide(tiff(tmp_path / "a.tif")) as slide:
        assert slide.size == (611, 747)
        assert slide.levels == ((611, 747),)
        np.testing.assert_array_equal(slide.read(0, 0, 611, 747), NOISE.transpose(2, 0, 1))
        part = slide.read(130, 7, 300, 401)
    np.testing.assert_array_equal(part, NOISE[130:430, 7:408].transpose(2, 0, 1))
    assert part.dtype == np.uint8
    assert part.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif"])
def test_a_plain_image_is_decoded_once_when_it_is_read(tmp_path, monkeypatch, suffix):
    Image.fromarray(NOISE).save(tmp_path / f"a.{suffix}")
    decoded = []
    monkeypatch.setattr(files, "read_rgb", lambda path, read=files.read_rgb: decoded.append(path) or read(path))
    with Slide(tmp_path / f"a.{suffix}") as slide:
        assert slide.size == (611, 747)
        assert not decoded
        part = slide.read(130, 7, 300, 401)
        slide.read_at((100, 100), 0, 0, 5, 5)
        assert len(decoded) == 1
    np.testing.assert_array_equal(part, NOISE[130:430, 7:408].transpose(2, 0, 1))
    assert part.flags["C_CONTIGUOUS"]


def test_sixteen_bits_are_rounded_as_images_are(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "read_rgb", None)
    values = np.arange(65_536, dtype=np.uint16).reshape(256, 256)
    with Slide(tiff(tmp_path / "a.tif", np.stack([values, values.T, values[::-1]], axis=2))) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 256, 256)[0], np.round(values / 257))


def test_colours_that_openslide_does_not_know_are_read_by_the_rules_of_images(tmp_path):
    with Slide(tiff(tmp_path / "a.tif", NOISE.astype(np.float32) / 255)) as slide:
        np.testing.assert_array_equal(slide.read(3, 5, 20, 30), NOISE[3:23, 5:35].transpose(2, 0, 1))
    with Slide(tiff(tmp_path / "b.tif", NOISE[..., 0], photometric="minisblack")) as slide:
        np.testing.assert_array_equal(slide.read(3, 5, 20, 30), NOISE[3:23, 5:35, :1].repeat(3, 2).transpose(2, 0, 1))


def test_levels_are_read_in_their_own_pixels(tmp_path):
    with Slide(tiff(tmp_path / "a.tif", NOISE[:608, :736], NOISE[:152, :184])) as slide:
        assert slide.levels == ((608, 736), (152, 184))
        np.testing.assert_array_equal(slide.read(31, 77, 90, 101, level=1), NOISE[31:121, 77:178].transpose(2, 0, 1))
        with pytest.raises(ShapeError) as caught:
            slide.read(0, 0, 5, 5, level=2)
        assert_teaches(caught.value, "level from 0 to 1", "got 2")
        with pytest.raises(ShapeError) as caught:
            slide.read(100, 0, 60, 5, level=1)
        assert_teaches(caught.value, "152 x 184", "(100, 0, 60, 5)")


def test_a_level_of_rounded_size_is_read_within_half_a_pixel_of_level_0(tmp_path):
    ramp = np.repeat(np.linspace(0, 250, 747)[None, :, None], 611, 0).repeat(3, 2)
    small = np.asarray(Image.fromarray(ramp.astype(np.uint8)).resize((747 // 4, 611 // 4), Image.Resampling.BOX))
    with Slide(tiff(tmp_path / "a.tif", ramp.astype(np.uint8), small)) as slide:
        for left in (0, 31, 70, 110):
            assert (
                difference(slide.read(9, left, 40, 50, level=1), small[9:49, left : left + 50].transpose(2, 0, 1)) <= 1
            )


def test_missing_tiles_and_transparency_show_the_background(tmp_path, monkeypatch):
    tiles = [np.full((128, 128, 3), 100, np.uint8), None, np.full((128, 128, 3), 50, np.uint8), None]
    tifffile.imwrite(
        tmp_path / "a.tif", iter(tiles), shape=(256, 256, 3), dtype=np.uint8, tile=(128, 128), photometric="rgb"
    )
    with Slide(tmp_path / "a.tif") as slide:
        assert slide.read(100, 100, 50, 60)[:, [0, 49, 0, 49], [0, 0, 59, 59]].T.tolist() == [
            [100] * 3,
            [50] * 3,
            [255] * 3,
            [255] * 3,
        ]
        grey = slide.read_at((64, 64), 0, 0, 64, 64)
    assert (grey[:, 5, 5].tolist(), grey[:, 5, 60].tolist()) == ([100] * 3, [255] * 3)
    glass = np.concatenate([np.full((256, 256, 3), 40, np.uint8), np.full((256, 256, 1), 51, np.uint8)], 2)
    with Slide(tiff(tmp_path / "b.tif", glass, extrasamples=["unassalpha"])) as slide:
        assert slide.read(0, 0, 9, 9) == pytest.approx(255 - (255 - 40) / 5, abs=0.6)  # opacity 51 / 255
    properties = openslide.OpenSlide.properties.fget
    monkeypatch.setattr(
        openslide.OpenSlide,
        "properties",
        property(lambda slide: {**properties(slide), "openslide.background-color": "0A14F0"}),
    )
    with Slide(tmp_path / "a.tif") as slide:
        assert slide.read(100, 200, 1, 1).ravel().tolist() == [10, 20, 240]


def test_monai_reads_the_same(tmp_path):
    path = tiff(tmp_path / "a.tif")
    reader = WSIReader(backend="openslide")
    theirs, _ = reader.get_data(reader.read(str(path)), location=(40, 50), size=(60, 70), level=0)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(40, 50, 60, 70), theirs)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_threads_read_what_one_reads(tmp_path, name):
    path = tmp_path / name
    tiff(path) if name == "a.tif" else Image.fromarray(NOISE).save(path)
    boxes = [(int(top), int(left)) for top, left in np.random.default_rng(1).integers(0, 500, (200, 2))]
    with Slide(path) as slide, ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda box: slide.read(*box, 64, 64), boxes))
    for (top, left), part in zip(boxes, parts, strict=True):
        np.testing.assert_array_equal(part, NOISE[top : top + 64, left : left + 64].transpose(2, 0, 1))


def test_threads_that_wait_for_an_image_decode_it_once(tmp_path, monkeypatch):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    decoded = []

    def slowly(path, read=files.read_rgb):
        decoded.append(path)
        time.sleep(0.2)
        return read(path)

    monkeypatch.setattr(files, "read_rgb", slowly)
    with Slide(tmp_path / "a.png") as slide, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda top: slide.read(top, 0, 9, 9), range(4)))
    assert len(decoded) == 1


@pytest.mark.parametrize("name", ["a.tif", "b.tif", "a.png"])
def test_colour_profile(tmp_path, name):
    if name == "a.png":
        Image.fromarray(NOISE).save(tmp_path / name, icc_profile=SRGB)
    else:
        tiff(tmp_path / name, iccprofile=SRGB if name == "a.tif" else SRGB.replace(b"RGB ", b"GRAY", 1))
    with Slide(tmp_path / name) as slide:
        assert slide.icc == (None if name == "b.tif" else SRGB)


# --- pixel size -------------------------------------------------------------------------------------------------------


def tags(y, x, unit="CENTIMETER"):
    return {"resolution": (1e4 / x, 1e4 / y), "resolutionunit": unit}


def ome(y, x):
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="747" SizeY="611"'
        f' SizeC="3" SizeZ="1" SizeT="1" PhysicalSizeX="{x}" PhysicalSizeY="{y}">'
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>'
    )


SAYS = [
    ("a.svs", {"description": APERIO.format(0.499), **tags(0.3, 0.3)}, (0.499, 0.499), "aperio"),
    ("a.svs", {"description": APERIO.format(352), **tags(0.3, 0.2)}, (0.3, 0.2), "TIFF tags"),
    ("a.ome.tif", {"description": ome(0.4, 0.2), **tags(0.3, 0.3)}, (0.4, 0.2), "OME"),
    ("a.ome.tif", {"description": ome(400, 200), **tags(0.3, 0.2)}, (0.3, 0.2), "TIFF tags"),
    ("a.tif", tags(0.3, 0.2), (0.3, 0.2), "TIFF tags"),
    ("a.tif", {"resolution": (72, 72), "resolutionunit": "INCH"}, None, "unknown"),
    ("a.tif", {"resolution": (25_400 / 0.2, 25_400 / 0.3), "resolutionunit": "INCH"}, (0.3, 0.2), "TIFF tags"),
    ("a.tif", {}, None, "unknown"),
]


@pytest.mark.parametrize(("name", "options", "mpp", "source"), SAYS)
def test_who_states_the_pixel_size(tmp_path, name, options, mpp, source):
    path = tiff(tmp_path / name, **options)
    with Slide(path) as slide:
        assert slide.mpp == (mpp and pytest.approx(mpp, rel=1e-5))
        assert (slide.mpp_source, slide.stated_mpp) == (source, None)
        assert source_mpp(path) == slide.mpp
        if mpp is None:
            with pytest.raises(DataError) as caught:
                slide.size_at(0.5)
            assert_teaches(caught.value, str(path), "--input-mpp")
        else:
            assert slide.size_at(0.7) == (round(611 * mpp[0] / 0.7), round(747 * mpp[1] / 0.7))
            assert slide.size_at(1e9) == (1, 1)
            for nothing in (0, -1, math.nan):
                with pytest.raises(ConfigError) as caught:
                    slide.size_at(nothing)
                assert_teaches(caught.value, "above 0")


@pytest.mark.parametrize(("name", "options", "mpp", "source"), SAYS[:3])
def test_the_user_has_the_last_word_and_is_told_of_a_contradiction(tmp_path, name, options, mpp, source):
    path = tiff(tmp_path / name, **options)
    with Slide(path, input_mpp=0.8) as slide:
        assert (slide.mpp, slide.mpp_source) == ((0.8, 0.8), "--input-mpp")
        assert slide.stated_mpp == pytest.approx(mpp, rel=1e-5)
        assert slide.size_at(0.4) == (1222, 1494)


def test_what_counts_as_a_contradiction(tmp_path):
    path = tiff(tmp_path / "a.tif", **tags(0.5, 0.504))
    assert find_mpp(path, 0.5) == PixelSize((0.5, 0.5), "--input-mpp", None)
    assert find_mpp(path, 0.498).stated == pytest.approx((0.5, 0.504), rel=1e-5)  # 1.2 % in x alone
    assert find_mpp(tiff(tmp_path / "b.tif"), 0.5).stated is None
    for nothing in (0, -0.5, math.inf, math.nan):
        with pytest.raises(ConfigError) as caught:
            Slide(path, input_mpp=nothing)
        assert_teaches(caught.value, "above 0")


def test_the_vendors_axes_are_not_mixed_up(tmp_path):
    says = {"openslide.vendor": "mirax", "openslide.mpp-y": "0.25", "openslide.mpp-x": "0.23"}
    assert find_mpp(tmp_path / "a.mrxs", properties=says) == PixelSize((0.25, 0.23), "mirax")
    for nothing in ({**says, "openslide.mpp-y": "unknown"}, {**says, "openslide.mpp-x": "nan"}, {}):
        assert find_mpp(tmp_path / "a.mrxs", properties=nothing) == PixelSize(None, "unknown")


# --- resampled --------------------------------------------------------------------------------------------------------

SIZES = [(611, 747), (611, 700), (300, 400), (100, 124), (31, 37), (7, 5), (1, 1), (700, 747), (1400, 2000)]


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_is_what_pillow_makes_of_it(tmp_path, size):
    with Slide(tiff(tmp_path / "a.tif")) as slide:
        wrong = np.abs(slide.read_at(size, 0, 0, *size).astype(int) - resized(NOISE, size))
    # Pillow keeps positions in single precision and rounds twice: in noise, two flips can meet when it is magnified
    assert wrong.max() <= (2 if size > (611, 747) else 1)
    assert (wrong > 0).mean() < 1e-3
    assert (wrong > 1).mean() < 1e-6


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("bounds", [{}, {"_READ": 60, "_LARGEST_BLOCK": 60, "_STRIP_PIXELS": 3000}])
def test_a_region_is_that_part_of_the_whole(tmp_path, monkeypatch, size, bounds):
    for name, value in bounds.items():
        monkeypatch.setattr(resampling, name, value)
    corners = np.random.default_rng(2)
    with Slide(tiff(tmp_path / "a.tif")) as slide:
        whole = slide.read_at(size, 0, 0, *size)
        assert difference(whole, resized(NOISE, size)) <= 2
        for _ in range(6):
            top, left = (int(corners.integers(0, n)) for n in size)
            height, width = int(corners.integers(1, size[0] - top + 1)), int(corners.integers(1, size[1] - left + 1))
            region = slide.read_at(size, top, left, height, width)
            np.testing.assert_array_equal(region, whole[:, top : top + height, left : left + width])
            assert region.flags["C_CONTIGUOUS"]


def reduced(pixels, size):
    """A level as pyramids have it: k x k pixels averaged where k leads to that size, else resampled as a whole."""
    factors = [round(whole / n) for whole, n in zip(pixels.shape, size, strict=False)]
    if any(n not in (w // k, -(-w // k)) for w, n, k in zip(pixels.shape, size, factors, strict=False)):
        return np.asarray(Image.fromarray(pixels).resize(size[::-1], LANCZOS))
    (h, w), (k, m) = size, factors
    missing = [(0, max(0, n * f - whole)) for whole, n, f in zip(pixels.shape, size, factors, strict=False)]
    padded = np.pad(pixels, [*missing, (0, 0)], mode="edge")[: h * k, : w * m]
    return np.round(padded.reshape(h, k, w, m, 3).mean((1, 3))).astype(np.uint8)


def pyramid(path, pixels, *sizes):
    smaller = [reduced(pixels, size) for size in sizes]
    return tiff(path, pixels, *smaller), smaller


def test_the_smallest_level_that_is_large_enough_is_used(tmp_path):
    levels = [np.full((608 // n, 736 // n, 3), value, np.uint8) for n, value in ((1, 10), (2, 20), (8, 30))]
    with Slide(tiff(tmp_path / "a.tif", *levels)) as slide:
        for size, value in [
            ((609, 736), 10),
            ((306, 368), 10),
            ((305, 369), 20),  # a pixel more than the level has is what rounding leaves
            ((77, 93), 20),
            ((76, 92), 30),
            ((76, 94), 20),
            ((10, 10), 30),
        ]:
            assert np.unique(slide.read_at(size, 1, 1, 5, 5)) == value, size
    assert best_level(((8, 8), (1, 1)), (2, 2)) == 0  # a pixel more would be twice as large


@pytest.mark.parametrize("sizes", [[(305, 373), (152, 186)], [(152, 186)], [(300, 360)]])
def test_levels_of_rounded_sizes_give_the_same_whatever_region_is_read(tmp_path, sizes):
    path, smaller = pyramid(tmp_path / "a.tif", NOISE, *sizes)
    with Slide(path) as slide:
        assert any(step % 1 for step in slide._pixels.steps)
        for size in ((sizes[-1][0] - 3, sizes[-1][1] - 20), (90, 111), (40, 33)):
            whole = slide.read_at(size, 0, 0, *size)
            # OpenSlide blurs such a level where it is entered between its pixels: near it, not equal
            extent = level_extent(sizes[-1], NOISE.shape[:2])
            beyond = Image.fromarray(np.pad(smaller[-1], ((0, 1), (0, 1), (0, 0)), mode="edge"))
            truth = np.asarray(beyond.resize(size[::-1], LANCZOS, (0, 0, *extent[::-1]))).transpose(2, 0, 1)
            assert np.abs(whole.astype(int) - truth).mean() < 4
            for top, left, height, width in ((0, 0, 9, 9), (11, 7, 25, 20), (size[0] - 9, size[1] - 30, 9, 30)):
                part = slide.read_at(size, top, left, height, width)
                np.testing.assert_array_equal(part, whole[:, top : top + height, left : left + width])


def test_what_lies_beyond_a_level_does_not_shine_through_its_edge(tmp_path):
    path, _ = pyramid(tmp_path / "a.tif", np.full_like(NOISE, 50), (305, 373), (152, 187))
    with Slide(path) as slide:
        for size in ((305, 373), (290, 350), (152, 187), (100, 100)):
            # OpenSlide rounds where its tiles meet; white behind a quarter of a pixel would be 50 levels more
            assert difference(slide.read_at(size, 0, 0, *size), np.full((3, *size), 50)) <= 2


@pytest.mark.parametrize("place", [40, 70, 97, 125, 150])
def test_where_a_level_is_really_entered_is_accounted_for(monkeypatch, place):
    """Blocks begin up to 0.21 level pixels beside a pixel of this level, and would be moved by as much."""
    monkeypatch.setattr(resampling, "_LARGEST_BLOCK", 32)
    step, steep, dither = 2.37, 8.3, np.random.default_rng(3)

    def read(y, x, height, width):  # edges across and down, read between pixels as OpenSlide does
        rows, columns = y / step + np.arange(height), x / step + np.arange(width)
        assert rows[-1] <= 199
        assert columns[-1] <= 299
        edges = np.stack(np.broadcast_arrays(rows[:, None] - place, columns - place, 0), axis=2)
        return np.floor(np.clip(steep * edges + 128, 0, 254) + dither.random(edges.shape)).astype(np.uint8)

    region = resample_region(LevelPixels((200, 300), (200, 300), step, read), (150, 200), 10, 20, 130, 170)
    for values, start, scale in ((region[0].mean(1), 10, 200 / 150), (region[1].mean(0), 20, 300 / 200)):
        positions = (np.arange(start, start + len(values)) + 0.5) * scale - 0.5
        seen = (values > 40) & (values < 215)
        assert seen.sum() >= 10
        assert abs(((values - 128) / steep - (positions - place))[seen].mean()) < 0.03


def centre(pixels):
    """Centre of mass of what is clearly darker than white, (y, x) as a share of the image."""
    mass = np.maximum(0, 250.0 - pixels.mean(0))  # rounded to 254, wide tails would weigh as much as the blob
    shares = ((np.arange(n) + 0.5) / n for n in mass.shape)
    return [float((mass.sum(1 - axis) * share).sum() / mass.sum()) for axis, share in enumerate(shares)]


@pytest.mark.parametrize(
    "sizes",
    [
        [],
        [(305, 373)],
        [(152, 186)],
        [(305, 373), (152, 186), (76, 93)],
        [(300, 360), (100, 120)],
        [(306, 374), (153, 187)],
    ],
)
@pytest.mark.parametrize("place", [(100.3, 90.8), (305, 373), (540.9, 690.2)])
def test_nothing_moves_at_any_pixel_size(tmp_path, sizes, place):
    rows, columns = (np.arange(n) + 0.5 - at for n, at in zip((611, 747), place, strict=True))
    blob = 255 - 200 * np.exp(-(rows[:, None] ** 2 + columns**2) / (2 * 12.0**2))
    pixels = np.round(blob)[..., None].repeat(3, 2).astype(np.uint8)
    path, _ = pyramid(tmp_path / "a.tif", pixels, *sizes)
    with Slide(path, input_mpp=0.25) as slide:
        for mpp in (0.17, 0.25, 0.31, 0.499, 0.5, 0.77, 1.0, 1.3, 2.1):
            size = slide.size_at(mpp)
            found = centre(slide.read_at(size, 0, 0, *size))
            for share, at, n, m in zip(found, place, size, (611, 747), strict=True):
                assert abs(share * n - at * n / m) < 0.05, (mpp, found)


def test_a_region_outside_is_refused(tmp_path):
    with Slide(tiff(tmp_path / "a.tif")) as slide:
        for box in ((-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 612, 5), (0, 740, 5, 8)):
            with pytest.raises(ShapeError) as caught:
                slide.read(*box)
            assert_teaches(caught.value, "611 x 747", str(box), "a.tif")
        with pytest.raises(ShapeError) as caught:
            slide.read_at((30, 40), 25, 0, 6, 5)
        assert_teaches(caught.value, "30 x 40", "(25, 0, 6, 5)")
        with pytest.raises(ShapeError) as caught:
            slide.read_at((30, 0), 0, 0, 5, 5)
        assert_teaches(caught.value, "30 x 0")


def test_a_large_reduction_reads_little_at_once(monkeypatch):
    monkeypatch.setattr(resampling, "_STRIP_PIXELS", 100_000)
    held = []

    def read(y, x, height, width):
        held.append(height * width)
        assert 0 <= y <= 5_000 - height
        assert 0 <= x <= 90_000 - width
        return np.full((height, width, 3), 77, np.uint8)

    region = resample_region(LevelPixels((5_000, 90_000), (5_000, 90_000), 1.0, read), (100, 300), 0, 290, 100, 10)
    assert np.unique(region) == 77
    assert max(held) <= 100_000
    assert sum(held) < 5_000 * 3_000 * 1.5  # what the region covers, and a margin


# --- refused ----------------------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(files, "MAX_SLIDE_PIXELS", 611 * 747)
    Slide(path).close()
    monkeypatch.setattr(files, "MAX_SLIDE_PIXELS", 611 * 747 - 1)
    with pytest.raises(DataError) as caught:
        Slide(path)
    assert_teaches(caught.value, "611 x 747", "456,416 pixels")


def test_an_image_that_is_too_large_to_be_held(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif", tile=None)
    monkeypatch.setattr(files, "MAX_PIXELS", 1000)
    with pytest.raises(DataError) as caught:
        Slide(path)
    assert_teaches(caught.value, "611 x 747", "tiled 8-bit RGB")


def test_glass_and_tiles_that_are_not_stored_are_plausible(tmp_path):
    glass = np.full((512, 512, 3), 244, np.uint8)
    shape = {"shape": (8192, 8192, 3), "dtype": np.uint8, "tile": (512, 512), "photometric": "rgb"}
    tifffile.imwrite(tmp_path / "a.tif", (glass for _ in range(256)), compression="zlib", **shape)
    tifffile.imwrite(tmp_path / "b.tif", iter([glass] + [None] * 255), compression="zlib", **shape)
    for name, colour in (("a.tif", 244), ("b.tif", 255)):
        with Slide(tmp_path / name) as slide:
            assert np.unique(slide.read(8000, 8000, 99, 99)) == colour


def test_a_deep_grey_image_is_refused_when_it_is_read(tmp_path):
    with Slide(fluorescence(tmp_path / "a.tif")) as slide, pytest.raises(DataError) as caught:
        slide.read(0, 0, 5, 5)
    assert_teaches(caught.value, "a.tif", "16", "fluorescence")


def test_a_tile_that_cannot_be_decoded(tmp_path):
    path = tiff(tmp_path / "a.tif")
    with tifffile.TiffFile(path) as source:
        offset, length = source.pages[0].dataoffsets[7], source.pages[0].databytecounts[7]  # second row of six
    content = bytearray(path.read_bytes())
    content[offset : offset + length] = bytes(length)
    path.write_bytes(content)
    with Slide(path) as slide:
        np.testing.assert_array_equal(slide.read(0, 0, 128, 300), NOISE[:128, :300].transpose(2, 0, 1))
        with pytest.raises(DataError) as caught:
            slide.read(120, 130, 50, 60)
        assert_teaches(caught.value, str(path), "row 120, column 130", "50 x 60", "opened again")
        with pytest.raises(DataError) as caught:  # also where it could be read before
            slide.read_at((300, 400), 0, 0, 9, 9)
        assert_teaches(caught.value, str(path), "row 0", "opened again")
    with Slide(path) as slide:
        slide.read(0, 0, 128, 300)


def test_a_file_that_shrinks_while_it_is_open(tmp_path):
    path = tiff(tmp_path / "a.tif", compression=None)
    with Slide(path) as slide:
        slide.read(0, 0, 9, 9)
        os.truncate(path, 900_000)
        with pytest.raises(DataError) as caught:
            slide.read(600, 700, 5, 6)
        assert_teaches(caught.value, str(path), "row 600, column 700", "5 x 6")


def test_an_image_that_is_gone_or_replaced_before_it_is_read(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(NOISE).save(path)
    with Slide(path) as slide:
        Image.fromarray(NOISE[:-1]).save(path)
        with pytest.raises(DataError) as caught:
            slide.read(0, 0, 5, 5)
        assert_teaches(caught.value, str(path), "another size")
        path.unlink()
        with pytest.raises(DataError) as caught:
            slide.read(0, 0, 5, 5)
        assert_teaches(caught.value, str(path), "does not exist")


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_closed_slide_is_not_read(tmp_path, name):
    path = tmp_path / name
    tiff(path) if name == "a.tif" else Image.fromarray(NOISE).save(path)
    slide = Slide(path)
    slide.read(0, 0, 5, 5)
    slide.close()
    slide.close()
    for read in (lambda: slide.read(0, 0, 5, 5), lambda: slide.read_at((9, 9), 0, 0, 5, 5)):
        with pytest.raises(DataError) as caught:
            read()
        assert_teaches(caught.value, str(path), "closed")
