"""The tissue mask: its weights equal its equations, and no tissue is classified as background."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from reference import assert_teaches
from scipy.ndimage import gaussian_filter
from skimage.data import immunohistochemistry

from monai_iste.errors import ConfigError, ShapeError
from monai_iste.slides import tissue as module
from monai_iste.slides.reader import Slide
from monai_iste.slides.tissue import TissueMask, background_color, tissue_mask

BACKGROUND = (244, 243, 243)
GRAY_BACKGROUND = (203, 204, 208)
PALE_STROMA = (233, 216, 228)
EOSIN = (214, 140, 180)
HEMATOXYLIN = (96, 70, 140)
MUCIN = (226, 222, 238)


class Picture:
    """A slide in memory."""

    def __init__(self, pixels, mpp=None, resampling=Image.Resampling.BICUBIC):
        self.pixels, self.mpp, self.size, self.resampling = pixels, mpp, pixels.shape[:2], resampling

    def read(self, region, level=0):
        return self.pixels[region.slices]

    def read_at(self, size, region):
        top, left, height, width = region
        y, x = (n / m for n, m in zip(self.size, size, strict=True))
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        return np.asarray(Image.fromarray(self.pixels).resize((width, height), self.resampling, box))


def texture(shape, amount, grain, seed=0):
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), grain)
    return amount * noise[..., None] / (noise.std() or 1)


def paint(shape=(768, 1024), background=BACKGROUND, noise=1.5, **areas):
    """Background with sensor noise; each area is (rows, columns, color, strength of its texture)."""
    pixels = np.full((*shape, 3), background, float) + texture(shape, noise, 0.6)
    for rows, columns, color, strength in areas.values():
        part = pixels[rows, columns]
        part[:] = color + texture(part.shape[:2], strength, 2.0, seed=1)
    return pixels.clip(0, 255).round().astype(np.uint8)


def weights(mask):
    """At every pixel."""
    return mask.weight(*(torch.arange(n, dtype=torch.float64) for n in mask.size)).numpy()


def random_mask(shape=(7, 9), size=(110, 95), share=0.2, seed=0):
    random = np.random.default_rng(seed)
    samples = random.integers(1, 256, shape) * (random.random(shape) < share)
    return TissueMask(samples.astype(np.uint8), size)


# --- the weight -------------------------------------------------------------------------------------------------------


def literal_weight(samples, size, y, x):
    """The equation in the class's docstring, one position at a time."""

    def share(position, index, axis):
        count = samples.shape[axis]
        t = min(max((position + 0.5) * count / size[axis] - 0.5, 0), count - 1)
        return max(0.0, 1 - abs(t - index))

    return sum(
        share(y, i, 0) * share(x, j, 1) * samples[i, j] / 255
        for i in range(samples.shape[0])
        for j in range(samples.shape[1])
    )


def test_weight_is_bilinear_between_pixel_centers():
    mask = random_mask(share=0.8)
    y = torch.tensor([-0.5, 0.0, 3.3, 7.357, 54.5, 101.9, 109.0, 109.5], dtype=torch.float64)
    x = torch.tensor([-0.5, 0.0, 4.777, 5.0, 40.1, 94.5], dtype=torch.float64)
    expected = [[literal_weight(mask.to_array(), mask.size, float(a), float(b)) for b in x] for a in y]
    np.testing.assert_allclose(mask.weight(y, x), expected, atol=1e-6)


def test_weight_is_a_function_of_the_position_alone():
    mask = random_mask(share=0.6)
    y, x = (torch.rand(n, dtype=torch.float64) * 90 for n in (67, 53))
    whole = mask.weight(y, x)
    assert whole.dtype == torch.float32
    assert torch.equal(mask.weight(y[5:40], x[11:]), whole[5:40, 11:])
    assert torch.equal(mask.weight(y[30:31], x[7:8]), whole[30:31, 7:8])


def test_weight_of_a_full_mask_is_exactly_one():
    mask = TissueMask(np.full((5, 6), 255, np.uint8), (333, 217))
    assert torch.equal(mask.weight(torch.rand(50) * 333, torch.rand(40) * 217), torch.ones(50, 40))


