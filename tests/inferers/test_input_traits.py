"""Traits of an input against a version written out, and the sentence for inputs outside what weights learned."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from monai_iste import DEFAULT_PRESET
from monai_iste.data import sample_datalists
from monai_iste.inferers.input_traits import describe_departure, measure_traits
from monai_iste.networks import PRESETS

TISSUE = sample_datalists()[0][0]["image"].transpose(1, 2, 0)  # (320, 512, 3)
LEARNED = PRESETS[DEFAULT_PRESET].learned


def traits_of(pixels, mpp=None):
    return measure_traits(lambda region: pixels[region.slices], pixels.shape[:2], mpp)


def departure_of(pixels, mpp=None):
    return describe_departure(LEARNED, lambda region: pixels[region.slices], pixels.shape[:2], mpp)


def jpeg(pixels, quality, shift=0):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))[shift:, shift:]


def blurred(pixels, sigma):
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(sigma)))


@pytest.mark.parametrize(("waves", "expected"), [((3, 4), 0.0), ((25, 5), 1.0), ((20, 0), 1.0), ((12, 0), 0.0)])
def test_sharpness_of_a_wave_is_known(waves, expected):
    """A wave of k periods in 64 pixels lies above half the Nyquist frequency if k / 64 > 1/4."""
    y, x = np.mgrid[:64, :64]
    gray = 128 + 80 * np.sin(2 * np.pi * (waves[0] * y + waves[1] * x) / 64)
    pixels = np.repeat(gray.round().astype(np.uint8)[..., None], 3, axis=2)
    assert traits_of(pixels).sharpness == pytest.approx(expected, abs=0.01)


def test_sharpness_falls_with_blur_and_rises_with_noise():
    noise = np.random.default_rng(0).normal(0, 20, TISSUE.shape)
    noisy = np.clip(TISSUE + noise, 0, 255).astype(np.uint8)
    values = [traits_of(image).sharpness for image in (blurred(TISSUE, 3), blurred(TISSUE, 1), TISSUE, noisy)]
    assert values == sorted(values)
    assert values[1] > 3 * values[0]


def test_repeated_pixels_have_a_finite_blockiness():
    repeated = TISSUE[:64, :64].repeat(8, 0).repeat(8, 1)
    assert 10 < traits_of(repeated).blockiness < 1000


@pytest.mark.parametrize("shift", [0, 3])
def test_blockiness_rises_with_compression_wherever_blocks_begin(shift):
    soft = blurred(TISSUE, 1)
    values = [traits_of(image[shift:, shift:]).blockiness for image in (soft, jpeg(soft, 50), jpeg(soft, 10))]
    assert values == sorted(values)
    assert values[0] < 1.2
    assert values[2] > 1.5


def test_flat_and_tiny_images_have_no_traits_but_their_pixel_size():
    for pixels in (np.full((200, 200, 3), 240, np.uint8), TISSUE[:20, :200]):
        traits = traits_of(pixels, (0.4, 0.9))
        assert (traits.sharpness, traits.blockiness) == (None, None)
        assert traits.mpp == pytest.approx(0.6)


def test_few_windows_are_read_of_a_large_image():
    reads = []

    def read(region):
        reads.append(region)
        return np.random.default_rng(region.top).integers(0, 256, (region.height, region.width, 3), np.uint8)

    measure_traits(read, (100_000, 80_000))
    assert len(reads) == 16
    assert all((region.height, region.width) == (64, 64) for region in reads)
    assert len({region.top for region in reads}) > 4
    assert len({region.left for region in reads}) > 4
    reads.clear()
    measure_traits(lambda region: reads.append(region) or np.zeros((64, 64, 3), np.uint8), (100_000, 80_000))
    assert len(set(reads)) == len(reads) == 64  # background: looked at everywhere, each place once


def test_ordinary_tissue_gets_no_sentence():
    assert departure_of(TISSUE, (0.5, 0.5)) == ""
    assert departure_of(jpeg(TISSUE, 75)) == ""
    assert describe_departure(None, lambda region: TISSUE[region.slices], TISSUE.shape[:2], (0.001, 0.001)) == ""


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: blurred(TISSUE, 4), "softer"),
        (lambda: np.random.default_rng(0).integers(0, 256, TISSUE.shape, np.uint8), "sharper or noisier"),
        (lambda: jpeg(blurred(TISSUE, 1), 5), "stronger compression"),
    ],
)
def test_images_outside_the_range_get_one_sentence(make, word):
    text = departure_of(make())
    assert text.startswith("outside what the weights learned: ")
    assert word in text
    assert "\n" not in text
    assert "pixels of 0.01 um" in departure_of(TISSUE, (0.01, 0.01))
