"""Stains: equal to the formula pixel by pixel, unchanged at range 0, white stays white."""

import math

import numpy as np
import pytest
import torch
from reference import assert_teaches
from skimage.color import rgb_from_hed

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError
from monai_iste.transforms.augmentation import RandStainJitter, RandStainJitterd, adjust_stains

TISSUE = sample_datalists()[0][0]["image"]
LEVELS = np.array([0, 1, 2, 17, 64, 128, 200, 254, 255], np.uint8)
COLORS = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS)).reshape(3, 27, 27)


def by_formula(image, gain, offset, brightness):
    """Pixel by pixel; the amounts of the stains by solving for them."""
    result = np.zeros(image.shape)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            density = [-math.log((int(level) + 1) / 256) for level in image[:, y, x]]
            amounts = np.linalg.solve(rgb_from_hed.T, density)
            amounts = [g * amount + o for g, amount, o in zip(gain, amounts, offset, strict=True)]
            for channel in range(3):
                total = sum(amount * stain[channel] for amount, stain in zip(amounts, rgb_from_hed, strict=True))
                result[channel, y, x] = min(max(256 * brightness * math.exp(-total) - 1, 0), 255)
    return result


@pytest.mark.parametrize(
    ("gain", "offset", "brightness"),
    [
        ((1.2, 0.8, 1.1), (0, 0, 0), 1),
        ((1, 1, 1), (0.05, -0.02, 0.01), 1),
        ((1, 1, 1), (0, 0, 0), 0.9),
        ((0.85, 1.15, 0.9), (-0.02, 0.03, 0.01), 1.05),
    ],
)
def test_pixels_equal_the_formula(gain, offset, brightness):
    found = adjust_stains(COLORS, gain, offset, brightness)
    assert np.abs(found.numpy() - by_formula(COLORS, gain, offset, brightness)).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("image", [COLORS, TISSUE, np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, 0)])
def test_no_change_gives_every_color_back(image):
    np.testing.assert_array_equal(adjust_stains(image), image)
    still = RandStainJitter(prob=1, gain=0, offset=0, brightness=0).set_random_state(0)
    np.testing.assert_array_equal(still(image), image)


@pytest.mark.parametrize("seed", range(20))
def test_gains_alone_leave_white_white(seed):
    white = np.full((3, 2, 2), 255, np.uint8)
    jitter = RandStainJitter(prob=1, gain=0.5, offset=0, brightness=0).set_random_state(seed)
    assert int(jitter(white).min()) >= 254
    assert not torch.equal(jitter(COLORS, randomize=False), torch.from_numpy(COLORS))


@pytest.mark.parametrize("stain", range(3))
def test_a_gain_makes_one_stain_stronger_and_leaves_the_others(stain):
    """Colors of one stain: the density in every channel grows by the gain, or stays."""
    for other in range(3):
        pure = np.round(256 * np.exp(-0.8 * rgb_from_hed[other]) - 1).astype(np.uint8).reshape(3, 1, 1)
        gain = np.ones(3)
        gain[stain] = 1.5
        before, after = (-np.log((np.asarray(a, float).ravel() + 1) / 256) for a in (pure, adjust_stains(pure, gain)))
        np.testing.assert_allclose(after, before * (1.5 if stain == other else 1), atol=0.02)


def test_brightness_is_a_factor_of_the_light():
    gray = np.full((3, 1, 1), 199, np.uint8)  # (199 + 1) * 0.9 - 1
    assert adjust_stains(gray, brightness=0.9).flatten().tolist() == [179] * 3
    assert adjust_stains(np.full((3, 1, 1), 250, np.uint8), brightness=1.1).max() == 255


def test_draws_fill_the_range():
    jitter = RandStainJitter(prob=1, gain=0.3, offset=0.04, brightness=0.1).set_random_state(0)
    drawn = []
    for _ in range(500):
        jitter.randomize()
        drawn.append((*jitter.gains, *jitter.offsets, jitter.light))
    low, high = np.min(drawn, 0), np.max(drawn, 0)
    np.testing.assert_allclose(low, [0.7] * 3 + [-0.04] * 3 + [0.9], atol=0.01)
    np.testing.assert_allclose(high, [1.3] * 3 + [0.04] * 3 + [1.1], atol=0.01)
    off_diagonal = np.corrcoef(np.array(drawn).T) - np.eye(7)
    assert np.abs(off_diagonal).max() < 0.2  # each for itself


def test_it_happens_as_often_as_asked():
    jitter = RandStainJitter(prob=0.3).set_random_state(0)
    crop = TISSUE[:, :4, :4]
    changed = [not torch.equal(jitter(crop), torch.from_numpy(crop.copy())) for _ in range(400)]
    assert np.mean(changed) == pytest.approx(0.3, abs=0.06)


def test_the_same_seed_gives_the_same_and_keys_change_alike():
    make = RandStainJitter(prob=1).set_random_state
    crop = TISSUE[:, :30, :20].copy()
    first, other = make(2)(crop), make(3)(crop)
    assert not torch.equal(first, other)
    assert torch.equal(make(2)(crop), first)
    data = RandStainJitterd(("a", "b"), prob=1).set_random_state(2)({"a": crop, "b": torch.from_numpy(crop), "n": 1})
    assert torch.equal(data["a"], first)
    assert torch.equal(data["b"], first)
    assert data["n"] == 1
    np.testing.assert_array_equal(crop, TISSUE[:, :30, :20])


@pytest.mark.parametrize("options", [{"prob": 2}, {"gain": 1}, {"offset": -0.1}, {"brightness": 1}])
def test_settings_that_cannot_be(options):
    for make in (RandStainJitter, lambda **options: RandStainJitterd("image", **options)):
        with pytest.raises(ConfigError) as caught:
            make(**options)
        assert_teaches(caught.value, str(next(iter(options.values()))))
