"""Results of the MONAI Label app: those of ``monai_iste.upscale``, in every format, and no file after a failure."""

import json
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image
from slide_files import picture, write_slide_file

import monai_iste
from monai_iste import DEFAULT_PRESET
from monai_iste.errors import ConfigError, DataError, ScaleError, ShapeError
from monai_iste.inferers import Region, Tiler
from monai_iste.label import upscaler
from monai_iste.label.request import (
    SUFFIXES,
    parse_request,
)
from monai_iste.label.upscaler import LabelUpscaler
from monai_iste.networks import load_network, released_weights
from monai_iste.networks.weights import read_weights


@pytest.fixture
def label_upscale(tmp_path, monkeypatch):
    """Files below a temporary folder: (path, **params) -> (pixels, file, record)."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "results"))
    (tmp_path / "results").mkdir()
    label_upscaler = LabelUpscaler(tmp_path / "model")

    def ask(path, crop=False, **params):
        file, record = label_upscaler.upscale(path, parse_request({"device": "cpu", **params}), path.stem, crop)
        return np.asarray(Image.open(file).convert("RGB")), file, record

    ask.upscaler, ask.results = label_upscaler, tmp_path / "results"
    return ask


def test_an_image_is_what_upscale_makes_of_it(label_upscale, tmp_path):
    tile = picture(40, 50)
    Image.fromarray(tile).save(tmp_path / "tile.png")
    pixels, file, record = label_upscale(tmp_path / "tile.png", scale=2.5)
    assert np.array_equal(pixels, monai_iste.upscale(tile, 2.5, device="cpu"))
    assert file.name.startswith("tile_x2.5_")
    assert file.suffix == ".png"
    assert record["image_size"] == [50, 40]
    assert record["result_size"] == record["full_size"] == [125, 100]
    assert record["mpp"] is None
    assert record["provenance"]["preset"] == DEFAULT_PRESET
    assert record["provenance"]["weights"].startswith("sha256 ")
    json.dumps(record)


def test_a_region_of_a_slide_is_cut_out_of_the_whole_result(label_upscale, tmp_path):
    pixels = picture(60, 215)  # two windows, which are blended at 192
    slide = write_slide_file(tmp_path / "slide.tif", pixels, mpp=0.5)
    whole = monai_iste.upscale(pixels, 3.7, device="cpu")
    region, file, record = label_upscale(slide, scale=3.7, location=[170, 20], size=[40, 30], result_extension=".tif")
    assert record["result_location"] == [round(170 * 3.7), 20 * 3.7]
    assert record["result_size"] == [148, 111]
    left, top = record["result_location"]
    assert np.array_equal(region, whole[top : top + 111, left : left + 148])
    mpp = 0.5 * 215 / 796, 0.5 * 60 / 222  # (x, y): the result has whole pixels
    assert record["mpp"] == pytest.approx(mpp)
    assert monai_iste.slides.Slide(file).mpp == pytest.approx(mpp[::-1], rel=1e-6)


def test_by_pixel_size_and_by_full_size(label_upscale, tmp_path):
    slide = write_slide_file(tmp_path / "slide.tif", picture(40, 50), mpp=0.5)
    assert label_upscale(slide, mpp=0.2)[0].shape == (100, 125, 3)
    assert label_upscale(slide, full_size=[90, 41])[0].shape == (41, 90, 3)
    with pytest.raises(ScaleError, match=r"at most 0\.5,"):
        label_upscale(slide, mpp=0.6)
    Image.fromarray(picture(40, 50)).save(tmp_path / "tile.png")
    with pytest.raises(DataError, match="pixel size"):
        label_upscale(tmp_path / "tile.png", mpp=0.2)
    assert label_upscale(tmp_path / "tile.png", mpp=0.2, input_mpp=0.4)[0].shape == (80, 100, 3)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format(label_upscale, tmp_path, suffix):
    if suffix.startswith(".ome"):
        pytest.importorskip("imagecodecs", reason="needs the extra slides")
    slide = write_slide_file(tmp_path / "slide.tif", picture(40, 50), mpp=0.5)
    expected = monai_iste.upscale(picture(40, 50), 1.5, device="cpu")
    _, file, _ = label_upscale(slide, scale=1.5, result_extension=suffix)
    assert file.name.endswith(suffix)
    with monai_iste.slides.Slide(file) as result:
        found = result.read(Region(0, 0, 60, 75))
    error = np.abs(found.astype(int) - expected).mean()
    assert error == 0 if suffix in (".png", ".tif", ".tiff") else error < 6


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"scale": 0}, ScaleError),
        ({"scale": -2}, ScaleError),
        ({"scale": 0.5}, ScaleError),
        ({"scale": 1e9}, ScaleError),
        ({"scale": 17}, ScaleError),
        ({"scale": float("nan")}, ScaleError),
        ({"scale": 2, "location": [40, 0], "size": [20, 20]}, ShapeError),
        ({"scale": 2, "device": "cuda:99"}, ConfigError),
    ],
)
def test_what_cannot_be_leaves_no_file(label_upscale, tmp_path, params, error):
    Image.fromarray(picture(40, 50)).save(tmp_path / "tile.png")
    with pytest.raises(error):
        label_upscale(tmp_path / "tile.png", **params)
    assert not list(label_upscale.results.iterdir())


def test_the_size_of_a_result_is_bounded(label_upscale, tmp_path, monkeypatch):
    monkeypatch.setattr(upscaler, "MAX_OUTPUT_PIXELS", 5000)
    Image.fromarray(picture(40, 50)).save(tmp_path / "tile.png")
    with pytest.raises(ScaleError, match="at most 5,000 pixels, got 100 x 80"):
        label_upscale(tmp_path / "tile.png", scale=2)
    assert label_upscale(tmp_path / "tile.png", scale=2, location=[0, 0], size=[50, 25])[0].shape == (50, 100, 3)


def test_a_failure_halfway_leaves_no_file(label_upscale, tmp_path, monkeypatch):
    def bands(*args):
        yield torch.zeros(3, 16, 100)
        raise DataError("readable pixels", "damage", "Copy it again.")

    monkeypatch.setattr(Tiler, "bands", bands)
    Image.fromarray(picture(40, 50)).save(tmp_path / "tile.png")
    with pytest.raises(DataError, match="damage"):
        label_upscale(tmp_path / "tile.png", scale=2)
    assert not list(label_upscale.results.iterdir())


def test_the_network_is_loaded_once_and_again_after_a_training(label_upscale, tmp_path):
    Image.fromarray(picture(24, 24)).save(tmp_path / "tile.png")
    released, _ = label_upscale.upscaler.network("cpu")
    before = label_upscale(tmp_path / "tile.png", scale=2)
    assert label_upscale.upscaler.network("cpu")[0] is released
    state = {k: v * 0.9 for k, v in read_weights(released_weights(DEFAULT_PRESET)).items()}
    (tmp_path / "model").mkdir()
    torch.save(state, tmp_path / "model" / "model.pt")
    after = label_upscale(tmp_path / "tile.png", scale=2)
    assert after[2]["provenance"]["weights"] != before[2]["provenance"]["weights"]
    network = load_network(DEFAULT_PRESET, tmp_path / "model" / "model.pt")
    assert np.array_equal(after[0], monai_iste.upscale(picture(24, 24), 2, model=network))
    assert not np.array_equal(after[0], before[0])
