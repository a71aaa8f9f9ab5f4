"""Random degradation: filters as specified, no shift or tint of the image, the same result for the same seed."""

import io
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image, ImageFilter
from reference import assert_teaches

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.transforms import degrade
from monai_iste.transforms.random_degradation import (
    REDUCTIONS,
    DegradationSpec,
    RandMixedDegradation,
    RandMixedDegradationd,
    degrade_with,
)

TISSUE = sample_datalists()[0][0]["image"]
CERTAIN = {"blur_prob": 1, "noise_prob": 1, "jpeg_prob": 1, "subsampling_prob": 1, "phase_prob": 1}


def picture(image):
    return Image.fromarray(np.ascontiguousarray(np.moveaxis(np.asarray(image), 0, -1)))


def channels_first(image):
    return np.moveaxis(np.asarray(image), -1, 0)


def smooth(height, width):
    """An image of sine waves of 24 pixels and more: every reduction keeps them."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(2 * np.pi * (a * y + b * x)) for a, b in ((1 / 24, 1 / 60), (-1 / 40, 1 / 25), (1 / 31, -1 / 29))]
    return np.round(128 + 80 * np.stack(waves)).astype(np.uint8)


def displacement(image, reference):
    """Displacement of ``image`` from ``reference``, (down, right) in pixels: least squares on its slopes."""
    image, reference = (np.asarray(a, np.float64) for a in (image, reference))
    slopes = [np.gradient(reference, axis=axis)[:, 2:-2, 2:-2].ravel() for axis in (1, 2)]
    difference = (reference - image)[:, 2:-2, 2:-2].ravel()
    return np.linalg.lstsq(np.stack(slopes, 1), difference, rcond=None)[0]


# --- one scan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [(48, 48), (41, 57), (96, 80)])
def test_the_protocols_degradations_come_out_bit_for_bit(lr):
    crop = TISSUE[:, 5:155, 30:171]
    assert torch.equal(degrade_with(crop, lr), degrade(crop, lr, "blur_bicubic"))
    assert torch.equal(degrade_with(crop, lr, DegradationSpec(blur=0)), degrade(crop, lr, "bicubic"))


@pytest.mark.parametrize("blur", [0.3, 1.2])
def test_the_blur_is_in_units_of_the_protocols(blur):
    sigma = blur * ((120 / 40 + 90 / 45) / 2 - 1) / 2
    blurred = picture(TISSUE[:, :120, :90]).filter(ImageFilter.GaussianBlur(sigma))
    expected = channels_first(blurred.resize((45, 40), Image.Resampling.LANCZOS))
    found = degrade_with(TISSUE[:, :120, :90], (40, 45), DegradationSpec(blur=blur, reduction="lanczos"))
    np.testing.assert_array_equal(found, expected)


def area_by_loops(image, size):
    """Mean over the extent of every low-resolution pixel, by the overlap of two rectangles."""
    (height, width), (h, w) = image.shape[1:], size
    result = np.zeros((3, h, w))
    for i in range(h):
        for j in range(w):
            top, bottom, left, right = i * height / h, (i + 1) * height / h, j * width / w, (j + 1) * width / w
            for y in range(math.floor(top), min(height, math.ceil(bottom))):
                for x in range(math.floor(left), min(width, math.ceil(right))):
                    share = (min(bottom, y + 1) - max(top, y)) * (min(right, x + 1) - max(left, x))
                    result[:, i, j] += image[:, y, x] * share
    return result * h * w / (height * width)


@pytest.mark.parametrize("lr", [(10, 6), (7, 9), (20, 18), (1, 1)])
def test_area_is_the_mean_over_a_rectangle(lr):
    crop = TISSUE[:, 40:60, 70:88]
    found = degrade_with(crop, lr, DegradationSpec(blur=0, reduction="area"))
    assert np.abs(found.numpy() - area_by_loops(crop, lr)).max() <= 0.5 + 1e-9


def test_decimation_takes_single_points():
    """At odd factors the center pixel itself, at 2 the four beside the center, which lies on their corner."""
    crop = TISSUE[:, :45, :60]
    plain = DegradationSpec(blur=0, reduction="decimation")
    np.testing.assert_array_equal(degrade_with(crop, (15, 20), plain), crop[:, 1::3, 1::3])
    four = sum(crop[:, i : 44 + i : 2, j::2].astype(float) for i in (0, 1) for j in (0, 1)) / 4
    assert np.abs(degrade_with(crop[:, :44], (22, 30), plain).numpy() - four).max() <= 0.5


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("scale", [1.25, 1.5, 2, 2.5, 3, 3.7, 4])
def test_no_reduction_moves_the_image(scale, reduction):
    image = smooth(120, 150)
    lr = (round(120 / scale), round(150 / scale))
    reference = degrade(image, lr, "bicubic")
    for scan in (
        DegradationSpec(blur=0, reduction=reduction),
        DegradationSpec(blur=1.2, reduction=reduction, quality=95, phase=(3, 9)),
    ):
        down, right = displacement(degrade_with(image, lr, scan), reference) * scale
        assert abs(down) < 0.06, (down, right)  # high-resolution pixels; half a pixel is what a careless filter gives
        assert abs(right) < 0.06, (down, right)


def test_a_moved_image_is_seen():
    image = smooth(120, 150)
    nearest = channels_first(picture(image).resize((75, 60), Image.Resampling.NEAREST))
    assert displacement(nearest, degrade(image, (60, 75), "bicubic")) * 2 == pytest.approx([-0.5, -0.5], abs=0.05)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("change", [{}, {"noise": 2.0}, {"quality": 30}, {"quality": 50, "subsampling": "4:4:4"}])
def test_the_mean_color_stays(change, reduction):
    scan = replace(DegradationSpec(reduction=reduction), **change)
    mean = degrade_with(TISSUE, (107, 171), scan).double().mean((1, 2)).numpy()
    assert np.abs(mean - TISSUE.mean((1, 2))).max() < 0.6  # 8-bit levels


def test_noise_has_its_strength_and_its_seed():
    gray = np.full((3, 200, 200), 128, np.uint8)
    first, again, other = (
        degrade_with(gray, (100, 100), DegradationSpec(noise=2, seed=seed)).double() for seed in (4, 4, 5)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert float(first.std()) == pytest.approx(math.sqrt(2**2 + 1 / 12), rel=0.02)
    assert abs(float(np.corrcoef(first[0].flatten(), first[1].flatten())[0, 1])) < 0.05  # channels by themselves


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("size", [(48, 32), (39, 51)])
def test_jpeg_is_pillows(size, subsampling):
    """Whole blocks: nothing but the encoder's own work. Part of a block: mirrored, as if the image went on."""
    crop = TISSUE[:, : size[0], : size[1]]
    whole = np.pad(crop, [(0, 0)] + [(0, -n % 16) for n in size], mode="symmetric")
    file = io.BytesIO()
    picture(whole).save(file, "JPEG", quality=40, subsampling={"4:2:0": 2, "4:4:4": 0}[subsampling])
    expected = channels_first(Image.open(file))[:, : size[0], : size[1]]
    found = degrade_with(crop, size, DegradationSpec(quality=40, subsampling=subsampling))
    np.testing.assert_array_equal(found, expected)


