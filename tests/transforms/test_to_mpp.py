"""Images at a pixel size: read from the metadata, upscaled or reduced to it, without displacement."""

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, MetaTensor, PatchWSIDataset, decollate_batch
from monai.transforms import Compose, Resized, SpatialCropd, Zoom
from PIL import Image
from reference import assert_teaches
from torch import nn

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, DataError, ScaleError, ShapeError
from monai_iste.functional import upscale
from monai_iste.inferers.output_size import OutputSize
from monai_iste.io.pixel_size import mpp_pair
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.transforms import SuperResolveToMpp, SuperResolveToMppd, SuperResolveToMppDict, image_mpp

TISSUE = torch.from_numpy(sample_datalists()[0][0]["image"].copy())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True).eval()


class Never(nn.Module):
    """Substitute for a network where nothing is upscaled."""

    def forward(self, image, coord, cell):
        raise AssertionError("the network was asked")


@pytest.fixture
def slide(tmp_path):
    """Tissue at 1.0 x 0.5 um (y, x) in a pyramid of two levels, the second a quarter as large, after a thumbnail."""
    return write_pyramid(tmp_path / "slide.tif", mpp=(1.0, 0.5))


def write_pyramid(path, mpp):
    pixels = TISSUE[:, :192, :256].permute(1, 2, 0).numpy()
    common = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(path) as tiff:
        for step in (1, 4):
            tags = {} if mpp is None else {"resolution": (1e4 / mpp[1] / step, 1e4 / mpp[0] / step)}
            kind = {"resolutionunit": "CENTIMETER", "subfiletype": 0 if step == 1 else 1}
            tiff.write(np.ascontiguousarray(pixels[::step, ::step]), **common, **tags, **kind)
    return str(path)


def patch(slide, backend="openslide", level=0, **transform):
    data = [{"image": slide, "location": (64, 64), "label": 0}]
    return PatchWSIDataset(data, patch_size=32, patch_level=level, reader=backend, **transform)[0]["image"]


# --- sizes and pixels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "source", "target", "expected"),
    [
        ((64, 64), (1.0, 1.0), (0.25, 0.25), (256, 256)),
        ((128, 100), (0.499, 0.499), (0.25, 0.25), (255, 200)),
        ((100, 100), (0.167, 0.167), (0.25, 0.25), (67, 67)),
        ((50, 40), (0.5, 0.25), (0.25, 0.5), (100, 20)),
        ((50, 40), (0.2525, 0.2475), (0.25, 0.25), (50, 40)),  # 1 % either way
        ((50, 40), (0.2530, 0.25), (0.25, 0.25), (51, 40)),
        ((1, 9), (0.1, 0.1), (1.0, 1.0), (1, 1)),
    ],
)
def test_sizes_follow_the_pixel_size_axis_by_axis(size, source, target, expected):
    assert OutputSize(mpp=target).resolve(size, source) == expected


def test_a_coarser_image_is_upscaled_by_the_network(network):
    image = TISSUE[:, :40, :36]
    result = SuperResolveToMpp(0.25, source_mpp=0.9, model=network)(image)
    assert result.shape == (3, 144, 130)
    assert torch.equal(result, upscale(image, size=(144, 130), model=network))
    assert np.array_equal(SuperResolveToMpp(0.25, source_mpp=0.9, model=network)(image.numpy()), result)
    real = SuperResolveToMpp(0.25, source_mpp=0.9, model=network)(image / 255)
    assert real.dtype == torch.float32
    assert (real - result / 255).abs().max() <= 0.502 / 255


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_a_finer_image_is_reduced_with_antialiasing(kind):
    """As Pillow's Lanczos; and a pattern that the result cannot hold becomes gray instead of a false pattern."""
    image = TISSUE[:, :90, :60]
    expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).resize((40, 60), Image.Resampling.LANCZOS))
    given = image if kind == "uint8" else image / 255
    result = SuperResolveToMpp(0.25, source_mpp=1 / 6, model=Never())(given)
    assert str(result.dtype) == f"torch.{kind}"
    difference = result.float() * (1 if kind == "uint8" else 255) - torch.tensor(expected).permute(2, 0, 1)
    assert difference.abs().max() <= 1.5  # Pillow rounds twice
    stripes = torch.zeros(3, 48, 48)
    stripes[:, :, ::2] = 1
    gray = SuperResolveToMpp(0.5, source_mpp=0.2, model=Never())(stripes)
    assert (gray[:, :, 3:-3] - 0.5).abs().max() < 0.06


