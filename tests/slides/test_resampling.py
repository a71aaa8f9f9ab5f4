"""Levels and regions of a slide: every part equals Pillow's result for the whole, without displacement."""

import numpy as np
import pytest
from PIL import Image
from reference import assert_teaches
from slide_files import NOISE, tiff

from monai_iste.errors import ShapeError
from monai_iste.inferers import Region
from monai_iste.slides import Slide, resampling
from monai_iste.slides.resampling import LevelPixels, best_level, level_extent, resample_region

LANCZOS = Image.Resampling.LANCZOS
SIZES = [(611, 747), (611, 700), (300, 400), (100, 124), (31, 37), (7, 5), (1, 1), (700, 747), (1400, 2000)]


def resized(pixels, size):
    """(h, w, 3) to (H, W, 3) by Pillow, all at once."""
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], LANCZOS))


def difference(one, other):
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def test_levels_are_read_in_their_own_pixels(tmp_path):
    with Slide(tiff(tmp_path / "a.tif", NOISE[:608, :736], NOISE[:152, :184])) as slide:
        assert slide.levels == ((608, 736), (152, 184))
        np.testing.assert_array_equal(slide.read(Region(31, 77, 90, 101), level=1), NOISE[31:121, 77:178])
        with pytest.raises(ShapeError) as caught:
            slide.read(Region(0, 0, 5, 5), level=2)
        assert_teaches(caught.value, "level from 0 to 1", "got 2")
        with pytest.raises(ShapeError) as caught:
            slide.read(Region(100, 0, 60, 5), level=1)
        assert_teaches(caught.value, "152 x 184", "(100, 0, 60, 5)")


