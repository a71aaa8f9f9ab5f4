"""The consistency map equals that of the whole image for every tiling; its summary and pictures."""

import math

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFilter
from reference import assert_teaches
from scipy.ndimage import gaussian_filter
from skimage.data import immunohistochemistry

from monai_iste.errors import OutputError, ScaleError, ShapeError
from monai_iste.inferers import Region
from monai_iste.inferers.tiling import inside
from monai_iste.slides import consistency as module
from monai_iste.slides.consistency import comparable, consistency_map, summary, write_consistency
from monai_iste.transforms.degradation import degrade

HIGH = immunohistochemistry()[:301, :411]
SIZES = [(301, 411), (150, 205), (81, 111), (100, 137), (301, 137), (60, 200), (38, 51)]


def map_of(x, y, block=16, region=None, **options):
    """Of arrays (3, h, w) and (H, W, 3); refuses to be read beyond the region."""
    made = region or Region(0, 0, *y.shape[:2])

    def read_input(part):
        inside(part, x.shape[1:])
        return x.transpose(1, 2, 0)[part.slices]

    def read_output(part):
        inside(part._replace(top=part.top - made.top, left=part.left - made.left), made[2:])
        return y[part.slices]

    return consistency_map(read_input, read_output, x.shape[1:], y.shape[:2], block, region=region, **options)


def block_means(values, block):
    rows, columns = (range(0, n, block) for n in values.shape)
    return np.array([[values[i : i + block, j : j + block].mean() for j in columns] for i in rows])


# --- the map ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("block", [16, 7])
def test_it_is_the_degradation_of_the_whole_image(size, block):
    low = degrade(HIGH.transpose(2, 0, 1), size).numpy()
    other = np.roll(low, (2, 3), (1, 2))
    expected = block_means(np.abs(low.astype(float) - other).mean(0), block)
    found = map_of(other, HIGH, block)
    assert found.dtype == np.float32
    assert found.shape == (math.ceil(size[0] / block), math.ceil(size[1] / block))
    assert expected.mean() > 2
    # Of single pixels, degrade() rounds: twice by up to half a level, of which little is left in a mean.
    np.testing.assert_allclose(found, expected, atol=0.25)
    assert np.abs(found - expected).mean() < 0.03


@pytest.mark.parametrize("size", SIZES)
def test_what_agrees_is_charged_with_rounding_only(size):
    low = degrade(HIGH.transpose(2, 0, 1), size).numpy()
    assert map_of(low, HIGH).max() < 0.5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("reach", [1, 70, 130])
def test_the_tiling_changes_nothing(size, reach, monkeypatch):
    low = np.roll(degrade(HIGH.transpose(2, 0, 1), size).numpy(), 2, axis=2)
    whole = map_of(low, HIGH)
    monkeypatch.setattr(module, "_REACH", reach)
    calls = []
    tiled = map_of(low, HIGH, progress=lambda *counts: calls.append(counts))
    np.testing.assert_allclose(tiled, whole, atol=1e-3)
    assert len(calls) > 1
    assert calls == [(i, len(calls)) for i in range(1, len(calls) + 1)]


@pytest.mark.parametrize("size", SIZES)
def test_no_pixel_sees_the_tiling(size, monkeypatch):
    low = np.zeros((3, *size), np.uint8)
    whole = map_of(low, HIGH, block=1)
    monkeypatch.setattr(module, "_REACH", 40)
    np.testing.assert_allclose(map_of(low, HIGH, block=1), whole, atol=2e-3)


def test_memory_is_bounded_by_the_reach(monkeypatch):
    monkeypatch.setattr(module, "_REACH", 64)
    largest = 0

    def read_output(region):
        nonlocal largest
        largest = max(largest, region.height, region.width)
        return np.zeros((*region[2:], 3), np.uint8)

    consistency_map(lambda region: np.zeros((*region[2:], 3), np.uint8), read_output, (200, 200), (760, 760))
    assert 64 <= largest <= 64 + 2 * (8 + 1 + 1 + 9)


def test_a_shift_is_seen_where_it_is():
    low = degrade(HIGH.transpose(2, 0, 1), (150, 205)).numpy()
    wrong = HIGH.copy()
    wrong[:, 256:] = np.roll(HIGH, 1, axis=1)[:, 256:]
    right, shifted = map_of(low, HIGH), map_of(low, wrong)
    np.testing.assert_array_equal(shifted[:, :7], right[:, :7])
    assert shifted[:, 9:].mean() > 5 * right[:, 9:].mean()


