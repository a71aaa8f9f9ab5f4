"""Degradation: equal to the protocol bit for bit, for every type of array."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image, ImageFilter
from reference import assert_teaches

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.transforms import DEGRADATIONS, BlurDegradation, BlurDegradationd, degrade

TISSUE = sample_datalists()[0][0]["image"]


def by_pillow(image, size, preset):
    """The protocols, written out: ``size`` is (h, w), m the mean of H / h and W / w."""
    (height, width), (h, w) = image.shape[1:], size
    m = (height / h + width / w) / 2
    picture = Image.fromarray(np.ascontiguousarray(np.moveaxis(image, 0, -1)))
    if preset == "blur_bicubic":
        picture = picture.filter(ImageFilter.GaussianBlur(radius=(m - 1) / 2))
    picture = picture.resize((w, h), Image.BICUBIC)
    if preset == "bicubic_blur":
        picture = picture.filter(ImageFilter.GaussianBlur(radius=m / 2))
    return np.moveaxis(np.asarray(picture), -1, 0)


@pytest.mark.parametrize("preset", DEGRADATIONS)
@pytest.mark.parametrize(("top", "left", "size", "lr"), [(0, 0, (96, 96), (48, 48)), (31, 7, (178, 100), (48, 27))])
def test_presets_equal_pillow_bit_for_bit(preset, top, left, size, lr):
    crop = TISSUE[:, top : top + size[0], left : left + size[1]]
    result = degrade(crop, lr, preset)
    assert type(result) is torch.Tensor
    assert result.dtype == torch.uint8
    assert result.is_contiguous()
    np.testing.assert_array_equal(result, by_pillow(crop, lr, preset))


def test_presets_differ_and_blur_first_is_the_default():
    crop = TISSUE[:, :128, :128]
    results = [degrade(crop, (32, 32), preset).numpy() for preset in ("blur_bicubic", "bicubic", "bicubic_blur")]
    assert len({result.tobytes() for result in results}) == len(DEGRADATIONS) == 3
    np.testing.assert_array_equal(degrade(crop, (32, 32)), results[0])
    np.testing.assert_array_equal(BlurDegradation()(crop, 4), results[0])


@pytest.mark.parametrize("preset", ["blur_bicubic", "bicubic"])
def test_scale_one_changes_nothing(preset):
    np.testing.assert_array_equal(degrade(TISSUE[:, :40, :50], (40, 50), preset), TISSUE[:, :40, :50])


@pytest.mark.parametrize(
    "wrap",
    [
        torch.from_numpy,
        lambda a: MetaTensor(torch.from_numpy(a)),
        lambda a: np.flip(np.flip(a, 1).copy(), 1),  # negative strides
        lambda a: torch.from_numpy(a.transpose(0, 2, 1).copy()).transpose(1, 2),  # not contiguous
    ],
)
def test_any_kind_of_image_gives_the_same(wrap):
    crop = TISSUE[:, :96, :80].copy()
    data = BlurDegradationd()({"image": wrap(crop), "scale": 2.0, "name": "a"})
    np.testing.assert_array_equal(data["image"], by_pillow(crop, (48, 40), "blur_bicubic"))
    np.testing.assert_array_equal(data["label"], crop)
    assert type(data["image"]) is type(data["label"]) is torch.Tensor
    assert data["image"].dtype == data["label"].dtype == torch.uint8
    assert data["name"] == "a"


def test_a_read_only_image_is_left_alone():
    crop = TISSUE[:, :96, :96].copy()
    crop.flags.writeable = False
    degrade(crop, (48, 48))
    np.testing.assert_array_equal(crop, TISSUE[:, :96, :96])


@pytest.mark.parametrize(("size", "scale", "expected"), [((100, 63), 3.7, (27, 17)), ((3, 3), 7.3, (1, 1))])
def test_low_resolution_sizes_are_rounded(size, scale, expected):
    assert BlurDegradation()(TISSUE[:, : size[0], : size[1]], scale).shape == (3, *expected)


@pytest.mark.parametrize("n", [48, 32, 17])
def test_every_effective_scale_leads_back_to_its_low_resolution_size(n):
    """A crop of k pixels carries the scale k / n; dividing must give n again, not n - 1."""
    for k in range(n, 4 * n + 1):
        assert BlurDegradation("bicubic")(TISSUE[:, :k, :k], k / n).shape == (3, n, n)


def test_keys_can_be_named():
    data = {"a": TISSUE[:, :40, :40], "m": 2}
    result = BlurDegradationd("a", label_key="b", scale_key="m", preset="bicubic")(data)
    np.testing.assert_array_equal(result["a"], by_pillow(TISSUE[:, :40, :40], (20, 20), "bicubic"))
    assert result["b"].shape == (3, 40, 40)
    assert data["a"].shape == (3, 40, 40)
    with pytest.raises(ConfigError, match="one label_key per key"):
        BlurDegradationd(("a", "b"), label_key="c")


@pytest.mark.parametrize(
    "make", [BlurDegradation, lambda p: BlurDegradationd(preset=p), lambda p: degrade(TISSUE, (9, 9), p)]
)
def test_unknown_presets_name_the_existing_ones(make):
    with pytest.raises(ConfigError) as caught:
        make("gaussian")
    assert_teaches(caught.value, "'gaussian'", *DEGRADATIONS)


@pytest.mark.parametrize("scale", [0.5, float("nan"), float("inf")])
def test_scales_must_be_usable(scale):
    with pytest.raises(ScaleError, match="finite scale of at least 1"):
        BlurDegradation()(TISSUE, scale)


@pytest.mark.parametrize("size", [(0, 5), (41, 40), (40, 41)])
def test_sizes_must_be_smaller_than_the_image(size):
    with pytest.raises(ScaleError) as caught:
        degrade(TISSUE[:, :40, :40], size)
    assert_teaches(caught.value, "40 x 40", f"{size[1]} x {size[0]}")


def test_only_8_bit_rgb_is_taken():
    with pytest.raises(ShapeError, match="float32"):
        degrade(TISSUE.astype(np.float32) / 255, (9, 9))
