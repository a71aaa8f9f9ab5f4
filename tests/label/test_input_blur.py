"""``input_blur`` of a request to the MONAI Label app: read, used, recorded, refused."""

import json
import math
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from reference import assert_teaches
from slide_files import picture, write_slide_file
from told_preset import add_told_preset, told_network

import monai_iste
from monai_iste.errors import ConfigError
from monai_iste.label.request import error_response, parse_request
from monai_iste.label.upscaler import LabelUpscaler
from monai_iste.networks import create_network

TILE = picture(40, 50)


@pytest.fixture
def upscaler(tmp_path, monkeypatch):
    """An app whose training left a network that can be told, and a folder for its results."""
    add_told_preset(monkeypatch)
    (tmp_path / "results").mkdir()
    (tmp_path / "model").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "results"))
    torch.save(told_network().state_dict(), tmp_path / "model" / "model.pt")
    Image.fromarray(TILE).save(tmp_path / "tile.png")
    return LabelUpscaler(tmp_path / "model")


def ask(upscaler, path, **params):
    return upscaler.upscale(path, parse_request({"device": "cpu", **params}), path.stem)


# --- parameters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "blur"), [(0, 0.0), (0.3, 0.3), ("0.3", 0.3), (None, None)])
def test_the_blur_of_a_request(value, blur):
    assert parse_request({"input_blur": value}).input_blur == blur
    assert parse_request({}).input_blur is None


@pytest.mark.parametrize("value", ["soft", True, [0.3], {"sigma": 1}, -0.1, "-0.1", math.nan, "nan", math.inf, "inf"])
def test_a_blur_that_cannot_be(value):
    with pytest.raises(ConfigError) as caught:
        parse_request({"input_blur": value})
    status, sentence = error_response(caught.value)
    assert status == 400
    assert "input_blur" in sentence
    assert_teaches(caught.value)


@pytest.mark.parametrize("name", ["input_blurr", "inputblur", "input-blur"])
def test_a_misspelled_name(name):
    with pytest.raises(ConfigError, match="Did you mean 'input_blur'"):
        parse_request({name: 0.3})


# --- results ----------------------------------------------------------------------------------------------------------


def test_an_image_is_what_upscale_makes_of_it(upscaler, tmp_path):
    results = {}
    for blur in (None, 0, 0.4, None):  # the network is loaded once
        file, record = ask(upscaler, tmp_path / "tile.png", scale=2.5, **({} if blur is None else {"input_blur": blur}))
        results[blur] = np.asarray(Image.open(file))
        expected = monai_iste.upscale(TILE, 2.5, model=told_network(), input_blur=blur)
        np.testing.assert_array_equal(results[blur], expected)
        assert record["provenance"].get("input_blur") == (None if blur is None else str(float(blur)))
        assert record["provenance"]["preset"] == "told"
        json.dumps(record)
    assert np.abs(results[0].astype(int) - results[0.4]).mean() > 1
    assert np.abs(results[0].astype(int) - results[None]).mean() > 1


def test_a_pyramid_of_a_region_states_it(upscaler, tmp_path):
    pytest.importorskip("imagecodecs", reason="needs the extra slides")
    import tifffile

    slide = write_slide_file(tmp_path / "slide.tif", TILE)
    options = {"location": [5, 6], "size": [30, 20], "result_extension": ".ome.tif"}
    for blur, states in (({}, False), ({"input_blur": 0.25}, True)):
        file, _ = ask(upscaler, slide, scale=2, **options, **blur)
        with tifffile.TiffFile(file) as tiff:
            assert ('<M K="input_blur">0.25</M>' in tiff.ome_metadata) == states


def refusal(upscaler, path, **params):
    with pytest.raises(ConfigError) as caught:
        ask(upscaler, path, scale=2, **params)
    assert not list((path.parent / "results").iterdir())
    status, sentence = error_response(caught.value, path, "tile")
    assert status == 400
    return sentence


def test_a_network_that_takes_none_is_a_sentence(tmp_path, upscaler):
    torch.save(create_network("iste_light").state_dict(), tmp_path / "model" / "model.pt")
    sentence = refusal(upscaler, tmp_path / "tile.png", input_blur=0.3)
    assert "a network that can be told the blur of its input, got an input_blur of 0.3" in sentence


def test_more_than_the_released_weights_learned_is_a_sentence(tmp_path, upscaler):
    (tmp_path / "model" / "model.pt").unlink()
    sentence = refusal(upscaler, tmp_path / "tile.png", input_blur=0.8)
    assert "an input_blur from 0 to 0.55 pixels, as learned, got 0.8" in sentence


@pytest.mark.parametrize("key", ["input_blur", "scale", "mpp", "input_mpp", "level"])
def test_a_number_beyond_all_that_floating_point_has(key):
    with pytest.raises(ConfigError) as caught:
        parse_request({key: 10**400})
    assert_teaches(caught.value, f"a number for {key}", "1000", "Such as 0.3" if key == "input_blur" else "Such as 2.5")
