"""``monai-iste upscale`` on one image: the result, and one sentence for what cannot be."""

import os
import warnings

import numpy as np
import pytest
import tifffile
from commands import SRGB, TISSUE, assert_refused, files, run
from PIL import Image

import monai_iste
from monai_iste.errors import ConfigError, DataError, OutputError, ScaleError
from monai_iste.functional import upscale
from monai_iste.io.image_reader import probe, read_rgb

# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["png", "tif", "TIFF"])
def test_one_image(suffix, weights):
    result = run("upscale", "a.png", f"b.{suffix}", "--scale", "3.7")
    assert result.exit_code == 0, result.output
    assert f"b.{suffix}: 20 x 30 -> 74 x 111 (H x W, x3.7)" in result.stdout
    expected = upscale(TISSUE[:20, :30], 3.7, model=monai_iste.load("tiny", weights))
    np.testing.assert_array_equal(read_rgb(f"b.{suffix}").transpose(1, 2, 0), expected)
    assert probe(f"b.{suffix}").icc == SRGB
    assert files() == ["a.png", f"b.{suffix}"]


@pytest.mark.parametrize("size", [(1, 1), (7, 5)])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_very_small_images(size, suffix):
    Image.fromarray(TISSUE[: size[0], : size[1]]).save("small.png")
    assert run("upscale", "small.png", f"b.{suffix}", "--scale", "2.5").exit_code == 0
    assert Image.open(f"b.{suffix}").size == (round(size[1] * 2.5), round(size[0] * 2.5))
    assert run("compare", "small.png").exit_code == 0


def test_a_large_image_is_not_refused_as_a_bomb(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)  # Pillow warns of more, and refuses twice as many
    with warnings.catch_warnings(record=True) as seen:
        assert run("upscale", "a.png", "b.png", "--scale", 1.5).exit_code == 0
    assert not seen


def test_exact_size():
    assert run("upscale", "a.png", "b.png", "--size", "41x30").exit_code == 0
    assert Image.open("b.png").size == (30, 41)


def test_pixel_size_that_the_file_states():
    tifffile.imwrite(
        "in.tif", TISSUE[:20, :30], photometric="rgb", resolution=(20_000, 20_000), resolutionunit="CENTIMETER"
    )
    assert "0.25 um/px" in run("upscale", "in.tif", "b.tif", "--mpp", "0.25").stdout
    assert probe("b.tif").mpp == pytest.approx((0.25, 0.25))
    assert Image.open("b.tif").size == (60, 40)
    run("upscale", "in.tif", "c.tif", "--size", "30x60")
    assert probe("c.tif").mpp == pytest.approx((1 / 3, 0.25))
    run("upscale", "in.tif", "d.png", "--scale", "2")
    assert Image.open("d.png").info["dpi"] == pytest.approx((101_600, 101_600), rel=1e-4)


def test_pixel_size_that_the_user_states():
    run("upscale", "a.png", "b.tif", "--mpp", "0.25", "--input-mpp", "0.62")
    assert Image.open("b.tif").size == (74, 50)
    assert probe("b.tif").mpp == pytest.approx((0.62 * 20 / 50, 0.62 * 30 / 74))


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        ("0", ["finite scale above 0", "0.0"]),
        ("-2", ["finite scale above 0", "-2.0"]),
        ("nan", ["finite scale above 0", "nan"]),
        ("inf", ["finite scale above 0", "inf"]),
        ("1e6", ["20,000,000 x 30,000,000", "1,800,000.0 GB"]),
        ("1000", ["208 x 208", "x1000"]),
        ("1e308", ["output of at most"]),
        ("0.5", ["at least 1", "resampler"]),
    ],
)
def test_unusable_scales(scale, words):
    assert_refused(run("upscale", "a.png", "b.png", "--scale", scale), ScaleError, *words)
    assert_refused(run("compare", "a.png", "--scale", scale), ScaleError, *words)


def test_inputs_that_are_none(caplog):
    with open("text.png", "w") as file:
        file.write("no image")
    Image.fromarray(TISSUE[:200, :300]).save("half.jpg")
    os.truncate("half.jpg", os.path.getsize("half.jpg") // 2)
    with open("cut.tif", "wb") as file:
        file.write(b"II*\0\xff\xff\xff\x7f")  # tifffile would log a line of its own
    left = files()
    for name, words in {
        "missing.png": ["missing.png, which does not exist"],
        "text.png": ["readable image in text.png"],
        "cut.tif": ["readable image in cut.tif"],
        "half.jpg": ["readable image in half.jpg", "truncated"],
        "/dev/null": ["an image file"],
        f"{'a' * 260}.png": [],
    }.items():
        assert_refused(run("upscale", name, "b.png", "--scale", 2), DataError, *words, left=left)
        assert_refused(run("compare", name, "-o", "b.png"), DataError, *words, left=left)
    assert not caplog.text  # outside of pytest it would stand on standard error


def test_outputs_that_cannot_be():
    cases = {
        "a.png": ["other than the input"],
        "./a.png": ["other than the input"],
        "b.gif": ["ends in .png", ".ome.tiff", ".ome.zarr"],
        "missing/b.png": ["existing folder", "missing"],
        "a.png/b.png": ["existing folder"],
        "..": ["ends in .png"],
        "/proc/b.png": ["/proc/b.png"],
        f"{'b' * 260}.png": ["able to write"],
    }
    for name, words in cases.items():
        assert_refused(run("upscale", "a.png", name, "--scale", 2, "--overwrite"), OutputError, *words)
    assert_refused(run("compare", "a.png", "-o", "a.png", "--overwrite"), OutputError, "other than the input")
    os.symlink("a.png", "link.png")
    result = run("upscale", "a.png", "link.png", "--scale", 2, "--overwrite")
    assert_refused(result, OutputError, "other than the input", left=("a.png", "link.png"))


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ([], ConfigError, ["one of --scale, --size and --mpp"]),
        (["--scale", 2, "--size", "40x60"], ConfigError, ["one of --scale, --size and --mpp"]),
        (["--size", "40"], ConfigError, ["'40'", "HxW"]),
        (["--size", "10x60"], ScaleError, ["20 x 30", "10 x 60"]),
        (["--mpp", "0.25"], DataError, ["pixel size of a.png", "--input-mpp"]),
        (["--mpp", "1", "--input-mpp", "0.5"], ScaleError, ["at most 0.5"]),
        (["--mpp", "nan", "--input-mpp", "0.5"], ScaleError, ["--mpp", "nan"]),
        (["--mpp", "0.2", "--input-mpp", "-1"], ScaleError, ["--input-mpp", "-1"]),
        (["--scale", 2, "--device", "warp"], ConfigError, ["'warp'"]),
        (["--scale", 2, "--precision", "int1"], ConfigError, ["'int1'"]),
    ],
)
def test_options_that_make_no_sense(options, kind, words):
    arguments = ["upscale", "a.png", "b.png", "--preset", "tiny", "--weights", "../weights/tiny.safetensors", *options]
    assert_refused(run(*arguments, preset=None), kind, *words)