@pytest.mark.parametrize("seed", range(8))
def test_touches_is_exact(seed):
    mask = random_mask(seed=seed, share=0.1)
    random = np.random.default_rng(seed)
    found = set()
    for _ in range(60):
        top, left = (float(random.integers(0, n - 3)) for n in mask.size)
        bottom, right = top + float(random.integers(1, 24)), left + float(random.integers(1, 24))
        y, x = (torch.linspace(a - 0.5, b - 0.5, 97, dtype=torch.float64) for a, b in ((top, bottom), (left, right)))
        # The closed box is meant: what only its corner touches has a weight too small for a picture, but not 0.
        positive = bool((mask.weight(y, x) > 0).any())
        assert mask.touches(top, left, bottom, right) == positive
        found.add(positive)
    assert found == {True, False}


def test_fraction_is_the_share_of_the_area():
    mask = random_mask(share=0.1)
    y, x = (torch.arange(-0.5, n - 0.5, 0.05, dtype=torch.float64) + 0.025 for n in mask.size)
    assert mask.fraction == pytest.approx(float((mask.weight(y, x) > 0).double().mean()), abs=2e-3)
    assert 0.1 < mask.fraction < 0.9
    assert TissueMask(np.zeros((3, 4), np.uint8), (30, 40)).fraction == 0
    assert TissueMask(np.ones((3, 4), np.uint8), (30, 40)).fraction == 1


def test_a_mask_comes_back_from_its_array():
    mask = random_mask(share=0.7)
    array = mask.to_array()
    again = TissueMask(array, mask.size)
    array[:] = 0
    assert mask.to_array().any()
    np.testing.assert_array_equal(again.to_array(), array)
    np.testing.assert_array_equal(weights(TissueMask(mask.to_array(), mask.size)), weights(mask))


@pytest.mark.parametrize("samples", [np.zeros((3, 3)), np.zeros(3, np.uint8), np.zeros((0, 3), np.uint8)])
def test_other_arrays_are_refused(samples):
    with pytest.raises(ShapeError) as caught:
        TissueMask(samples, (30, 30))
    assert_teaches(caught.value, "uint8", str(samples.shape))


# --- what is tissue ---------------------------------------------------------------------------------------------------

SQUARE = (slice(300, 420), slice(400, 560))


@pytest.mark.parametrize("background", [BACKGROUND, GRAY_BACKGROUND, (255, 255, 255)])
@pytest.mark.parametrize("color", [PALE_STROMA, EOSIN, HEMATOXYLIN, MUCIN, (0, 60, 30)])
def test_tissue_of_any_stain_is_found(background, color):
    color = np.array(color) * np.array(background) / BACKGROUND
    pixels = paint(background=background, island=(*SQUARE, color, 6))
    mask = tissue_mask(Picture(pixels, (0.5, 0.5)))
    weight = weights(mask)
    rows, columns = (slice(s.start - 16, s.stop + 16) for s in SQUARE)
    assert (weight[rows, columns] == 1).all()
    far = np.ones(weight.shape, bool)
    far[tuple(slice(s.start - 140, s.stop + 140) for s in SQUARE)] = False
    assert not weight[far].any()
    if background != (255, 255, 255):
        np.testing.assert_allclose(background_color(Picture(pixels)), background, atol=1)


@pytest.mark.parametrize("mpp", [None, (0.5, 0.5), (0.25, 0.25), (1.0, 0.5)])
def test_a_single_cell_is_enough(mpp):
    pixels = paint()
    y, x = np.ogrid[: pixels.shape[0], : pixels.shape[1]]
    size = 7.0 if mpp is None else 3.5 / mpp[0]
    pixels[(y - 390) ** 2 + (x - 501) ** 2 < size**2] = HEMATOXYLIN
    weight = weights(tissue_mask(Picture(pixels, mpp)))
    assert (weight[385:396, 496:507] == 1).all()
    assert weight[:200].max() == weight[:, :300].max() == 0


def test_the_margin_is_as_wide_along_both_axes():
    pixels = paint(dot=(slice(380, 396), slice(500, 516), HEMATOXYLIN, 3))
    mask = tissue_mask(Picture(pixels, (1.0, 0.25)))
    assert mask.to_array().shape == (96, 32)  # every 8 rows, every 32 columns
    y, x = (torch.arange(n, dtype=torch.float64) for n in mask.size)
    down, across = mask.weight(y, torch.tensor([508.0]))[:, 0], mask.weight(torch.tensor([388.0]), x)[0]
    for line, middle in ((down, 388), (across, 508)):
        assert (line[middle - 8 - 16 : middle + 8 + 16] == 1).all()
        # Of a sample's center full up to 16 + 3 / sqrt(2) * 32 pixels, none 64 further, but for a spacing of 32.
        assert 2 * (84 - 32) < int((line == 1).sum()) < 2 * (84 + 32)
        assert 2 * (84 + 64 - 32) < int((line > 0).sum()) < 2 * (84 + 64 + 32)