def test_a_level_of_rounded_size_is_read_within_half_a_pixel_of_level_0(tmp_path):
    ramp = np.repeat(np.linspace(0, 250, 747)[None, :, None], 611, 0).repeat(3, 2)
    small = np.asarray(Image.fromarray(ramp.astype(np.uint8)).resize((747 // 4, 611 // 4), Image.Resampling.BOX))
    with Slide(tiff(tmp_path / "a.tif", ramp.astype(np.uint8), small)) as slide:
        for left in (0, 31, 70, 110):
            assert difference(slide.read(Region(9, left, 40, 50), level=1), small[9:49, left : left + 50]) <= 1


@pytest.mark.parametrize("size", SIZES)
def test_the_whole_is_what_pillow_makes_of_it(tmp_path, size):
    with Slide(tiff(tmp_path / "a.tif")) as slide:
        wrong = np.abs(slide.read_at(size, Region(0, 0, *size)).astype(int) - resized(NOISE, size))
    # Pillow keeps positions in single precision and rounds twice: in noise, two flips can meet when it is upscaled
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
        whole = slide.read_at(size, Region(0, 0, *size))
        assert difference(whole, resized(NOISE, size)) <= 2
        for _ in range(6):
            top, left = (int(corners.integers(0, n)) for n in size)
            height, width = int(corners.integers(1, size[0] - top + 1)), int(corners.integers(1, size[1] - left + 1))
            region = slide.read_at(size, Region(top, left, height, width))
            np.testing.assert_array_equal(region, whole[top : top + height, left : left + width])
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


def pyramid(path, pixels, *sizes, **options):
    smaller = [reduced(pixels, size) for size in sizes]
    return tiff(path, pixels, *smaller, **options), smaller


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
            assert np.unique(slide.read_at(size, Region(1, 1, 5, 5))) == value, size
    assert best_level(((8, 8), (1, 1)), (2, 2)) == 0  # a pixel more would be twice as large


@pytest.mark.parametrize("vendor", [{}, {"description": "Aperio Image Library v10"}], ids=["tifffile", "OpenSlide"])
@pytest.mark.parametrize("sizes", [[(305, 373), (152, 186)], [(152, 186)], [(300, 360)]])
def test_levels_of_rounded_sizes_give_the_same_whatever_region_is_read(tmp_path, sizes, vendor):
    path, smaller = pyramid(tmp_path / "a.tif", NOISE, *sizes, **vendor)
    with Slide(path) as slide:
        assert len(slide.levels) == 1 + len(sizes)
        assert any(step % 1 for step in slide._pixels.steps) == bool(vendor)
        for size in ((sizes[-1][0] - 3, sizes[-1][1] - 20), (90, 111), (40, 33)):
            whole = slide.read_at(size, Region(0, 0, *size))
            # OpenSlide blurs such a level where it is entered between its pixels: near it, not equal
            extent = level_extent(sizes[-1], NOISE.shape[:2])
            beyond = Image.fromarray(np.pad(smaller[-1], ((0, 1), (0, 1), (0, 0)), mode="edge"))
            truth = np.asarray(beyond.resize(size[::-1], LANCZOS, (0, 0, *extent[::-1])))
            assert np.abs(whole.astype(int) - truth).mean() < (4 if vendor else 0.5)
            for top, left, height, width in ((0, 0, 9, 9), (11, 7, 25, 20), (size[0] - 9, size[1] - 30, 9, 30)):
                part = slide.read_at(size, Region(top, left, height, width))
                np.testing.assert_array_equal(part, whole[top : top + height, left : left + width])


def test_what_lies_beyond_a_level_does_not_shine_through_its_edge(tmp_path):
    path, _ = pyramid(tmp_path / "a.tif", np.full_like(NOISE, 50), (305, 373), (152, 187))
    with Slide(path) as slide:
        for size in ((305, 373), (290, 350), (152, 187), (100, 100)):
            # OpenSlide rounds where its tiles meet; white behind a quarter of a pixel would be 50 levels more
            assert difference(slide.read_at(size, Region(0, 0, *size)), np.full((*size, 3), 50)) <= 2


@pytest.mark.parametrize("place", [40, 70, 97, 125, 150])
def test_where_a_level_is_really_entered_is_accounted_for(monkeypatch, place):
    """Blocks begin up to 0.21 level pixels beside a pixel of this level, and would be moved by as much."""
    monkeypatch.setattr(resampling, "_LARGEST_BLOCK", 32)
    step, steep, dither = 2.37, 8.3, np.random.default_rng(3)

    def read(start, extent):  # edges across and down, read between pixels as OpenSlide does
        rows, columns = (at / step + np.arange(n) for at, n in zip(start, extent, strict=True))
        assert rows[-1] <= 199
        assert columns[-1] <= 299
        edges = np.stack(np.broadcast_arrays(rows[:, None] - place, columns - place, 0), axis=2)
        return np.floor(np.clip(steep * edges + 128, 0, 254) + dither.random(edges.shape)).astype(np.uint8)

    region = resample_region(LevelPixels((200, 300), (200, 300), step, read), (150, 200), Region(10, 20, 130, 170))
    for values, start, scale in ((region[..., 0].mean(1), 10, 200 / 150), (region[..., 1].mean(0), 20, 300 / 200)):
        positions = (np.arange(start, start + len(values)) + 0.5) * scale - 0.5
        seen = (values > 40) & (values < 215)
        assert seen.sum() >= 10
        assert abs(((values - 128) / steep - (positions - place))[seen].mean()) < 0.03


def center(pixels):
    """Center of mass of pixels clearly darker than white, (y, x) as a fraction of the image."""
    mass = np.maximum(0, 250.0 - pixels.mean(2))  # rounded to 254, wide tails would weigh as much as the blob
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
            found = center(slide.read_at(size, Region(0, 0, *size)))
            for share, at, n, m in zip(found, place, size, (611, 747), strict=True):
                assert abs(share * n - at * n / m) < 0.05, (mpp, found)


def test_a_region_outside_is_refused(tmp_path):
    with Slide(tiff(tmp_path / "a.tif")) as slide:
        for box in ((-1, 0, 5, 5), (0, 0, 0, 5), (0, 0, 612, 5), (0, 740, 5, 8)):
            with pytest.raises(ShapeError) as caught:
                slide.read(Region(*box))
            assert_teaches(caught.value, "611 x 747", str(box), "a.tif")
        with pytest.raises(ShapeError) as caught:
            slide.read_at((30, 40), Region(25, 0, 6, 5))
        assert_teaches(caught.value, "30 x 40", "(25, 0, 6, 5)")
        with pytest.raises(ShapeError) as caught:
            slide.read_at((30, 0), Region(0, 0, 5, 5))
        assert_teaches(caught.value, "30 x 0")


def test_a_large_reduction_reads_little_at_once(monkeypatch):
    monkeypatch.setattr(resampling, "_STRIP_PIXELS", 100_000)
    held = []

    def read(start, size):
        held.append(size[0] * size[1])
        assert 0 <= start[0] <= 5_000 - size[0]
        assert 0 <= start[1] <= 90_000 - size[1]
        return np.full((*size, 3), 77, np.uint8)

    level = LevelPixels((5_000, 90_000), (5_000, 90_000), 1.0, read)
    region = resample_region(level, (100, 300), Region(0, 290, 100, 10))
    assert np.unique(region) == 77
    assert max(held) <= 100_000
    assert sum(held) < 5_000 * 3_000 * 1.5  # what the region covers, and a margin
