"""The WSI reader presents a slide at another pixel size: geometry, pixels, data sets, a bundle."""

import pickle

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from monai.data import (
    DataLoader,
    MaskedPatchWSIDataset,
    PatchWSIDataset,
    SlidingPatchWSIDataset,
)
from monai.inferers import WSISlidingWindowSplitter
from monai.transforms import LoadImaged
from PIL import Image
from reference import assert_teaches
from torch import nn

from monai_iste.data import sample_datalists
from monai_iste.errors import ConfigError, DataError, ScaleError
from monai_iste.functional import to_range
from monai_iste.inferers import ArbitraryScaleInferer, Region
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.slides import Slide
from monai_iste.slides.compute import Interpolation
from monai_iste.slides.wsi_reader import SuperResolvedWSIReader
from monai_iste.transforms import image_mpp

TISSUE = np.tile(sample_datalists()[0][0]["image"], (1, 2, 2))[:, :230, :250]


class Counting(nn.Module):
    """Number of calls of a network."""

    def __init__(self, network):
        super().__init__()
        self.network, self.calls = network, 0

    def forward_grid(self, image, rows, columns, cell):
        self.calls += 1
        return self.network.forward_grid(image, rows, columns, cell)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True).eval()


def write_slide(path, pixels, mpp, levels=1):
    """A tiled pyramid of (3, h, w) uint8, halved from level to level."""
    common = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", "metadata": None}
    image = Image.fromarray(np.moveaxis(pixels, 0, -1))
    with tifffile.TiffWriter(path) as tiff:
        for level in range(levels):
            part = image.reduce(2**level)
            tags = {} if mpp is None else {"resolution": (1e4 / mpp / 2**level,) * 2, "resolutionunit": "CENTIMETER"}
            tiff.write(np.asarray(part), **common, **tags, subfiletype=int(level > 0))
    return str(path)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """230 x 250 pixels of tissue at 10x, 1.0 um."""
    return write_slide(tmp_path_factory.mktemp("slides") / "10x.tif", TISSUE, 1.0)


@pytest.fixture(scope="module")
def whole(network):
    """The whole slide at 0.25 um, by the inferer: 920 x 1000."""
    image = torch.from_numpy(TISSUE.copy()).float()[None] / 255
    return to_range(ArbitraryScaleInferer()(image, network, scale=(920, 1000))[0], torch.uint8).numpy()


@pytest.fixture
def reader(network):
    return SuperResolvedWSIReader(0.25, model=network)


# --- geometry ---------------------------------------------------------------------------------------------------------