def test_a_thin_fiber_is_found():
    pixels = paint(fiber=(slice(100, 700), slice(500, 503), EOSIN, 3))
    assert (weights(tissue_mask(Picture(pixels)))[100:700, 480:520] == 1).all()


@pytest.mark.parametrize("color", [PALE_STROMA, EOSIN, HEMATOXYLIN, MUCIN, (222, 218, 224)])
def test_all_tissue_is_all_tissue(color):
    everywhere = (slice(None), slice(None), color, 9)
    mask = tissue_mask(Picture(paint(all=everywhere)))
    assert (mask.to_array() == 255).all()
    assert mask.fraction == 1


def test_real_tissue_is_tissue():
    pixels = immunohistochemistry()
    assert tissue_mask(Picture(np.tile(pixels, (2, 2, 1)), (0.5, 0.5))).to_array().min() == 255


def test_half_pale_half_dark_tissue_is_all_tissue():
    """Two clear peaks in the histogram, none of them background."""
    left, right = slice(0, 512), slice(512, None)
    pixels = paint(pale=(slice(None), left, PALE_STROMA, 8), dark=(slice(None), right, HEMATOXYLIN, 8))
    assert tissue_mask(Picture(pixels)).to_array().min() == 255


@pytest.mark.parametrize(
    ("background", "noise"),
    [
        (BACKGROUND, 0),
        (BACKGROUND, 2.5),
        (GRAY_BACKGROUND, 0),
        (GRAY_BACKGROUND, 2.5),
        ((255,) * 3, 0),
        ((255,) * 3, 2.5),
        ((0,) * 3, 0),
    ],
)
def test_all_background_has_no_tissue(background, noise):
    mask = tissue_mask(Picture(paint(background=background, noise=noise)))
    assert mask.fraction == 0
    assert not mask.touches(0, 0, *mask.size)


@pytest.mark.parametrize("level", range(170, 256, 7))
def test_background_of_any_gray_is_its_own_white(level):
    slide = Picture(paint((128, 160), background=(level, level - 2, level), noise=0))
    np.testing.assert_array_equal(background_color(slide), (level, level - 2, level))
    assert tissue_mask(slide).fraction == 0


def test_the_brightest_background_is_the_white():
    """Pale, flat and gray as it is, an area darker than the background is tissue, even where it is the larger one."""
    pixels = paint(area=(slice(None), slice(0, 800), (219, 214, 220), 0.5))
    np.testing.assert_allclose(background_color(Picture(pixels)), BACKGROUND, atol=1)
    weight = weights(tissue_mask(Picture(pixels)))
    assert (weight[:, :800] == 1).all()
    assert not weight[:, 950:].any()


def test_tissue_as_flat_as_background_when_reduced_is_known_by_its_texture():
    fine = paint(all=(slice(None), slice(None), (226, 222, 228), 0))
    fine = (fine + texture(fine.shape[:2], 9, 0.7)).clip(0, 255).round().astype(np.uint8)
    assert background_color(Picture(fine)) is None
    assert tissue_mask(Picture(fine)).to_array().min() == 255


@pytest.mark.parametrize("blank", [0, 255])
def test_what_the_scanner_left_out_is_neither_tissue_nor_the_white(blank):
    pixels = paint(background=GRAY_BACKGROUND, island=(slice(300, 420), slice(700, 860), PALE_STROMA, 6))
    pixels[:, :400] = blank
    mask = tissue_mask(Picture(pixels))
    weight = weights(mask)
    assert (weight[300:420, 700:860] == 1).all()
    # Their border may count as tissue: a sample that lies on it is partly black.
    assert weight[:, :270].max() == weight[:, 530:560].max() == 0
    np.testing.assert_allclose(background_color(Picture(pixels)), GRAY_BACKGROUND, atol=1)


