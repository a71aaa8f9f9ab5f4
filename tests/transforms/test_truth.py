"""Variants of the ground truth: magnification, compression and softness, against versions written out."""

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image, ImageFilter
from reference import assert_teaches

from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.transforms import RandSoftness, RandSoftnessd, RandTruthCrop, RandTruthCropd
from monai_iste.transforms.random_degradation import DegradationSpec, degrade_with

TILE = np.random.default_rng(0).integers(0, 200, (3, 150, 170), dtype=np.uint8)
PLAIN = {"reduce_prob": 0, "jpeg_prob": 0, "native_jpeg_prob": 0}


def gaussian(image, sigma):
    """Pillow's Gaussian blur, the one that the degradations use."""
    return np.asarray(Image.fromarray(image.transpose(1, 2, 0)).filter(ImageFilter.GaussianBlur(sigma))).transpose(
        2, 0, 1
    )


@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor, MetaTensor])
def test_a_plain_crop_is_a_part_of_the_tile(wrap):
    crop = RandTruthCrop(16, (1, 4), **PLAIN).set_random_state(0)
    for _ in range(20):
        result = crop(wrap(TILE))
        assert type(result) is torch.Tensor
        n = result.shape[1]
        assert result.shape == (3, n, n)
        assert 16 <= n <= 64
        np.testing.assert_array_equal(result, TILE[:, *crop.window])