def border_of_blocks(image):
    """Column, modulo 8, with the largest steps."""
    steps = np.abs(np.diff(np.asarray(image, float), axis=2)).mean((0, 1))
    return int(np.argmax([steps[k::8].mean() for k in range(8)]))


@pytest.mark.parametrize("right", [0, 1, 5, 8, 13])
def test_the_phase_moves_the_blocks(right):
    scan = DegradationSpec(blur=0, quality=8, subsampling="4:4:4", phase=(2, right))
    ramp = np.tile(np.linspace(60, 200, 128).astype(np.uint8), (3, 128, 1))
    found = degrade_with(ramp, (128, 128), scan)
    assert border_of_blocks(found) == (7 - right) % 8


def test_noise_comes_before_jpeg():
    gray = np.full((3, 64, 64), 128, np.uint8)
    levels = degrade_with(gray, (64, 64), DegradationSpec(noise=1, quality=30)).unique()
    assert len(levels) == 1  # JPEG leaves nothing of noise so small


@pytest.mark.parametrize(
    "wrap", [torch.from_numpy, lambda a: MetaTensor(torch.from_numpy(a)), lambda a: np.flip(np.flip(a, 1).copy(), 1)]
)
def test_any_kind_of_image_gives_the_same(wrap):
    crop, scan = TISSUE[:, :64, :50].copy(), DegradationSpec(reduction="area", noise=1, quality=60, phase=(1, 2))
    result = degrade_with(wrap(crop), (31, 25), scan)
    assert type(result) is torch.Tensor
    assert result.dtype == torch.uint8
    assert result.is_contiguous()
    assert torch.equal(result, degrade_with(crop, (31, 25), scan))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"reduction": "box"}, "area"),
        ({"blur": -1}, "-1"),
        ({"noise": math.inf}, "inf"),
        ({"quality": 0}, "0"),
        ({"subsampling": "4:1:1"}, "4:1:1"),
        ({"phase": (0, 16)}, "16"),
    ],
)
def test_a_scan_that_cannot_be(change, word):
    with pytest.raises(ConfigError) as caught:
        DegradationSpec(**change)
    assert_teaches(caught.value, word)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", [(0, 5), (41, 40)])