def test_the_slide_has_the_levels_of_a_finer_scan(reader, slide):
    wsi = reader.read(slide)
    assert reader.get_level_count(wsi) == 5
    assert [reader.get_size(wsi, level) for level in range(5)] == [(920 // 2**k, 1000 // 2**k) for k in (0, 1, 2)] + [
        (115, 125),
        (58, 62),
    ]
    assert [reader.get_downsample_ratio(wsi, level) for level in range(5)] == [1, 2, 4, 8, 16]
    assert [reader.get_mpp(wsi, level) for level in range(3)] == [(0.25, 0.25), (0.5, 0.5), (1.0, 1.0)]
    assert reader.get_mpp(wsi, 4) == (230 / 58, 250 / 62)
    assert [reader.get_power(wsi, level) for level in range(3)] == [40, 20, 10]
    assert reader.get_file_path(wsi) == slide
    assert all(reader.get_valid_level(wsi, None, mpp, None) == k for k, mpp in enumerate((0.25, 0.5, 1.0)))
    assert reader.get_valid_level(wsi, None, None, 20) == 1


def test_levels_may_be_those_that_a_pipeline_was_made_for(network, slide):
    reader = SuperResolvedWSIReader(0.25, model=network, downsamples=(1, 4, 16))
    wsi = reader.read(slide)
    assert [reader.get_size(wsi, level) for level in range(3)] == [(920, 1000), (230, 250), (58, 62)]
    assert reader.get_downsample_ratio(wsi, 2) == 16
    pixels, meta = reader.get_data(wsi, location=(40, 80), size=(30, 20), level=1)
    assert np.array_equal(pixels, TISSUE[:, 10:40, 20:40])
    assert meta["mpp"] == (1.0, 1.0)


@pytest.mark.parametrize(("source", "size"), [(1.0, (230, 250)), (0.992, (230, 250)), (0.9, (207, 225))])
def test_the_argument_counts_before_the_file_and_one_per_cent_is_nothing(slide, source, size):
    reader = SuperResolvedWSIReader(1.0, source_mpp=source)
    wsi = reader.read(slide)
    assert reader.get_size(wsi, 0) == size
    assert reader.get_mpp(wsi, 0)[0] == pytest.approx(source * 230 / size[0])
    if size == (230, 250):
        assert np.array_equal(reader.get_data(wsi)[0], TISSUE)


def test_several_slides_are_read_as_a_list(reader, slide):
    several = reader.read([slide, slide])
    assert [reader.get_size(wsi, 0) for wsi in several] == [(920, 1000)] * 2


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_patches_are_parts_of_the_whole(reader, slide, whole):
    """Bit for bit, in any order, over the borders of windows (at 768), and where they overlap."""
    wsi = reader.read(slide)
    for top, left, height, width in [(700, 740, 128, 128), (0, 0, 64, 90), (856, 904, 64, 96), (700, 640, 128, 128)]:
        patch, meta = reader.get_data(wsi, location=(top, left), size=(height, width))
        assert patch.dtype == np.uint8
        assert np.array_equal(patch, whole[:, top : top + height, left : left + width])
        assert meta["location"].tolist() == [top, left]
        assert meta["mpp"] == (0.25, 0.25)
        assert meta["level"] == 0
        assert meta["path"] == slide


def test_a_level_between_target_and_slide_is_upscaled_too(reader, network, slide):
    image = torch.from_numpy(TISSUE.copy()).float()[None] / 255
    expected = to_range(ArbitraryScaleInferer()(image, network, scale=(460, 500))[0], torch.uint8).numpy()
    patch, _ = reader.get_data(reader.read(slide), location=(200, 301), size=(100, 90), level=1)
    assert np.array_equal(patch, expected[:, 100:200, 150:240])  # 150.5 rounds to the even 150


def test_coarser_levels_come_from_the_slide_without_the_network(tmp_path):
    path = write_slide(tmp_path / "10x.tif", TISSUE, 1.0, levels=3)
    reader = SuperResolvedWSIReader(0.25, model=None)
    wsi = reader.read(path)
    with Slide(path) as slide:
        assert np.array_equal(reader.get_data(wsi, level=2)[0], TISSUE)
        coarse = slide.read_at((58, 62), Region(0, 0, 58, 62)).transpose(2, 0, 1)
        assert np.array_equal(reader.get_data(wsi, level=4)[0], coarse)
        patch, _ = reader.get_data(wsi, location=(160, 320), size=(20, 30), level=4)
        assert np.array_equal(patch, slide.read_at((58, 62), Region(10, 20, 20, 30)).transpose(2, 0, 1))
    assert reader._network is None


def test_a_finer_slide_is_reduced(slide):
    reader = SuperResolvedWSIReader(1.5)
    wsi = reader.read(slide)
    assert reader.get_size(wsi, 0) == (153, 167)
    with Slide(slide) as source:
        expected = source.read_at((153, 167), Region(50, 60, 40, 30)).transpose(2, 0, 1)
    assert np.array_equal(reader.get_data(wsi, location=(50, 60), size=(40, 30))[0], expected)
    assert reader._network is None


def test_an_axis_may_shrink_while_the_other_grows(network, slide):
    reader = SuperResolvedWSIReader((2.0, 0.5), model=network)
    wsi = reader.read(slide)
    assert reader.get_size(wsi, 0) == (115, 500)
    with Slide(slide) as source:
        flat = (
            torch.from_numpy(source.read_at((115, 250), Region(0, 0, 115, 250)).transpose(2, 0, 1)).float()[None] / 255
        )
    expected = to_range(ArbitraryScaleInferer()(flat, network, scale=(115, 500))[0], torch.uint8).numpy()
    assert np.array_equal(reader.get_data(wsi)[0], expected)


def test_beyond_the_slide_is_background(reader, slide, whole):
    wsi = reader.read(slide)
    patch, _ = reader.get_data(wsi, location=(-10, 950), size=(40, 80), mode="RGBA")
    assert np.array_equal(patch[:3, 10:, :50], whole[:, :30, 950:])
    inside = np.zeros((40, 80), bool)
    inside[10:, :50] = True
    assert np.array_equal(patch[3], 255 * inside)
    assert (patch[:3, ~inside] == 255).all()
    outside, _ = reader.get_data(wsi, location=(-40, 20), size=(40, 8))
    assert outside.shape == (3, 40, 8)
    assert outside.min() == 255


def test_types_axes_and_devices_as_of_monai(network, slide, whole):
    expected = whole[:, 8:24, 8:40]
    box = {"location": (8, 8), "size": (16, 32)}
    last = SuperResolvedWSIReader(0.25, model=network, channel_dim=-1, dtype=np.float32)
    pixels, meta = last.get_data(last.read(slide), **box)
    assert pixels.dtype == np.float32
    assert meta["original_channel_dim"] == 2
    assert np.array_equal(pixels, np.moveaxis(expected, 0, -1))
    tensor = SuperResolvedWSIReader(0.25, model=network, dtype=torch.float32)
    pixels, _ = tensor.get_data(tensor.read(slide), **box)
    assert isinstance(pixels, torch.Tensor)
    assert torch.equal(pixels, torch.from_numpy(expected).float())


def test_a_landmark_lies_where_it_should(tmp_path):
    """A spot at a known place of the slide, by its center of mass in the patch, to a tenth of a pixel at 40x."""
    y, x = np.mgrid[:230, :250]
    spot = np.exp(-((y - 190.3) ** 2 + (x - 101.8) ** 2) / 12.5)  # in the zone where windows blend
    path = write_slide(tmp_path / "spot.tif", np.repeat((255 * spot).round().astype(np.uint8)[None], 3, 0), 0.93)
    reader = SuperResolvedWSIReader(0.25, model=Interpolation())
    wsi = reader.read(path)
    height, width = reader.get_size(wsi, 0)
    assert (height, width) == (856, 930)
    for location in ((650, 330), (662, 341)):
        patch, _ = reader.get_data(wsi, location=location, size=(128, 112))
        weight = patch[0].astype(float)
        where = [(weight.sum(1 - axis) * np.arange(weight.shape[axis])).sum() / weight.sum() for axis in (0, 1)]
        expected = [(190.3 + 0.5) * height / 230 - 0.5 - location[0], (101.8 + 0.5) * width / 250 - 0.5 - location[1]]
        assert np.abs(np.subtract(where, expected)).max() < 0.1


# --- windows are kept -------------------------------------------------------------------------------------------------


def test_neighboring_patches_share_windows(network, slide, whole):
    counting = Counting(network)
    reader = SuperResolvedWSIReader(0.25, model=counting)
    wsi = reader.read(slide)
    for left in range(0, 448, 64):
        patch, _ = reader.get_data(wsi, location=(64, left), size=(64, 64))
        assert np.array_equal(patch, whole[:, 64:128, left : left + 64])
    assert counting.calls == 1
    forgetful = SuperResolvedWSIReader(0.25, model=counting, cache_mb=0)
    for _ in range(2):
        patch, _ = forgetful.get_data(wsi, location=(64, 0), size=(64, 64))
        assert np.array_equal(patch, whole[:, 64:128, :64])
    assert counting.calls == 3


def test_the_oldest_windows_go_first(network, slide):
    """A window of 230 x 216 or 50 slide pixels: 8.3 and 1.9 MB at this scale."""
    counting = Counting(network)
    reader = SuperResolvedWSIReader(0.25, model=counting, cache_mb=9)
    wsi = reader.read(slide)
    left, right = {"location": (0, 0), "size": (8, 8)}, {"location": (0, 992), "size": (8, 8)}
    for box, calls in ((left, 1), (right, 2), (right, 2), (left, 3), (left, 3), (right, 4)):
        reader.get_data(wsi, **box)
        assert counting.calls == calls
        assert reader.cache.nbytes == sum(kept.nbytes for kept in reader.cache._values.values()) <= 9 * 2**20


def test_windows_of_different_slides_are_not_confused(tmp_path, network, slide, whole):
    other = write_slide(tmp_path / "other.tif", TISSUE[:, ::-1, :], 1.0)
    reader = SuperResolvedWSIReader(0.25, model=network)
    box = {"location": (100, 100), "size": (32, 32)}
    first, _ = reader.get_data(reader.read(slide), **box)
    second, _ = reader.get_data(reader.read(other), **box)
    assert np.array_equal(first, whole[:, 100:132, 100:132])
    assert not np.array_equal(first, second)
    write_slide(tmp_path / "other.tif", TISSUE, 1.0)
    again, _ = reader.get_data(reader.read(other), **box)
    assert np.array_equal(again, first)


def test_a_copy_of_the_reader_begins_without_windows(reader, slide):
    wsi = reader.read(slide)
    expected, _ = reader.get_data(wsi, location=(0, 0), size=(8, 8))
    assert reader.cache._values
    copied, wsi = pickle.loads(pickle.dumps((reader, wsi)))  # noqa: S301 - what a data loader does
    assert not copied.cache._values
    assert np.array_equal(copied.get_data(wsi, location=(0, 0), size=(8, 8))[0], expected)


# --- MONAI's datasets -------------------------------------------------------------------------------------------------


def test_a_patch_dataset_takes_the_class_with_its_settings(network, slide, whole):
    data = [{"image": slide, "location": (300, 400), "label": 1}]
    dataset = PatchWSIDataset(data, patch_size=64, reader=SuperResolvedWSIReader, mpp=0.25, model=network)
    image = dataset[0]["image"]
    assert np.array_equal(image, whole[:, 268:332, 368:432])
    assert image_mpp(image) == (0.25, 0.25)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_sliding_dataset_through_a_data_loader(network, slide, whole, workers):
    reader = SuperResolvedWSIReader(0.25, model=network, network_device="cpu")
    dataset = SlidingPatchWSIDataset([{"image": slide}], patch_size=256, overlap=0.5, reader=reader, mask_level=4)
    assert len(dataset) == 6 * 6
    if workers:
        dataset.data = dataset.data[6:9]
    seen = np.zeros((3, 920, 1000), bool)
    for batch in DataLoader(dataset, batch_size=3, num_workers=workers):
        assert batch["image"].meta["mpp_spacing"] is not None
        for image, (top, left) in zip(batch["image"], batch["image"].meta["location"], strict=True):
            assert np.array_equal(image, whole[:, top : top + 256, left : left + 256])
            seen[:, top : top + 256, left : left + 256] = True
    assert seen[:, 128:384, :512].all()


def test_a_masked_dataset_finds_tissue_on_a_coarse_level(tmp_path):
    """Purple on background: the mask is made at 16 times the pixel size, and its patches lie on the purple."""
    pixels = np.full((3, 230, 250), 240, np.uint8)
    pixels[:, 64:128, 96:160] = np.array([120, 60, 140], np.uint8)[:, None, None]
    path = write_slide(tmp_path / "spot.tif", pixels, 1.0, levels=2)
    reader = SuperResolvedWSIReader(0.25, model=Interpolation())
    dataset = MaskedPatchWSIDataset([{"image": path}], patch_size=32, mask_level=4, reader=reader)
    assert 15 * 15 <= len(dataset) <= 18 * 18
    assert reader._network is None
    centers = np.array([item["location"] for item in dataset.data]) + 16
    assert np.abs(centers.mean(0) - (4 * 96, 4 * 128)).max() < 4
    middle = int(np.abs(centers - centers.mean(0)).sum(1).argmin())
    image = dataset[middle]["image"].as_tensor()
    assert (image.float().mean((1, 2)) - torch.tensor([120.0, 60, 140])).abs().max() < 1


@pytest.mark.filterwarnings("ignore:WSIReader with monai_iste")  # MONAI knows two that are fast
def test_a_splitter_and_a_loader(network, slide, whole):
    splitter = WSISlidingWindowSplitter(patch_size=(460, 500), reader=SuperResolvedWSIReader, mpp=0.25, model=network)
    for patch, (top, left) in splitter(slide):
        assert np.array_equal(patch[0], whole[:, top : top + 460, left : left + 500])
    loaded = LoadImaged("image", reader=SuperResolvedWSIReader, mpp=0.25, model=network)({"image": slide})["image"]
    assert np.array_equal(loaded, whole)
    assert loaded.meta["filename_or_obj"] == slide


# --- a bundle ---------------------------------------------------------------------------------------------------------

BUNDLE = {
    "imports": ["$import monai_iste"],
    "slides": [],
    "reader": "openslide",
    "transform": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 255, "b_min": 1, "b_max": 0},
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "dataset": {
        "_target_": "SlidingPatchWSIDataset",
        "data": "@slides",
        "patch_size": [128, 128],
        "overlap": 0.5,
        "reader": "@reader",
        "transform": "@transform",
    },
    "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 8},
    "network": {
        "_target_": "Convolution",
        "spatial_dims": 2,
        "in_channels": 3,
        "out_channels": 1,
        "kernel_size": 25,
        "bias": False,
        "conv_only": True,
    },
}