def test_an_image_within_one_per_cent_stays_as_it_is():
    for source in (0.2476, 0.25, 0.2524):
        assert torch.equal(SuperResolveToMpp(0.25, source_mpp=source, model=Never())(TISSUE), TISSUE)


def test_an_axis_may_shrink_while_the_other_grows(network):
    image = TISSUE[:, :60, :20]
    result = SuperResolveToMpp(0.25, source_mpp=(0.125, 0.5), model=network)(image)
    narrow = SuperResolveToMpp((0.25, 0.5), source_mpp=(0.125, 0.5), model=Never())(image)
    assert narrow.shape == (3, 30, 20)
    assert torch.equal(result, upscale(narrow, size=(30, 40), model=network))


def test_an_exact_size_stands_above_rounding(network):
    image = MetaTensor(TISSUE[:, :128, :128], meta={"mpp": 0.499})
    assert SuperResolveToMpp(0.25, model=network)(image).shape == (3, 255, 255)
    result = SuperResolveToMpp(0.25, size=(256, 256), model=network)(image)
    assert result.shape == (3, 256, 256)
    assert result.meta["mpp"] == pytest.approx((0.2495, 0.2495))
    small = SuperResolveToMpp(0.5, size=(127, 128), model=Never())(image)  # within 1 %, and still exact
    assert small.shape == (3, 127, 128)


@pytest.mark.parametrize("size", [(256, 280), (200, 256)])
def test_an_exact_size_may_not_falsify_the_pixel_size(size):
    with pytest.raises(ShapeError) as caught:
        SuperResolveToMpp(0.25, size=size, source_mpp=1.0, model=Never())(TISSUE[:, :64, :64])
    assert_teaches(caught.value, "0.25", "64 x 64", f"{size[0]} x {size[1]}")


# --- metadata ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stated", [0.5, (0.5, 0.5), [0.5, 0.5], np.array([0.5, 0.5]), torch.tensor([0.5, 0.5]), np.float32(0.5)]
)
def test_metadata_may_state_the_pixel_size(stated):
    assert image_mpp(MetaTensor(torch.zeros(3, 4, 4), meta={"mpp": stated})) == (0.5, 0.5)


@pytest.mark.parametrize("backend", ["openslide", "tifffile"])
@pytest.mark.parametrize(("level", "expected"), [(0, (1.0, 0.5)), (1, (4.0, 2.0))])
def test_patches_of_monai_are_looked_up_in_their_slide(slide, backend, level, expected, network):
    image = patch(slide, backend, level)
    assert image_mpp(image) == pytest.approx(expected, rel=1e-3)
    result = SuperResolveToMpp(expected[1] / 2, model=network)(image)
    assert result.shape == (3, 128, 64)
    assert result.meta["path"] == slide


