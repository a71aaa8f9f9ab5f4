"""Results of plain images in a folder: only a whole result of the same image, network and size counts as there."""

import os

import numpy as np
import pytest
from commands import TISSUE, run
from PIL import Image
from tiny_preset import save_tiny_weights

from monai_iste.errors import OutputError

NAMES = ["a.png", "b.jpg", "c.tif"]


@pytest.fixture
def folder():
    os.makedirs("in")
    for name in NAMES:
        Image.fromarray(TISSUE[:20, :30]).save(f"in/{name}")
    os.remove("a.png")
    assert run("upscale", "in", "out", "--scale", 2).exit_code == 0


def assert_told(result, name, words):
    assert result.exit_code == OutputError.exit_code, result.output
    assert result.stderr.count("error: ") == 1
    assert f"out/{name}" in result.stderr
    assert words in result.stderr
    assert "2 of 3 are there already" in result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_another_image_of_the_same_size(folder, name):
    Image.fromarray(TISSUE[:40, :60]).save(f"out/{name}")
    assert_told(run("upscale", "in", "out", "--scale", 2), name, "not complete")


@pytest.mark.parametrize("name", NAMES)
def test_a_flipped_bit_of_a_result(folder, name):
    with open(f"out/{name}", "r+b") as file:
        size = os.path.getsize(file.name)
        file.seek(size // 2)
        byte = file.read(1)[0]
        file.seek(size // 2)
        file.write(bytes([byte ^ 16]))
    assert_told(run("upscale", "in", "out", "--scale", 2), name, "not complete")
    assert run("upscale", "in", "out", "--scale", 2, "--overwrite").exit_code == 0
    assert "3 of 3 are there already" in run("upscale", "in", "out", "--scale", 2).stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_replaced_input_of_the_same_size(folder, name):
    Image.fromarray(TISSUE[100:120, :30]).save(f"in/{name}")
    assert_told(run("upscale", "in", "out", "--scale", 2), name, "another image, network or blur")


def test_other_weights_and_pixel_sizes(folder, tmp_path):
    other = save_tiny_weights(tmp_path / "other.safetensors", seed=1)
    for arguments, options in ((["--scale", 2], {"weights": other}), (["--scale", 2, "--input-mpp", 0.5], {})):
        result = run("upscale", "in", "out", *arguments, **options)
        assert result.exit_code == OutputError.exit_code, result.output
        assert result.stderr.count("another image, network or blur") == 3


def test_a_result_of_one_image_counts_in_its_folder(folder):
    before = np.asarray(Image.open("out/a.png"))
    os.remove("out/a.png")
    assert run("upscale", "in/a.png", "out/a.png", "--scale", 2).exit_code == 0
    assert "3 of 3 are there already" in run("upscale", "in", "out", "--scale", 2).stderr
    np.testing.assert_array_equal(Image.open("out/a.png"), before)
