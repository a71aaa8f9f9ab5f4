"""Crops: sizes for each scale, uniform scales, preference for tissue, reproducible by seed."""

import numpy as np
import pytest
import torch
from reference import assert_teaches

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.transforms import (
    ArbitraryScaleCrop,
    ArbitraryScaleCropd,
    RandArbitraryScaleCrop,
    RandArbitraryScaleCropd,
    tissue_fraction,
)

BACKGROUND, STROMA, NUCLEUS = (243, 240, 242), (243, 213, 230), (90, 60, 140)


def positions(height, width):
    """An image whose pixels encode their position: channel 0 the row, channel 1 the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)]).astype(np.uint8)


def colored(color, size=(64, 64)):
    return np.tile(np.array(color, np.uint8)[:, None, None], (1, *size))


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        (BACKGROUND, 0),
        ((255, 255, 255), 0),
        ((212, 215, 220), 0),
        (STROMA, 1),
        (NUCLEUS, 1),
        ((0, 0, 0), 1),
        ((205,) * 3, 1),
    ],
)
def test_background_is_bright_and_colorless(color, expected):
    assert tissue_fraction(colored(color)) == expected
    assert tissue_fraction(torch.from_numpy(colored(color))) == expected


@pytest.mark.parametrize("size", [(8, 8), (64, 48), (1000, 777)])
def test_tissue_is_a_share_of_the_image(size):
    image = colored(BACKGROUND, size)
    image[:, : size[0] // 4] = colored(NUCLEUS, (size[0] // 4, size[1]))
    assert tissue_fraction(image) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8, 3), np.uint8), np.zeros((3, 8, 8)), np.zeros((1, 8, 8), np.uint8), np.zeros((3, 0, 8), np.uint8)],
)
@pytest.mark.parametrize(
    "use", [tissue_fraction, RandArbitraryScaleCrop(2), lambda image: ArbitraryScaleCrop()(image, 2.0)]
)
def test_only_8_bit_rgb_is_taken(image, use):
    with pytest.raises(ShapeError) as caught:
        use(image)
    assert_teaches(caught.value, "(3, H, W) and type uint8", str(image.dtype), str(image.shape))


def test_scales_are_uniform_and_crops_cover_the_image():
    transform = RandArbitraryScaleCropd("image", lr_size=10, scale_range=(1, 4), min_tissue=0).set_random_state(1)
    image = positions(60, 80)
    items = [transform({"image": image}) for _ in range(3000)]
    scales = np.array([item["scale"] for item in items])
    assert all(item["image"].shape == (3, round(10 * s), round(10 * s)) for item, s in zip(items, scales, strict=True))
    assert (scales.min(), scales.max()) == (1, 4)
    assert scales.mean() == pytest.approx(2.5, abs=0.05)
    assert scales.std() == pytest.approx(3 / 12**0.5, abs=0.04)
    rows, columns = (np.array([item["image"][axis, 0, 0] for item in items]) for axis in (0, 1))
    ends = np.array([item["image"][:2, -1, -1] for item in items])
    assert (rows.min(), columns.min(), *ends.max(0)) == (0, 0, 59, 79)


def test_a_crop_is_a_window_of_the_image():
    image = positions(60, 80)
    crop = RandArbitraryScaleCrop(10, (2, 3)).set_random_state(3)(image)
    top, left = crop[:2, 0, 0]
    np.testing.assert_array_equal(crop, image[:, top : top + crop.shape[1], left : left + crop.shape[2]])


def test_a_small_image_narrows_the_scale_from_above():
    transform = RandArbitraryScaleCropd("image", lr_size=10, scale_range=(1, 4)).set_random_state(0)
    scales = [transform({"image": positions(23, 80)})["scale"] for _ in range(300)]
    assert max(scales) == 2.3
    assert min(scales) == 1
    assert np.mean(scales) == pytest.approx(1.65, abs=0.05)


def test_an_image_below_the_smallest_scale_is_refused():
    with pytest.raises(ShapeError) as caught:
        RandArbitraryScaleCrop(48, (1.5, 4))(positions(71, 200))
    assert_teaches(caught.value, "at least 72 x 72", "200 x 71", "lower lr_size")
    assert RandArbitraryScaleCrop(48, (1.5, 4))(positions(72, 72)).shape == (3, 72, 72)


def test_background_is_drawn_again():
    image = colored(BACKGROUND, (100, 100))
    image[:, :50] = colored(NUCLEUS, (50, 100))  # under a fifth of tissue in about half of all crops
    shares = {}
    for tries in (1, 50):
        transform = RandArbitraryScaleCrop(10, (1, 2), min_tissue=0.5, max_tries=tries).set_random_state(0)
        shares[tries] = np.array([tissue_fraction(transform(image)) for _ in range(200)])
    assert (shares[1] < 0.5).mean() > 0.3
    assert (shares[50] >= 0.5).all()


def test_on_bare_background_the_crop_with_most_tissue_wins():
    image = colored(BACKGROUND, (64, 64))
    image[:, 20:30, 20:30] = colored(NUCLEUS, (10, 10))
    found = {}
    for tries in (1, 40):
        transform = RandArbitraryScaleCrop(16, (1, 1), min_tissue=1.0, max_tries=tries).set_random_state(0)
        found[tries] = np.mean([tissue_fraction(transform(image)) for _ in range(100)])
    assert found[40] > 4 * found[1]
    assert RandArbitraryScaleCrop(16)(colored(BACKGROUND)).shape[0] == 3


@pytest.mark.parametrize("transform", [RandArbitraryScaleCrop(16), RandArbitraryScaleCropd("image", lr_size=16)])
def test_the_same_seed_gives_the_same_crops(transform):
    image = sample_datalists()[0][0]["image"]

    def run(seed):
        transform.set_random_state(seed)
        items = [
            transform({"image": image} if isinstance(transform, RandArbitraryScaleCropd) else image) for _ in range(5)
        ]
        return [np.asarray(item["image"] if isinstance(item, dict) else item) for item in items]

    first, again, other = run(7), run(7), run(8)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_several_keys_are_cropped_alike_and_the_input_is_left_alone():
    data = {"image": positions(60, 80), "mask": positions(60, 80)}
    result = RandArbitraryScaleCropd(("image", "mask"), lr_size=10).set_random_state(0)(data)
    np.testing.assert_array_equal(result["image"], result["mask"])
    assert set(data) == {"image", "mask"}
    np.testing.assert_array_equal(data["image"], positions(60, 80))


@pytest.mark.parametrize(
    "settings",
    [{"scale_range": (0.5, 2)}, {"scale_range": (3, 2)}, {"lr_size": 0}, {"max_tries": 0}, {"min_tissue": 1.5}],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=r"Expected .*, got .* Try "):
        RandArbitraryScaleCrop(**settings)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((100, 64), 3.7, (100, 63)),  # 27 and 17 low-resolution pixels
        ((1110, 962), 3.7, (1110, 962)),  # exactly 300 and 260
        ((33, 55), 1.1, (33, 55)),  # 33 / 1.1 is 29.999999999999996 in float64, and must count as 30
        ((100, 100), 1, (100, 100)),
        ((101, 99), 2, (100, 98)),
        ((10, 10), 2.5, (10, 10)),
        ((9, 9), 2.5, (8, 8)),  # 3 pixels: 7.5, rounded half to even
    ],
)
def test_evaluation_crops_hold_whole_low_resolution_pixels(size, scale, expected):
    image = np.random.default_rng(0).integers(0, 256, (3, *size), dtype=np.uint8)
    crop = ArbitraryScaleCrop()(image, scale)
    np.testing.assert_array_equal(crop, image[:, : expected[0], : expected[1]])


def test_evaluation_crops_start_from_the_center_of_max_size():
    data = ArbitraryScaleCropd("image", max_size=20)({"image": positions(41, 15), "scale": 3})
    crop = data["image"]
    assert crop.shape == (3, 18, 15)
    assert crop[:2, 0, 0].tolist() == [10, 0]


@pytest.mark.parametrize("scale", [0.9, 0, float("nan"), float("inf")])
def test_evaluation_scales_must_be_usable(scale):
    with pytest.raises(ScaleError, match="finite scale of at least 1"):
        ArbitraryScaleCrop()(positions(9, 9), scale)


def test_an_image_below_one_low_resolution_pixel_is_refused():
    with pytest.raises(ShapeError) as caught:
        ArbitraryScaleCrop()(positions(3, 9), 3.5)
    assert_teaches(caught.value, "at least 4 pixels", "9 x 3", "smaller scale")