#: What is added to run it on a slide at 10x.
ONE_LINE = {
    "reader": {
        "_target_": "monai_iste.slides.wsi_reader.SuperResolvedWSIReader",
        "mpp": 0.25,
        "model": "$@super_resolution",
    }
}


def detector(network):
    """Weights for nuclei of 6 pixels' sigma at 40x, without training: a spot minus its surroundings."""
    t = torch.arange(25.0) - 12
    spot = torch.exp(-(t[:, None] ** 2 + t**2) / (2 * 6**2))
    spot = spot - spot.mean()
    with torch.no_grad():
        network.conv.weight.copy_((spot / (3 * (spot * spot).sum())).expand(1, 3, 25, 25))
    return network.eval()


def detections(config, super_resolution):
    """The nuclei that a bundle finds, in pixels of the slide that it sees: maxima of the response above one half."""
    parser = ConfigParser({**config, "super_resolution": super_resolution})
    network = detector(parser.get_parsed_content("network"))
    found: dict[tuple[int, int], float] = {}
    for batch in parser.get_parsed_content("dataloader"):
        assert batch["image"].shape[1:] == (3, 128, 128)
        with torch.no_grad():
            response = network(batch["image"].as_tensor())[:, 0]
        peaks = (response == nn.functional.max_pool2d(response, 25, 1, 12)) & (response > 0.5)
        peaks[:, :32], peaks[:, 96:], peaks[:, :, :32], peaks[:, :, 96:] = False, False, False, False
        for index, row, column in peaks.nonzero().tolist():
            top, left = batch["image"].meta["location"][index].tolist()
            place, value = (top + row, left + column), float(response[index, row, column])
            assert found.setdefault(place, value) == pytest.approx(value)
    return found


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory):
    """The same four nuclei scanned at 40x and at 10x, and their places at 40x."""
    places = [(150.0, 140.0), (157.0, 420.0), (380.0, 260.0), (395.0, 390.0)]
    folder = tmp_path_factory.mktemp("nuclei")
    y, x = np.mgrid[:512, :640]
    stain = sum(np.exp(-((y - top) ** 2 + (x - left) ** 2) / (2 * 6**2)) for top, left in places)
    fine = np.repeat((255 * (1 - stain)).round().astype(np.uint8)[None], 3, 0)
    coarse = np.asarray(Image.fromarray(fine[0]).resize((160, 128), Image.Resampling.BOX))
    paths = [
        write_slide(folder / "40x.tif", fine, 0.25),
        write_slide(folder / "10x.tif", np.repeat(coarse[None], 3, 0), 1.0),
    ]
    return paths, places


