"""One size policy: a stated pixel size within 1 % of the requested one counts as equal, in every interface."""

import json
import tempfile

import pytest
import torch
from monai.data import MetaTensor
from PIL import Image
from reference import assert_teaches
from slide_files import picture, write_slide_file
from typer.testing import CliRunner

from monai_iste.cli import main as cli
from monai_iste.errors import ConfigError, DataError, ScaleError
from monai_iste.inferers.output_size import OutputSize, require_one
from monai_iste.io.pixel_size import MPP_TOLERANCE, find_mpp, same_mpp
from monai_iste.label.request import parse_request
from monai_iste.label.upscaler import LabelUpscaler
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.slides import Slide, SuperResolvedWSIReader, plan_slide
from monai_iste.transforms import SuperResolveToMpp

#: What scanners state for 40x, each within 1 % of 0.25 um.
ALMOST = [0.2476, 0.2498, 0.25, 0.252, 0.2524]

SIZE = (60, 75)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()


@pytest.fixture
def slide_file(tmp_path):
    return lambda mpp: write_slide_file(tmp_path / f"{mpp}.tif", picture(*SIZE), mpp=mpp, levels=1)


# --- the policy -------------------------------------------------------------------------------------------------------


def test_two_pixel_sizes_within_one_per_cent_are_the_same():
    assert MPP_TOLERANCE == 0.01
    assert all(same_mpp(mpp, 0.25) for mpp in ALMOST)
    assert not any(same_mpp(mpp, 0.25) for mpp in (0.247, 0.253, 0.5))


@pytest.mark.parametrize("mpp", ALMOST)
def test_an_image_of_almost_the_pixel_size_keeps_its_own_size(mpp):
    for resolve in (OutputSize(mpp=0.25).resolve, OutputSize(mpp=(0.25, 0.25)).resolve_upscaled):
        assert resolve((1000, 997), (mpp, mpp)) == (1000, 997)


def test_each_axis_that_has_the_pixel_size_keeps_its_length():
    assert OutputSize(mpp=0.25).resolve_upscaled((1000, 500), (0.2498, 0.5)) == (1000, 1000)
    assert OutputSize(mpp=0.25).resolve((1000, 500), (0.252, 0.125)) == (1000, 250)


def test_a_coarser_image_grows_and_a_finer_one_is_refused_where_the_network_is_meant():
    assert OutputSize(mpp=0.3).resolve_upscaled((100, 200), (0.5, 0.5)) == (167, 333)
    assert OutputSize(mpp=0.5).resolve((100, 200), (0.25, 0.25)) == (50, 100)
    with pytest.raises(ScaleError) as caught:
        OutputSize(mpp=0.5).resolve_upscaled((100, 200), (0.49, 0.6))
    assert_teaches(caught.value, "at most 0.49", "0.5", "resampler")
    with pytest.raises(DataError) as caught:
        OutputSize(mpp=0.5).resolve((100, 200), None, "a.svs")
    assert_teaches(caught.value, "pixel size of a.svs", "--input-mpp")


def test_scales_and_sizes():
    assert OutputSize(scale="2.5").resolve((10, 20)) == (25, 50)
    assert OutputSize(scale=0.5).resolve((10, 20)) == (5, 10)
    assert OutputSize(size=[5, 30]).resolve((10, 20)) == (5, 30)
    for wanted in (OutputSize(scale=0.5), OutputSize(size=(5, 30))):
        with pytest.raises(ScaleError):
            wanted.resolve_upscaled((10, 20))
    for scale in (-1, 0, float("nan"), float("inf")):
        with pytest.raises(ScaleError) as caught:
            OutputSize(scale).resolve_upscaled((10, 20))
        assert_teaches(caught.value, "finite scale above 0")


@pytest.mark.parametrize("options", [{}, {"scale": 2, "size": (3, 3)}, {"size": (3, 3), "mpp": 1.0}])
def test_exactly_one_is_given(options):
    with pytest.raises(ConfigError) as caught:
        OutputSize(**options)
    assert_teaches(caught.value, "one of scale, size and mpp", "several" if options else "none")
    require_one({"--scale": 0, "--size": None})


@pytest.mark.parametrize("mpp", [0, -0.25, float("nan"), (0.25, 0.0)])
def test_pixel_sizes_that_are_none(mpp):
    with pytest.raises(ConfigError) as caught:
        OutputSize(mpp=mpp)
    assert_teaches(caught.value, "above 0")


# --- its users --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mpp", ALMOST)
def test_slides_and_their_plans(slide_file, network, mpp):
    with Slide(slide_file(mpp)) as slide:
        assert slide.size_at(0.25) == SIZE
        plan = plan_slide(slide, network, mpp=0.25)
    assert plan.output == SIZE
    assert plan.output_mpp == pytest.approx((mpp, mpp), rel=1e-3)


@pytest.mark.parametrize("mpp", ALMOST)
def test_the_reader_of_slides(slide_file, mpp):
    reader = SuperResolvedWSIReader(0.25, model=torch.nn.Identity())
    wsi = reader.read(slide_file(mpp))
    assert reader.get_size(wsi, 0) == SIZE
    with Slide(slide_file(mpp)) as slide:
        patch, _ = reader.get_data(wsi, location=(0, 0), size=SIZE, level=0)
        assert (patch.transpose(1, 2, 0) == picture(*SIZE)).all()
        assert slide.size == SIZE


@pytest.mark.parametrize("mpp", ALMOST)
def test_the_transform(mpp):
    image = MetaTensor(torch.zeros(3, *SIZE), meta={"mpp": mpp})
    assert SuperResolveToMpp(0.25, model=torch.nn.Identity())(image).shape == (3, *SIZE)


@pytest.mark.parametrize("mpp", ALMOST)
@pytest.mark.parametrize("slide", [False, True])
def test_the_command(slide_file, tmp_path, mpp, slide):
    """Both of its ways: an image in memory, and a slide by windows."""
    options = ["--mpp", 0.25, "--preset", "iste_light", "--device", "cpu", "--dry-run", "--json"]
    if slide:
        pytest.importorskip("zarr")
        options += ["--region", "0,0,8,8"]
    arguments = ["upscale", slide_file(mpp), tmp_path / "out.tif", *options]
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    (record,) = json.loads(result.stdout)["images"]
    assert record["scale"] == [1, 1]
    assert record["output_size"] == ([8, 8] if slide else list(SIZE))


@pytest.mark.parametrize("mpp", ALMOST)
def test_label(slide_file, tmp_path, monkeypatch, mpp):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    request = parse_request({"device": "cpu", "mpp": 0.25, "location": [0, 0], "size": [8, 8]})
    file, record = LabelUpscaler(tmp_path / "model").upscale(slide_file(mpp), request, "a")
    assert (record["full_size"], Image.open(file).size) == (list(SIZE[::-1]), (8, 8))


@pytest.mark.parametrize("mpp", ALMOST)
def test_the_users_word_agrees_with_the_file(slide_file, mpp):
    assert find_mpp(slide_file(mpp), 0.25).stated is None