@pytest.mark.parametrize("backend", ["openslide", "tifffile"])
def test_a_thumbnail_is_not_a_level(tmp_path, backend):
    """Though it is the second page of the file, as in Aperio's."""
    pixels, path = TISSUE[:, :192, :192].permute(1, 2, 0).numpy(), tmp_path / "thumbnail.tif"
    common = {"photometric": "rgb", "compression": "zlib", "metadata": None, "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, **common, tile=(64, 64), resolution=(2e4, 2e4))
        tiff.write(np.ascontiguousarray(pixels[::3, ::3]), **common)
        tiff.write(np.ascontiguousarray(pixels[::2, ::2]), **common, tile=(64, 64), subfiletype=1)
    assert image_mpp(patch(str(path), backend, 1)) == pytest.approx((1.0, 1.0))


def test_order_of_the_sources_of_the_pixel_size(slide, network):
    image = patch(slide)
    image.meta["mpp"] = 0.5
    assert image_mpp(image) == (0.5, 0.5)
    assert SuperResolveToMpp(0.25, source_mpp=1.0, model=network)(image).shape == (3, 128, 128)


def test_what_monai_has_resampled_before_counts(slide, network):
    """Half as many pixels are twice as large, whether MONAI halved them or the scanner."""
    halved = Resized("image", (16, 16))({"image": patch(slide)})["image"]
    assert image_mpp(halved) == pytest.approx((2.0, 1.0))
    once = SuperResolveToMpp(0.5, source_mpp=1.0, model=network)(patch(slide))
    smaller = Zoom(0.5, keep_size=False)(once)
    assert image_mpp(smaller) == pytest.approx((1.0, 1.0))
    assert SuperResolveToMpp(0.5, model=network)(smaller / 255).shape == once.shape
    cropped = SpatialCropd("image", roi_start=(4, 4), roi_end=(20, 24))({"image": once})["image"]
    assert image_mpp(cropped) == pytest.approx((0.5, 0.5))


def test_the_second_time_changes_nothing(network):
    image = MetaTensor(TISSUE[:, :20, :20], affine=torch.diag(torch.tensor([3.0, 2, 1, 1])), meta={"mpp": (1.0, 0.5)})
    once = SuperResolveToMpp(0.25, model=network)(image)
    assert once.shape == (3, 80, 40)
    assert once.meta["mpp"] == (0.25, 0.25)
    again = SuperResolveToMpp(0.25, model=Never())(once)
    assert torch.equal(again.as_tensor(), once.as_tensor())
    assert torch.equal(again.affine, once.affine)
    assert image.meta["mpp"] == (1.0, 0.5)
    assert "mpp_spacing" not in image.meta
    assert torch.equal(image.affine.diag(), torch.tensor([3.0, 2, 1, 1], dtype=image.affine.dtype))


def test_metadata_outlive_a_data_loader(network):
    items = [{"image": SuperResolveToMpp(0.25, source_mpp=0.5, model=network)(MetaTensor(TISSUE[:, :8, :8]))}] * 2
    for item in decollate_batch(next(iter(DataLoader(items, batch_size=2)))):
        assert image_mpp(item["image"]) == (0.25, 0.25)
        assert SuperResolveToMpp(0.25, model=Never())(item["image"]).shape == (3, 16, 16)


@pytest.mark.parametrize("source", [1.0, 0.1])
def test_a_landmark_keeps_its_place_in_the_world(network, source):
    """A spot, found again by its center of mass and brought to the world by the affine."""
    affine = torch.diag(torch.tensor([source, source, 1, 1], dtype=torch.float64))
    affine[:2, 3] = torch.tensor([100, 200])
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(70.0), indexing="ij")
    spot = torch.exp(-((y - 22.3) ** 2 + (x - 41.8) ** 2) / 18).expand(3, -1, -1).clone()
    result = SuperResolveToMpp(0.25, source_mpp=source, model=network)(MetaTensor(spot, affine=affine))
    weight = (result.as_tensor()[0] - 0.2).clamp(min=0).double()
    rows, columns = torch.arange(weight.shape[0]).double(), torch.arange(weight.shape[1]).double()
    where = [(weight.sum(1) * rows).sum() / weight.sum(), (weight.sum(0) * columns).sum() / weight.sum(), 0, 1]
    world = result.affine @ torch.tensor(where, dtype=torch.float64)
    expected = torch.tensor([100 + 22.3 * source, 200 + 41.8 * source], dtype=torch.float64)
    assert (world[:2] - expected).abs().max() < 0.1 * 0.25


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "image", [TISSUE, TISSUE.numpy(), MetaTensor(TISSUE), MetaTensor(TISSUE, meta={"path": "a.tif"})]
)
def test_an_unknown_pixel_size_is_refused(image):
    with pytest.raises(DataError) as caught:
        SuperResolveToMpp(0.25, model=Never())(image)
    assert_teaches(caught.value, "source_mpp", "0.25 for 40x", "meta['mpp']")