def test_the_margin_is_what_the_blur_reaches():
    for sigma in (0, 0.3, 0.5, 1.35, 3.5, 7.5):
        point = np.zeros((201, 201), np.uint8)
        point[100, 100] = 255
        blurred = np.asarray(Image.fromarray(point).filter(ImageFilter.GaussianBlur(sigma)))
        reach = np.abs(np.argwhere(blurred)[:, 0] - 100).max()
        assert reach <= module._blur_reach(sigma) <= max(3, 4 * sigma + 3)


# --- a part of the output ---------------------------------------------------------------------------------------------


def test_comparable_pixels_lie_wholly_inside():
    assert comparable((150, 205), (301, 411)) == (0, 0, 150, 205)
    size, output = (150, 205), (555, 758)
    random = np.random.default_rng(0)
    for _ in range(50):
        top, left = random.integers(0, 300, 2)
        height, width = random.integers(20, 255, 2)
        box = comparable(size, output, Region(int(top), int(left), int(height), int(width)))
        for first, length, begin, extent, n, big in zip(
            box[:2], box[2:], (top, left), (height, width), size, output, strict=True
        ):
            inside = [i for i in range(n) if i * big >= begin * n and (i + 1) * big <= (begin + extent) * n]
            assert inside == list(range(first, first + length))


@pytest.mark.parametrize("size", [(150, 205), (81, 111), (60, 200)])
def test_a_region_has_the_values_of_the_whole(size):
    low = np.roll(degrade(HIGH.transpose(2, 0, 1), size).numpy(), 2, axis=2)
    region = Region(33, 50, 211, 301)
    top, left, height, width = comparable(size, HIGH.shape[:2], region)
    part = map_of(low, HIGH, block=1, region=region)
    assert part.shape == (height, width)
    whole = map_of(low, HIGH, block=1)[top : top + height, left : left + width]
    margin = 6
    inner = (slice(margin, -margin),) * 2
    np.testing.assert_allclose(part[inner], whole[inner], atol=1e-2)
    sixteen = map_of(low, HIGH, region=region)
    np.testing.assert_allclose(sixteen, block_means(part, 16), atol=1e-3)


@pytest.mark.parametrize("region", [(-1, 0, 50, 50), (0, 0, 302, 50), (0, 400, 50, 12), (11, 0, 1, 50)])
def test_regions_without_a_pixel_or_outside_are_refused(region):
    with pytest.raises(ShapeError) as caught:
        comparable((150, 205), (301, 411), Region(*region))
    assert_teaches(caught.value, "301 x 411", str(region))


def test_a_result_smaller_than_the_slide_is_refused():
    with pytest.raises(ScaleError) as caught:
        map_of(np.zeros((3, 30, 30), np.uint8), np.zeros((60, 29, 3), np.uint8))
    assert_teaches(caught.value, "30 x 30", "60 x 29")
    with pytest.raises(ShapeError) as caught:
        map_of(np.zeros((3, 30, 30), np.uint8), np.zeros((60, 60, 3), np.uint8), block=0)
    assert_teaches(caught.value, "at least 1", "0")


# --- in one line ------------------------------------------------------------------------------------------------------

LEVELS = gaussian_filter(np.random.default_rng(0).gamma(1.0, 2.0, (40, 50)), 0.5).astype(np.float32)


def test_summary():
    found = summary(LEVELS)
    assert found.mean == pytest.approx(LEVELS.mean())
    assert found.p95 == np.percentile(LEVELS, 95, method="inverted_cdf")
    assert found.p99 == np.percentile(LEVELS, 99, method="inverted_cdf")
    assert found.notable == pytest.approx((LEVELS > 4).mean())
    row, column = np.unravel_index(LEVELS.argmax(), LEVELS.shape)
    assert (found.worst, found.row, found.column) == (LEVELS.max(), 16 * row, 16 * column)
    moved = summary(LEVELS, block=10, origin=(1000, 2000))
    assert (moved.row, moved.column) == (1000 + 10 * row, 2000 + 10 * column)
    line = str(found)
    assert "\n" not in line
    for number in (found.mean, found.p95, found.p99, found.worst):
        assert f"{number:.2f}" in line
    assert "; 100 % above 4;" in str(summary(np.full((3, 3), 9.0)))