def test_a_bundle_for_40x_runs_on_a_slide_at_10x_by_one_line(nuclei):
    """A pipeline made of MONAI's parts finds on the 10x slide what it finds at 40x, and without the line nothing."""
    (fine, coarse), places = nuclei
    expected = detections({**BUNDLE, "slides": [{"image": fine}]}, None)
    assert sorted(expected) == [(round(top), round(left)) for top, left in places]
    on_coarse = {**BUNDLE, "slides": [{"image": coarse}]}
    assert detections(on_coarse, None) == {}
    found = detections({**on_coarse, **ONE_LINE}, Interpolation())
    assert sorted(found) == sorted(expected)
    assert all(0.9 * expected[place] < value < 1.1 * expected[place] for place, value in found.items())


def test_the_same_bundle_with_a_network(nuclei, network):
    """Untrained, so that only the geometry counts: as many patches as at 40x, all of the size the bundle expects."""
    (_, coarse), _ = nuclei
    parser = ConfigParser(
        {**BUNDLE, **ONE_LINE, "slides": [{"image": coarse}], "super_resolution": network},
    )
    dataset = parser.get_parsed_content("dataset")
    assert len(dataset) == 7 * 9
    first, right = dataset[0]["image"], dataset[1]["image"]
    assert torch.equal(first[:, :, 64:], right[:, :, :64])


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_slide_that_does_not_state_its_pixel_size_is_refused(tmp_path, reader):
    path = write_slide(tmp_path / "silent.tif", TISSUE, None)
    with pytest.raises(DataError) as caught:
        reader.read(path)
    assert_teaches(caught.value, "silent.tif", "source_mpp")
    assert SuperResolvedWSIReader(0.25, source_mpp=0.5).read(path).levels[0] == (460, 500)
    with pytest.raises(DataError):
        reader.read(str(tmp_path / "missing.tif"))