@pytest.mark.parametrize("seed", range(8))
def test_a_reduced_crop_shows_more_tissue_at_as_many_pixels(seed):
    crop = RandTruthCrop(16, (2, 2), reduce_prob=1, reduce_range=(1.3, 3)).set_random_state(seed)
    result, side = crop(TILE), math.ceil(32 * crop.factor)
    assert 1.3 <= crop.factor <= 3
    assert TILE[:, *crop.window].shape == (3, side, side)
    source = Image.fromarray(np.ascontiguousarray(TILE[:, *crop.window].transpose(1, 2, 0)))
    np.testing.assert_array_equal(
        result, np.asarray(source.resize((32, 32), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    )
    assert crop.spec.quality is None


def test_the_tile_limits_the_reduction():
    crop = RandTruthCrop(16, (8, 8), reduce_prob=1, reduce_range=(2, 3)).set_random_state(0)
    assert crop(TILE).shape == (3, 128, 128)
    assert crop.factor == 150 / 128
    crop = RandTruthCrop(15, (10, 10), reduce_prob=1, reduce_range=(2, 3)).set_random_state(0)  # the whole height
    assert crop(TILE).shape == (3, 150, 150)
    assert crop.factor == 1


@pytest.mark.parametrize("native", [False, True])
def test_compression_is_that_of_the_drawn_quality(native):
    other = {
        "reduce_prob": 0.9 if native else 0,
        "jpeg_prob": 0.0 if native else 1.0,
        "native_jpeg_prob": float(native),
    }
    crop = RandTruthCrop(16, (2, 2), jpeg_quality=(60, 70), native_jpeg_quality=(80, 90), **other).set_random_state(1)
    qualities = set()
    for _ in range(40):
        result = crop(TILE, native)
        assert crop.factor == 1  # native tiles are never reduced
        qualities.add(crop.spec.quality)
        spec = DegradationSpec(blur=0, quality=crop.spec.quality, subsampling="4:2:0", phase=crop.spec.phase)
        np.testing.assert_array_equal(result, degrade_with(TILE[:, *crop.window], (32, 32), spec))
        assert not np.array_equal(result, TILE[:, *crop.window])
    low, high = (80, 90) if native else (60, 70)
    assert low <= min(qualities) < max(qualities) <= high


def test_kinds_are_as_frequent_as_asked():
    crop = RandTruthCrop(4, (1, 2)).set_random_state(0)
    drawn = {False: [], True: []}
    for native in (False, True):
        for _ in range(1000):
            crop.randomize(TILE, native)
            drawn[native].append((crop.factor > 1, crop.spec.quality is not None))
    reduced, compressed = np.mean(drawn[False], axis=0)
    assert abs(reduced - 0.3) < 0.05
    assert abs(compressed - 0.7 * 0.2) < 0.04
    assert not any(both == (True, True) for both in drawn[False])
    np.testing.assert_allclose(np.mean(drawn[True], axis=0), [0, 0.6], atol=0.05)


def test_background_is_avoided():
    tile = np.full((3, 64, 64), 240, np.uint8)
    tile[1, 32:, 32:] = 120
    crop = RandTruthCrop(16, (1, 1), min_tissue=0.9, max_tries=200, **PLAIN).set_random_state(0)
    result = crop(tile)
    assert (result[1] == 120).float().mean() >= 0.9


def test_dictionary_draws_once_and_states_the_scale():
    crop = RandTruthCropd(("image", "other"), 16, (2.3, 2.3), jpeg_prob=1).set_random_state(0)
    data = {"image": TILE, "other": TILE.copy(), "native": False}
    result = crop(data)
    assert torch.equal(result["image"], result["other"])
    assert result["scale"] == 37 / 16
    assert data["image"] is TILE
    assert RandTruthCropd("image", 16, (2, 2), jpeg_prob=0, native_jpeg_prob=1)
    for native, compressed in ((True, True), (False, False), (None, False)):
        crop = RandTruthCropd("image", 16, (2, 2), reduce_prob=0, jpeg_prob=0, native_jpeg_prob=1).set_random_state(3)
        item = {"image": TILE} if native is None else {"image": TILE, "native": native}
        result = crop(item)["image"]
        assert (crop.transform.spec.quality is not None) == compressed
        assert np.array_equal(result, TILE[:, *crop.transform.window]) != compressed


@pytest.mark.parametrize(
    "make",
    [
        lambda: RandTruthCrop(16, (1, 4)),
        lambda: RandTruthCropd("image", 16, (1, 4)),
        lambda: RandSoftness(),
        lambda: RandSoftnessd("image"),
    ],
)
def test_the_same_seed_gives_the_same_variants(make):
    def run(seed):
        transform, dictionary = make().set_random_state(seed), type(make()).__name__[-1] == "d"
        for _ in range(4):
            result = transform({"image": TILE, "scale": 2.0})["image"] if dictionary else transform(TILE)
        return result

    assert torch.equal(run(3), run(3))
    assert not torch.equal(run(3), run(4))


def test_soft_truth_is_blurred_by_the_drawn_sigma():
    soften = RandSoftness(prob=1, sigma=(0, 1), empty_prob=0).set_random_state(0)
    sigmas = []
    for _ in range(200):
        result = soften(TILE, 3.0)
        sigmas.append(soften.sigma)
        np.testing.assert_array_equal(result, gaussian(TILE, soften.sigma) if soften.sigma else TILE)
    drawn = np.array(sigmas)
    assert 0.05 < (drawn == 0).mean() < 0.16  # below 0.1 pixels
    assert drawn.max() <= 1
    assert abs(drawn.mean() - 0.495) < 0.06


@pytest.mark.parametrize("scale", [1.0, 3.7, 8.0])
def test_empty_magnification_grows_with_the_scale(scale):
    soften = RandSoftness(prob=0, empty_prob=1, empty_sigma=(0.2, 0.4)).set_random_state(0)
    drawn = []
    for _ in range(50):
        soften.randomize(scale)
        drawn.append(soften.sigma / scale)
    assert 0.2 <= min(drawn) < 0.23
    assert 0.37 < max(drawn) <= 0.4


def test_softness_is_as_frequent_as_asked():
    soften = RandSoftness(prob=0.4, sigma=(0.5, 0.6), empty_prob=0.1, empty_sigma=(5, 6)).set_random_state(0)
    drawn = []
    for _ in range(2000):
        soften.randomize(2.0)
        drawn.append(soften.sigma)
    kinds = [
        np.mean([0.5 <= s <= 0.6 for s in drawn]),
        np.mean([s >= 10 for s in drawn]),
        np.mean([s == 0 for s in drawn]),
    ]
    np.testing.assert_allclose(kinds, [0.4, 0.1, 0.5], atol=0.04)


def test_softness_of_a_dictionary_uses_its_scale():
    soften = RandSoftnessd(("image", "label"), prob=0, empty_prob=1, empty_sigma=(0.3, 0.3), scale_key="m")
    result = soften.set_random_state(0)({"image": TILE, "label": TILE, "m": 4})
    np.testing.assert_array_equal(result["image"], gaussian(TILE, 1.2))
    assert torch.equal(result["image"], result["label"])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: RandTruthCrop(reduce_prob=1.5), ("probabilities", "reduce_prob 1.5")),
        (lambda: RandTruthCrop(native_jpeg_prob=-1), ("probabilities", "native_jpeg_prob -1")),
        (lambda: RandTruthCrop(reduce_range=(0.5, 2)), ("reduce_range", "(0.5, 2)")),
        (lambda: RandTruthCrop(jpeg_quality=(90, 80)), ("jpeg_quality", "(90, 80)")),
        (lambda: RandTruthCropd("image", native_jpeg_quality=(0, 80)), ("native_jpeg_quality", "(0, 80)")),
        (lambda: RandTruthCrop(scale_range=(0, 2)), ("scale_range", "(0, 2)")),
        (lambda: RandSoftness(prob=0.8, empty_prob=0.4), ("probabilities", "both 1.2")),
        (lambda: RandSoftness(sigma=(-1, 1)), ("sigma", "(-1, 1)")),
        (lambda: RandSoftnessd("image", empty_sigma=(1, math.inf)), ("empty_sigma", "inf")),
    ],
)
def test_impossible_parameters_are_refused(make, words):
    with pytest.raises(ConfigError) as error:
        make()
    assert_teaches(error.value, *words)


def test_wrong_images_are_refused():
    for wrong in (TILE[None], TILE / 255, TILE[:1]):
        for transform in (RandTruthCrop(16), RandSoftness()):
            with pytest.raises(ShapeError):
                transform(wrong)
    with pytest.raises(ShapeError) as error:
        RandTruthCrop(48, (4, 4))(TILE)
    assert_teaches(error.value, "192 x 192", "170 x 150")
    for scale in (0.5, math.nan, math.inf):
        with pytest.raises(ScaleError):
            RandSoftness()(TILE, scale)
