"""The consistency map equals that of the whole image for every tiling; the excess over interpolation."""

import math

import numpy as np
import pytest
from consistency_equations import interpolated, literal_consistency
from PIL import Image, ImageFilter
from reference import assert_teaches
from skimage.data import immunohistochemistry

from monai_iste.errors import ScaleError, ShapeError
from monai_iste.inferers import Region
from monai_iste.inferers.tiling import inside
from monai_iste.slides import consistency as module
from monai_iste.slides.consistency import comparable, consistency_map, consistency_maps
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


# --- in excess of interpolation ---------------------------------------------------------------------------------------


def sharpened():
    """A slide whose blur is not that of the reduction: sharpened, and of the size of SIZES[1]."""
    low = degrade(HIGH.transpose(2, 0, 1), (150, 205)).numpy().transpose(1, 2, 0)
    return np.array(Image.fromarray(low).filter(ImageFilter.UnsharpMask(1.5, 200, 0))).transpose(2, 0, 1)


def maps_of(x, y, block=16, region=None, **options):
    return consistency_maps(
        lambda part: x.transpose(1, 2, 0)[part.slices],
        lambda part: y[part.slices],
        x.shape[1:],
        y.shape[:2],
        block,
        region=region,
        **options,
    )


@pytest.mark.parametrize("size", [(301, 411), (230, 307), (160, 700)])
@pytest.mark.parametrize("block", [16, 7])
def test_the_excess_is_that_of_the_written_out_equation(size, block):
    x = sharpened()
    y = np.asarray(Image.fromarray(x.transpose(1, 2, 0)).resize(size[::-1], Image.Resampling.LANCZOS))
    y = np.roll(y, 2, axis=1)
    found, expected = maps_of(x, y, block), literal_consistency(x, y, block)
    for name, levels in zip(("network", "bicubic"), found, strict=True):
        np.testing.assert_allclose(levels, expected[name], atol=0.03, err_msg=name)
    np.testing.assert_allclose(found.excess, expected["network"] - expected["bicubic"], atol=0.05)
    assert expected["network"].mean() > expected["bicubic"].mean() + 0.5
    np.testing.assert_array_equal(found.network, map_of(x, y, block))


def test_interpolation_has_no_excess_on_any_slide():
    x = sharpened()
    bicubic = interpolated(x, (301, 411))
    found = maps_of(x, bicubic)
    assert found.bicubic.mean() > 2  # the slide is sharper than what the reduction makes
    np.testing.assert_allclose(found.excess, 0, atol=0.05)
    given = maps_of(x, HIGH, read_bicubic=lambda part: bicubic[part.slices])
    np.testing.assert_allclose(given.bicubic, found.bicubic, atol=0.05)


def test_a_contradiction_is_seen_above_a_sharpened_slide():
    x = sharpened()
    wrong = interpolated(x, (301, 411)).copy()
    wrong[100:160, 200:260] = wrong[100:160, 204:264]
    excess = maps_of(x, wrong).excess
    row, column = np.unravel_index(excess.argmax(), excess.shape)
    assert (row, column) in {(r, c) for r in (3, 4) for c in (6, 7)}  # pixels 50 to 80 and 100 to 130, of blocks of 16
    far = np.ones(excess.shape, bool)
    far[2:6, 5:9] = False
    assert np.abs(excess[far]).max() < 0.05 < 2 < excess.max()


@pytest.mark.parametrize("reach", [70, 130])
def test_the_tiling_changes_no_excess(reach, monkeypatch):
    x = sharpened()
    whole = maps_of(x, HIGH)
    monkeypatch.setattr(module, "_REACH", reach)
    np.testing.assert_allclose(maps_of(x, HIGH).excess, whole.excess, atol=2e-3)


def test_a_part_has_the_excess_of_the_whole():
    x, region = sharpened(), Region(33, 50, 211, 301)
    top, left, height, width = comparable((150, 205), HIGH.shape[:2], region)
    part = maps_of(x, HIGH, block=1, region=region).excess
    whole = maps_of(x, HIGH, block=1).excess[top : top + height, left : left + width]
    np.testing.assert_allclose(part[6:-6, 6:-6], whole[6:-6, 6:-6], atol=2e-2)