def test_faint_specks_are_noise_and_faint_areas_are_tissue():
    faint = np.array(BACKGROUND) * (1 - 1.4 * module._ABSORBED)
    speck = paint(speck=(slice(320, 336), slice(320, 336), faint, 1))
    assert tissue_mask(Picture(speck)).fraction == 0
    area = paint(area=(slice(320, 400), slice(320, 400), faint, 1))
    assert (weights(tissue_mask(Picture(area)))[320:400, 320:400] == 1).all()


@pytest.mark.parametrize(("side", "filled"), [(100, True), (600, False)])
def test_lumina_are_filled_and_large_holes_are_not(side, filled):
    hole = slice(384 - side // 2, 384 + side // 2)
    areas = {"tissue": (slice(None), slice(None), EOSIN, 8), "hole": (hole, hole, BACKGROUND, 1)}
    # A strip of background at the edge, by which the white is known.
    areas["strip"] = (slice(None), slice(900, None), BACKGROUND, 1)
    weight = weights(tissue_mask(Picture(paint(**areas))))
    assert (weight[384, 384] == 1) == filled
    assert (weight[384, 384] == 0) != filled


def test_the_weight_falls_smoothly():
    pixels = paint(half=(slice(None), slice(0, 512), EOSIN, 6))
    mask = tissue_mask(Picture(pixels, resampling=Image.Resampling.BOX), margin=20, feather=64)
    line = mask.weight(torch.tensor([384.0]), torch.arange(512, 1024)).numpy()[0]
    step = -np.diff(line)
    assert (step >= 0).all()
    assert step.max() < 1.5 / 64 * 1.1  # the steepest slope of the smooth step
    assert (line[:20] == 1).all()
    # At the samples, 16 pixels apart, the last column of tissue at 503.5.
    distance = np.arange(1, 20) * 16
    u = np.clip((distance - 20 - 3 / math.sqrt(2) * 16) / 64, 0, 1)
    samples = mask.weight(torch.tensor([383.5]), torch.from_numpy(503.5 + distance)).numpy()[0]
    np.testing.assert_allclose(samples, 1 - u * u * (3 - 2 * u), atol=0.5 / 255 + 1e-6)


# --- how it is computed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "mpp", "grid"),
    [
        ((1600, 3205), None, (100, 201)),
        ((1600, 3200), (0.5, 0.5), (100, 200)),
        ((1600, 3200), (0.25, 0.5), (50, 200)),
        ((1600, 3200), (0.1, 4.0), (50, 400)),
        ((1, 5), None, (1, 1)),
    ],
)
def test_the_grid_is_fixed_by_the_slide(size, mpp, grid):
    class Sized:
        pass

    slide = Sized()
    slide.size, slide.mpp = size, mpp
    assert module._grid(slide) == grid


def test_the_grid_of_a_huge_slide_is_coarser():
    class Huge:
        size, mpp = (300_000, 100_000), (0.25, 0.25)

    rows, columns = module._grid(Huge())
    assert 0.99 * module._MAX_SAMPLES < rows * columns < 1.01 * module._MAX_SAMPLES
    assert rows / columns == pytest.approx(3, rel=1e-2)


def test_reading_in_blocks_changes_nothing(monkeypatch):
    slide = Picture(paint(island=(*SQUARE, EOSIN, 6)))
    whole = tissue_mask(slide).to_array()
    monkeypatch.setattr(module, "_BLOCK", 7)
    np.testing.assert_array_equal(tissue_mask(slide).to_array(), whole)


@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (17, 9)])
def test_tiny_slides(shape):
    assert tissue_mask(Picture(paint(shape, all=(slice(None), slice(None), EOSIN, 0)))).fraction == 1


def test_negative_distances_are_refused():
    with pytest.raises(ConfigError) as caught:
        tissue_mask(Picture(paint((32, 32))), margin=-1)
    assert_teaches(caught.value, "at least 0", "-1")


def test_a_slide_from_a_file(tmp_path):
    Image.fromarray(paint(island=(*SQUARE, PALE_STROMA, 6))).save(tmp_path / "a.png")
    with Slide(tmp_path / "a.png", input_mpp=0.5) as slide:
        weight = weights(tissue_mask(slide))
        np.testing.assert_allclose(background_color(slide), BACKGROUND, atol=1)
    assert (weight[SQUARE] == 1).all()
    assert weight[:150].max() == weight[:, :250].max() == 0
