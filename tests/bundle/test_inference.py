"""The inference workflows: a folder of images, and a slide."""

import numpy as np
import pytest
import torch
from bundle_workflows import workflow
from openslide import OpenSlide
from PIL import Image
from slide_files import picture, write_slide_file

from monai_iste.data import sample_datalists
from monai_iste.errors import (
    find_error,
)
from monai_iste.functional import upscale
from monai_iste.networks import create_iste


def test_inference_upscales_a_folder(tmp_path):
    network = create_iste("iste_light")
    for decoder in (network.local_pixel_decoder, network.local_texture_decoder):
        torch.nn.init.zeros_(decoder.mlp[-1].weight)
        torch.nn.init.zeros_(decoder.mlp[-1].bias)
    torch.save(network.state_dict(), tmp_path / "bicubic.pt")  # only the bicubic residual is left
    (tmp_path / "in" / "sub").mkdir(parents=True)
    tile = Image.fromarray(sample_datalists()[1][0]["image"][:, :30, :40].transpose(1, 2, 0))
    tile.save(tmp_path / "in" / "sub" / "tile.png")
    flow = workflow(
        "inference.json",
        kind="infer",
        checkpoint=str(tmp_path / "bicubic.pt"),
        dataset_dir=str(tmp_path / "in"),
        output_dir=str(tmp_path / "out"),
        scale=3.7,
    )
    flow.initialize()
    flow.run()
    result = np.asarray(Image.open(tmp_path / "out" / "sub" / "tile_x3.7.png")).astype(float)
    expected = np.asarray(tile.resize((148, 111), Image.Resampling.BICUBIC)).astype(float)
    assert result.shape == expected.shape
    assert np.abs(result - expected).mean() < 1.5  # the kernels differ: a = -0.75 and -0.5


def test_inference_upscales_a_slide(tmp_path, capsys):
    """The same pixels as :func:`monai_iste.upscale`, with the pixel size that was asked for."""
    pytest.importorskip("zarr")
    pixels = picture(100, 120)
    options = {
        "slide": str(write_slide_file(tmp_path / "a.tif", pixels, mpp=0.5)),
        "output": str(tmp_path / "a.ome.tif"),
        "output_dir": str(tmp_path),
        "mpp": 0.2,
        "compression": "lossless",
    }
    for told in ("wrote", "is complete already"):
        flow = workflow("inference_wsi.json", kind="infer", **options)
        flow.initialize()
        flow.run()
        assert told in capsys.readouterr().out
    with OpenSlide(tmp_path / "a.ome.tif") as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.2)
        found = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    np.testing.assert_array_equal(found, upscale(pixels, 2.5))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "--slide"),
        ({"slide": "a.svs"}, "a.svs, which does not exist"),
        ({"slide": "a.tif"}, "--output"),
        ({"slide": "a.tif", "output": "b.ome.tif", "scale": None}, "one of scale, size and mpp"),
        ({"slide": "a.tif", "output": "b.ome.tif", "compression": "zip"}, "a compression: jpeg, lossless"),
        ({"slide": "a.tif", "output": "b.ome.tif", "region": [0, 0, 9]}, "four whole numbers"),
    ],
)
def test_a_slide_that_cannot_be_upscaled(changes, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_slide_file(tmp_path / "a.tif", picture(40, 50))
    flow = workflow("inference_wsi.json", kind="infer", output_dir=".", **{"scale": 2, **changes})
    flow.initialize()
    with pytest.raises(RuntimeError) as caught:
        flow.run()
    assert words in str(find_error(caught.value))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif"]