def test_sizes_must_be_smaller_than_the_image(size, reduction):
    with pytest.raises(ScaleError) as caught:
        degrade_with(TISSUE[:, :40, :40], size, DegradationSpec(reduction=reduction))
    assert_teaches(caught.value, "40 x 40", f"{size[1]} x {size[0]}")


# --- random scans -----------------------------------------------------------------------------------------------------


def scans(count, **options):
    transform = RandMixedDegradation(**options).set_random_state(0)
    drawn = []
    for _ in range(count):
        transform.randomize()
        drawn.append(transform.spec)
    return drawn


def test_every_choice_has_its_share_and_its_range():
    drawn = scans(4000)
    found = Counter(scan.reduction for scan in drawn)
    for name, share in {"bicubic": 0.5, "area": 0.25, "lanczos": 0.2, "decimation": 0.05}.items():
        assert found[name] / 4000 == pytest.approx(share, abs=0.03)
    averaged = [scan for scan in drawn if scan.reduction != "decimation"]
    blurs = [scan.blur for scan in averaged if scan.blur > 0]
    assert len(blurs) / len(averaged) == pytest.approx(0.85, abs=0.03)
    assert (min(blurs), max(blurs), np.mean(blurs)) == pytest.approx((0, 1.2, 0.6), abs=0.03)
    noises = [scan.noise for scan in drawn if scan.noise > 0]
    assert len(noises) / 4000 == pytest.approx(0.5, abs=0.03)
    assert (min(noises), max(noises), np.mean(noises)) == pytest.approx((0, 2, 1), abs=0.05)
    files = [scan for scan in drawn if scan.quality is not None]
    assert len(files) / 4000 == pytest.approx(0.5, abs=0.03)
    assert {scan.quality for scan in files} == set(range(30, 96))
    assert Counter(scan.subsampling for scan in files)["4:2:0"] / len(files) == pytest.approx(0.5, abs=0.04)
    phases = Counter(scan.phase for scan in drawn)
    assert phases[0, 0] / 4000 == pytest.approx(0.5, abs=0.04)
    assert len(phases) == 16 * 16  # down and right each for itself
    clean = [scan for scan in drawn if scan.quality is None and scan.noise == 0]
    assert len(clean) / 4000 == pytest.approx(0.25, abs=0.03)
    assert len({scan.seed for scan in drawn}) > 3990


def test_decimation_is_never_without_blur():
    for options in ({"blur_prob": 0}, {"blur": (0.2, 0.4)}):
        assert {scan.blur for scan in scans(20, reductions={"decimation": 1}, **options)} == {1.0}
    strong = scans(20, reductions={"decimation": 1}, blur=(1.1, 1.2), blur_prob=1)
    assert min(scan.blur for scan in strong) > 1.1