def test_a_damaged_slide_is_read_again_after_it_was_repaired(tmp_path, network, whole):
    good = write_slide(tmp_path / "a.tif", TISSUE, 1.0)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(good) as tiff:
        start = tiff.pages[0].dataoffsets[0]
    kept, data[start : start + 40] = data[start : start + 40], bytes(40)
    (tmp_path / "a.tif").write_bytes(data)
    reader = SuperResolvedWSIReader(0.25, model=network)
    wsi = reader.read(good)
    with pytest.raises(DataError) as caught:
        reader.get_data(wsi, location=(0, 0), size=(8, 8))
    assert_teaches(caught.value, "a.tif")
    data[start : start + 40] = kept
    (tmp_path / "a.tif").write_bytes(data)
    assert np.array_equal(reader.get_data(wsi, location=(0, 0), size=(8, 8))[0], whole[:, :8, :8])


@pytest.mark.parametrize(
    "settings",
    [
        {"mpp": 40},
        {"mpp": 0.25, "source_mpp": -1},
        {"mpp": 0.25, "downsamples": (4, 16)},
        {"mpp": 0.25, "downsamples": (1, 4, 4)},
        {"mpp": 0.25, "downsamples": ()},
        {"mpp": 0.25, "modle": "iste_light"},
    ],
)
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(ConfigError) as caught:
        SuperResolvedWSIReader(**settings)
    assert_teaches(caught.value)


def test_a_patch_beyond_memory_is_refused(tmp_path):
    path = write_slide(tmp_path / "large.tif", np.full((3, 600, 600), 250, np.uint8), 1.0)
    reader = SuperResolvedWSIReader(0.02)
    with pytest.raises(ScaleError) as caught:
        reader.get_data(reader.read(path))
    assert_teaches(caught.value, "30000 x 30000")