def test_weights_say_how_much_a_block_counts():
    weight = np.random.default_rng(1).integers(0, 4, LEVELS.shape)
    repeated = LEVELS.ravel().repeat(weight.ravel())
    found, expected = summary(LEVELS, weight), summary(repeated[None])
    assert found[:4] == pytest.approx(expected[:4])
    assert found.worst == repeated.max()
    alone = np.zeros(LEVELS.shape)
    alone[7, 9] = 0.5
    assert summary(LEVELS, alone)[:5] == pytest.approx(
        (LEVELS[7, 9],) * 3 + (float(LEVELS[7, 9] > 4), LEVELS[7, 9]), rel=1e-6
    )


@pytest.mark.parametrize("weight", [np.zeros((40, 50)), np.ones((50, 40))])
def test_other_weights_are_refused(weight):
    with pytest.raises(ShapeError) as caught:
        summary(LEVELS, weight)
    assert_teaches(caught.value, "(40, 50)", str(weight.shape))


# --- for the eye ------------------------------------------------------------------------------------------------------


def test_the_picture_and_its_numbers(tmp_path):
    picture, numbers = write_consistency(tmp_path / "a.consistency.png", LEVELS, mpp=(0.25, 0.5))
    assert sorted(tmp_path.iterdir()) == sorted([picture, numbers])
    assert numbers.name == "a.consistency.tif"
    np.testing.assert_array_equal(tifffile.imread(numbers), LEVELS)
    with tifffile.TiffFile(numbers) as tiff:
        tags = tiff.pages[0].tags
        assert "16 x 16" in tags["ImageDescription"].value
        top, bottom = tags["XResolution"].value
        assert 1e4 * bottom / top == pytest.approx(0.5 * 16)
        assert tags["ResolutionUnit"].value == 3
    drawn = np.asarray(Image.open(picture))
    zoom = 12  # 480 pixels for 40 blocks
    cells = drawn[8 : 8 + 40 * zoom, 8 : 8 + 50 * zoom].reshape(40, zoom, 50, zoom, 3)
    np.testing.assert_array_equal(cells[:, 0, :, 0], module._color(LEVELS))
    np.testing.assert_array_equal(cells[:, -1, :, -1], module._color(LEVELS))


def test_colors_rise_in_lightness_from_0_to_8_levels():
    colors = module._color(np.linspace(0, 8, 201)[None])[0].astype(float)
    light = colors @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) >= 0).all()
    assert light[0] == 0
    assert light[-1] > 220
    np.testing.assert_array_equal(
        module._color(np.array([[8.0, 200.0]]))[0, 0], module._color(np.array([[99.0]]))[0, 0]
    )
    # Lightness alone tells the levels apart, for those who do not see the colors.
    assert np.abs(light[100] - light[0]) > 50
    assert np.abs(light[200] - light[100]) > 100


def test_the_legend_shows_the_same_colors(tmp_path):
    picture, _ = write_consistency(tmp_path / "a.png", LEVELS)
    bar = np.asarray(Image.open(picture))[8:488, 8 + 600 + 8 + 10]
    np.testing.assert_array_equal(bar, module._color(np.linspace(8, 0, 480)[None])[0])


def test_a_large_map_keeps_its_worst_blocks(tmp_path):
    levels = np.zeros((500, 4500), np.float32)
    levels[321, 3456] = 7.0
    picture, numbers = write_consistency(tmp_path / "a.png", levels)
    drawn = np.asarray(Image.open(picture))
    assert drawn.shape[1] < 2300
    assert tuple(module._color(np.array([[7.0]]))[0, 0]) in {tuple(p) for p in drawn[8:175, 8:1508].reshape(-1, 3)}
    assert tifffile.imread(numbers).shape == levels.shape


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (300, 1)])
def test_maps_of_any_shape_have_room_for_their_words(tmp_path, shape):
    picture, _ = write_consistency(tmp_path / "a.png", np.full(shape, 3.0, np.float32))
    with Image.open(picture) as image:
        assert image.size[0] >= 400
        assert image.size[1] >= 240
    edge = np.asarray(Image.open(picture))
    assert (edge[:, -4:] == 255).all()  # nothing is cut off at the right


def test_nothing_is_overwritten_unasked(tmp_path):
    write_consistency(tmp_path / "a.png", LEVELS)
    (tmp_path / "a.png").unlink()
    with pytest.raises(OutputError) as caught:
        write_consistency(tmp_path / "a.png", LEVELS)
    assert_teaches(caught.value, "new file", "a.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    write_consistency(tmp_path / "a.png", LEVELS + 1, overwrite=True)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), LEVELS + 1)
    with pytest.raises(OutputError) as caught:
        write_consistency(tmp_path / "a.jpg", LEVELS)
    assert_teaches(caught.value, ".png", "a.jpg")
