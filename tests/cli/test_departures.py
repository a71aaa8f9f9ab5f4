"""Warnings about inputs outside what the weights learned, and the clean-up at scale 1."""

import json

import numpy as np
import pytest
from commands import TISSUE, run
from PIL import Image
from tiny_preset import save_tiny_weights

from monai_iste import DEFAULT_PRESET
from monai_iste.functional import upscale
from monai_iste.networks import presets
from monai_iste.networks.learned_range import LearnedRange
from monai_iste.networks.presets import PRESETS


@pytest.fixture
def learned(monkeypatch, weights):
    """The tiny weights count as released, for pixels of 0.25 to 4 um."""
    monkeypatch.setattr(presets, "released_weights", lambda name: weights if name == "tiny" else None)
    monkeypatch.setitem(PRESETS, "tiny", PRESETS["tiny"]._replace(learned=LearnedRange((0.25, 4), (0, 1), 100)))


@pytest.mark.parametrize("output", ["b.png", "b.ome.tiff"])
def test_an_input_outside_the_range_is_named_once_and_reported(learned, output):
    command = ("upscale", "a.png", output, "--scale", 2, "--json")
    result = run(*command, "--input-mpp", 0.05)
    assert result.exit_code == 0
    warnings = [line for line in result.stderr.splitlines() if "outside" in line]
    assert warnings == [
        "warning: a.png is outside what the weights learned: pixels of 0.05 um (learned: 0.25 to 4); compare with "
        "bicubic interpolation"
    ]
    (image,) = json.loads(result.stdout)["images"]
    assert f"warning: a.png is {image['warning']}" == warnings[0]
    result = run(*command, "--input-mpp", 0.5, "--overwrite")
    assert "outside" not in result.stderr
    assert json.loads(result.stdout)["images"][0]["warning"] == ""


def test_own_weights_have_no_known_range(learned, weights, tmp_path):
    own, copy = save_tiny_weights(tmp_path / "own.safetensors", seed=1), tmp_path / "copy.safetensors"
    copy.write_bytes(weights.read_bytes())
    for file, is_known in ((own, False), (copy, True)):
        result = run("upscale", "a.png", f"{file.stem}.png", "--scale", 2, "--input-mpp", 0.05, weights=file)
        assert result.exit_code == 0
        assert ("outside" in result.stderr) == is_known


@pytest.mark.parametrize("output", ["b.png", "b.ome.tiff"])
def test_scale_1_keeps_grid_and_pixel_size(output):
    result = run("upscale", "a.png", output, "--scale", 1, "--input-mpp", 0.5, "--json")
    assert result.exit_code == 0
    (image,) = json.loads(result.stdout)["images"]
    assert image["output_size"] == image["input_size"] == [20, 30]
    assert image["scale"] == [1, 1]
    assert image["mpp"] == [0.5, 0.5]
    if output == "b.png":
        pixels = np.asarray(Image.open(output))
        assert not np.array_equal(pixels, TISSUE[:20, :30])  # the network, not a copy


def test_scale_1_in_python_is_on_the_same_grid():
    """Released weights leave every pixel of a smooth image about as it is: nothing is shifted."""
    y, x = np.mgrid[:96, :80]
    smooth = np.stack([128 + 60 * np.sin(y / 9), 128 + 60 * np.cos(x / 7), 100 + x], -1).astype(np.uint8)
    result = upscale(smooth, 1, model=DEFAULT_PRESET)
    assert result.shape == smooth.shape
    assert np.abs(result.astype(int) - smooth)[8:-8, 8:-8].mean() < 2