def test_a_slide_that_does_not_state_it_is_refused(tmp_path):
    slide = write_pyramid(tmp_path / "silent.tif", mpp=None)
    with pytest.raises(DataError) as caught:
        SuperResolveToMpp(0.25, model=Never())(patch(slide))
    assert_teaches(caught.value, "silent.tif", "source_mpp")
    image = patch(write_pyramid(tmp_path / "two.tif", mpp=(0.5, 0.5)))
    image.meta["level"] = 2
    with pytest.raises(DataError) as caught:
        image_mpp(image)
    assert_teaches(caught.value, "level 2", "below 2")


@pytest.mark.parametrize("mpp", [0, -0.5, float("nan"), float("inf"), 40, "0.25 um", (0.5, 0.5, 0.5), None, (0.5, 0)])
def test_invalid_pixel_sizes_are_refused(mpp):
    """40 is what someone writes who means the objective."""
    with pytest.raises(ConfigError) as caught:
        mpp_pair(mpp)
    assert_teaches(caught.value, "micrometers", "40x is about 0.25")
    with pytest.raises(DataError):
        image_mpp(MetaTensor(torch.zeros(3, 4, 4), meta={"mpp": mpp}))
    with pytest.raises(ConfigError):
        SuperResolveToMpp(mpp)


@pytest.mark.parametrize("size", [256, (0, 4), (256,), (2.5, 4), "ab"])
def test_invalid_sizes_are_refused(size):
    with pytest.raises(ConfigError) as caught:
        SuperResolveToMpp(0.25, size=size)
    assert_teaches(caught.value, "(H, W)")


@pytest.mark.parametrize(
    "image", [torch.zeros(1, 9, 9), torch.zeros(3, 9, 9, dtype=torch.int32), torch.full((3, 9, 9), 7.0)]
)
@pytest.mark.parametrize("source", [0.1, 1.0])
def test_unsupported_images_are_refused(image, source, network):
    with pytest.raises(ShapeError):
        SuperResolveToMpp(0.25, source_mpp=source, model=network)(image)
    with pytest.raises(ShapeError):
        SuperResolveToMpp(0.25, source_mpp=source, model=network)(image[None])


def test_a_result_beyond_memory_is_refused():
    with pytest.raises(ScaleError):
        SuperResolveToMpp(0.001, source_mpp=1.0, model=Never())(TISSUE)


# --- in pipelines -----------------------------------------------------------------------------------------------------


def test_the_dictionary_version_by_its_names(network):
    data = {"image": TISSUE[:, :8, :8], "label": 3}
    expected = SuperResolveToMpp(0.5, source_mpp=1.0, model=network)(data["image"])
    settings = {"_target_": "SuperResolveToMppd", "keys": ["image", "mask"], "mpp": 0.5, "source_mpp": 1.0}
    parser = ConfigParser({"it": {**settings, "model": "$@network", "allow_missing_keys": True}, "network": network})
    result = parser.get_parsed_content("it")(data)
    assert torch.equal(result["image"], expected)
    assert result["label"] == 3
    assert data["image"].shape == (3, 8, 8)
    assert SuperResolveToMppDict is SuperResolveToMppd
    with pytest.raises(KeyError):
        SuperResolveToMppd("mask", 0.5, source_mpp=1.0, model=network)(data)


def test_a_pipeline_on_patches_of_monai(slide, network):
    """One line in front of a chain that was made for patches of 256 pixels."""
    chain = Compose([SuperResolveToMppd("image", 0.125, size=(256, 128), model=network), Resized("image", (64, 64))])
    image = patch(slide, transform=chain)
    assert image.shape == (3, 64, 64)
    assert image_mpp(image) == pytest.approx((0.5, 0.25))