def test_settings_reach_the_scan():
    (scan,) = scans(1, reductions={"lanczos": 3}, blur=(0.7, 0.7), noise=(1.5, 1.5), quality=(44, 44), **CERTAIN)
    assert (scan.reduction, scan.blur, scan.noise, scan.quality, scan.subsampling) == ("lanczos", 0.7, 1.5, 44, "4:2:0")
    off = dict.fromkeys(CERTAIN, 0)
    assert {replace(scan, seed=0) for scan in scans(20, reductions={"area": 1}, **off)} == {
        DegradationSpec(blur=0, reduction="area", subsampling="4:4:4")
    }


def test_one_choice_does_not_change_the_others():
    """Every draw takes as many random numbers: without JPEG, the blurs of a training stay what they were."""
    with_jpeg, without = (scans(50, jpeg_prob=chance) for chance in (1, 0))
    assert [scan.blur for scan in with_jpeg] == [scan.blur for scan in without]


def test_the_same_seed_gives_the_same_images():
    first, again, other = (
        RandMixedDegradation(**CERTAIN).set_random_state(seed)(TISSUE[:, :96, :96], 2.5) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    transform = RandMixedDegradation(**CERTAIN).set_random_state(3)
    images = [transform(TISSUE[:, :96, :96], 2.5) for _ in range(2)]
    assert not torch.equal(images[0], images[1])
    assert torch.equal(transform(TISSUE[:, :96, :96], 2.5, randomize=False), images[1])


def test_the_label_stays_clean_and_keys_share_a_scan():
    crop = TISSUE[:, :100, :90].copy()
    transform = RandMixedDegradationd(("a", "b"), ("x", "y"), "m", **CERTAIN).set_random_state(1)
    data = transform({"a": crop, "b": torch.from_numpy(crop), "m": 2.5, "name": "n"})
    for key in ("x", "y"):
        np.testing.assert_array_equal(data[key], TISSUE[:, :100, :90])
    assert type(data["a"]) is type(data["x"]) is torch.Tensor
    assert torch.equal(data["a"], data["b"])
    assert torch.equal(data["a"], degrade_with(crop, (40, 36), transform.degradation.spec))
    assert data["name"] == "n"
    with pytest.raises(ConfigError, match="one label_key per key"):
        RandMixedDegradationd(("a", "b"), label_key="c")


def test_the_dictionary_version_draws_as_the_array_version():
    single = RandMixedDegradation(**CERTAIN).set_random_state(5)(TISSUE[:, :60, :60], 3)
    data = RandMixedDegradationd(**CERTAIN).set_random_state(5)({"image": TISSUE[:, :60, :60], "scale": 3})
    assert torch.equal(data["image"], single)


@pytest.mark.parametrize("n", [16, 17])
def test_every_effective_scale_leads_back_to_its_low_resolution_size(n):
    transform = RandMixedDegradation().set_random_state(0)
    for k in range(n, 4 * n + 1):
        assert transform(TISSUE[:, :k, :k], k / n).shape == (3, n, n)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"blur": (1, 0.5)}, "(1, 0.5)"),
        ({"noise": (-1, 2)}, "(-1, 2)"),
        ({"quality": (30, 101)}, "from 1 to 100"),
        ({"jpeg_prob": 1.5}, "1.5"),
        ({"reductions": {}}, "bicubic"),
        ({"reductions": {"area": -1}}, "-1"),
        ({"reductions": {"nearest": 1}}, "'nearest'"),
    ],
)
def test_settings_that_cannot_be(options, word):
    for make in (RandMixedDegradation, RandMixedDegradationd):
        with pytest.raises(ConfigError) as caught:
            make(**options)
        assert_teaches(caught.value, word)


@pytest.mark.parametrize("scale", [0.5, float("nan"), float("inf")])
def test_scales_must_be_usable(scale):
    with pytest.raises(ScaleError, match="finite scale of at least 1"):
        RandMixedDegradation()(TISSUE, scale)


def test_only_8_bit_rgb_is_taken():
    with pytest.raises(ShapeError, match="float32"):
        RandMixedDegradation()(TISSUE.astype(np.float32) / 255, 2)
