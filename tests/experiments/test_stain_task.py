"""Stain densities against a version written out pixel by pixel, and comparisons whose result is known."""

import math

import numpy as np
import pytest
from reference import assert_teaches
from skimage.color import deltaE_ciede2000, rgb2lab

from experiments.stain_task import DensityScores, color_shift, compare_densities, stain_densities
from monai_iste.errors import ShapeError

#: Optical densities of hematoxylin, eosin and DAB in red, green and blue: Ruifrok and Johnston (2001).
MATRIX = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])


def literal_densities(image: np.ndarray) -> np.ndarray:
    """Densities of hematoxylin and eosin, (2, H, W), by hand; intensities in [0, 1]."""
    inverse = np.linalg.inv(MATRIX)
    result = np.zeros((2, *image.shape[1:]))
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            optical = [-math.log10(max(float(image[channel, y, x]), 1e-6)) for channel in range(3)]
            for stain in range(2):
                amount = sum(optical[channel] * inverse[channel, stain] for channel in range(3))
                result[stain, y, x] = max(amount, 0)
    return result


def stained(hematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    """(3, H, W) in [0, 1]: light that passes through these densities."""
    amounts = np.stack([hematoxylin, eosin, np.zeros_like(eosin)])
    return 10 ** -np.einsum("shw,sc->chw", amounts, MATRIX)


@pytest.fixture
def drawn() -> np.ndarray:
    """Densities of both stains that vary from pixel to pixel, (2, 6, 7)."""
    return np.random.default_rng(0).uniform(0.05, 0.6, (2, 6, 7))


# --- densities --------------------------------------------------------------------------------------------------------


def test_densities_are_those_written_out():
    levels = np.random.default_rng(1).integers(0, 256, (3, 5, 4)).astype(np.uint8)
    levels[:, 0, :3] = np.array([[0, 255, 0], [0, 255, 255], [0, 255, 0]])  # black, white, green
    found = stain_densities(levels)
    np.testing.assert_allclose(found, literal_densities(levels / 255), atol=1e-12)
    assert found[:, 0, 1].tolist() == [0, 0]
    assert (found == 0).any(axis=(1, 2)).all()  # negative amounts occur for both
    assert found.max() > 1


def test_densities_of_drawn_stains_are_found_again(drawn):
    np.testing.assert_allclose(stain_densities(stained(*drawn)), drawn, atol=1e-12)


def test_8_bit_levels_and_intensities_have_the_same_densities(drawn):
    levels = (stained(*drawn) * 255).round().astype(np.uint8)
    np.testing.assert_allclose(stain_densities(levels), stain_densities(levels / 255), atol=1e-12)


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 5, 4), (3, 5), (2, 3, 5, 4)])
def test_channels_come_first(shape):
    with pytest.raises(ShapeError) as caught:
        stain_densities(np.zeros(shape, np.uint8))
    assert_teaches(caught.value, str(shape))


# --- comparisons ------------------------------------------------------------------------------------------------------


def test_the_same_image_has_no_bias(drawn):
    for density in drawn:
        found = compare_densities(density, density.copy())
        assert found == DensityScores(density.mean(), density.mean(), 0, 0, 0, pytest.approx(1))


@pytest.mark.parametrize("added", [0.1, -0.03])
def test_added_hematoxylin_is_the_bias_of_hematoxylin_alone(drawn, added):
    before = stain_densities(stained(*drawn))
    after = stain_densities(stained(drawn[0] + added, drawn[1]))
    h, e = (compare_densities(*pair) for pair in zip(before, after, strict=True))
    assert h.density - h.original == pytest.approx(added)
    assert h.bias == pytest.approx(100 * added / drawn[0].mean())
    assert h.error == abs(h.bias)
    assert h.difference == pytest.approx(abs(added))
    assert h.correlation == pytest.approx(1)
    assert (e.bias, e.error, e.difference) == pytest.approx((0, 0, 0), abs=1e-10)


def test_scores_are_those_written_out(drawn):
    a, b = drawn[0], 0.7 * drawn[0] + 0.2 * drawn[1]
    x, y = a.ravel().tolist(), b.ravel().tolist()
    mx, my = sum(x) / len(x), sum(y) / len(y)
    covariance = sum((u - mx) * (v - my) for u, v in zip(x, y, strict=True))
    spread = math.sqrt(sum((u - mx) ** 2 for u in x) * sum((v - my) ** 2 for v in y))
    found = compare_densities(a, b)
    assert (found.original, found.density) == pytest.approx((mx, my))
    assert found.bias == pytest.approx(100 * (my / mx - 1))
    assert found.difference == pytest.approx(sum(abs(u - v) for u, v in zip(x, y, strict=True)) / len(x))
    assert found.correlation == pytest.approx(covariance / spread)


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (333, 17)])
@pytest.mark.parametrize("color", [(231, 149, 187), (86, 62, 132), (1, 0, 255)])
def test_an_even_color_has_no_correlation(color, size):
    even = stain_densities(np.tile(np.array(color, np.uint8)[:, None, None], (1, *size)))
    noise = np.random.default_rng(0).uniform(0, 1, size)
    for pair in ((even[0], noise), (noise, even[0]), (even[1], even[1])):
        assert compare_densities(*pair).correlation is None


def test_rounding_errors_are_no_contrast_and_no_stain(drawn):
    """Matrix products may round the same color differently in different pixels."""
    rounding = 1e-15 * np.random.default_rng(0).uniform(0, 1, (6, 7))
    assert compare_densities(0.2 + rounding, drawn[0]).correlation is None
    assert compare_densities(drawn[0], 0.2 + rounding).correlation is None
    assert compare_densities(rounding, drawn[0]).bias is None


def test_a_stain_that_is_not_there_has_no_bias_in_percent(drawn):
    found = compare_densities(np.zeros((6, 7)), drawn[0])
    assert (found.bias, found.error, found.correlation) == (None, None, None)
    assert found.difference == pytest.approx(drawn[0].mean())


def test_shapes_must_be_equal(drawn):
    with pytest.raises(ShapeError) as caught:
        compare_densities(drawn[0], drawn[0][:5])
    assert_teaches(caught.value, "(6, 7) and (5, 7)")


# --- color ------------------------------------------------------------------------------------------------------------


def test_color_shift_is_that_of_the_mean_colors():
    random = np.random.default_rng(2)
    a, b = (random.integers(0, 256, (3, 6, 5)).astype(np.uint8) for _ in range(2))
    colors = [np.array([np.mean(image[c].tolist()) for c in range(3)]) / 255 for image in (a, b)]
    assert color_shift(a, b) == pytest.approx(float(deltaE_ciede2000(*map(rgb2lab, colors))))
    assert color_shift(a, b) > 0.1
    assert color_shift(a, a[:, ::-1]) == 0  # the same pixels elsewhere


def test_black_and_white_are_100_apart():
    black, white = (np.full((3, 2, 2), level, np.uint8) for level in (0, 255))
    assert color_shift(black, white) == pytest.approx(100, abs=1e-3)
