"""The tiled inferer: exact sizes, the same pixels for every request, no seams, flat memory."""

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from monai_iste.coordinates import output_size
from monai_iste.errors import ConfigError, ScaleError, ShapeError
from monai_iste.inferers import ArbitraryScaleInferer, Region, Tiler
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.networks.grid_sampling import bicubic_at
from monai_iste.slides.compute import Interpolation

SMALL = {"window": 16, "overlap": 8, "halo": 12}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ISTE(EDSREncoder(8, 2), texture_channels=16, hidden_channels=16, bicubic_residual=True).eval()


def smooth_image(h: int, w: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.arange(h) / 9, torch.arange(w) / 7, indexing="ij")
    return 0.5 + 0.4 * torch.stack([torch.sin(y + x), torch.sin(y - 2 * x), torch.cos(2 * y)])[None]


@pytest.mark.parametrize("scale", [1, 1.3, 1.7, 2, 2.5, 3.3, 3.7, 4, 6.13])
def test_tiled_equals_whole_where_only_the_position_counts(scale):
    """Sizes are exact, and no pixel is displaced, at any scale."""
    image = smooth_image(70, 53)
    tiled = ArbitraryScaleInferer(**SMALL)(image, Interpolation(), scale=scale)
    assert tiled.shape[2:] == output_size((70, 53), scale)
    rows, columns = tiled.shape[2:]
    grid = torch.meshgrid(
        (torch.arange(rows).double() * 2 + 1) / rows - 1,
        (torch.arange(columns).double() * 2 + 1) / columns - 1,
        indexing="ij",
    )
    whole = bicubic_at(image.double(), torch.stack(grid, -1).reshape(1, -1, 2)).mT.reshape(1, 3, rows, columns)
    assert (tiled - whole).abs().max() < 2e-5


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (24, 25), (33, 80), (57, 41)])
@pytest.mark.parametrize("scale", [1.3, 2, 3.7])
def test_windows_share_every_pixel_out(size, scale):
    inferer = ArbitraryScaleInferer(**SMALL)
    rows = output_size(size, scale)[0]
    total = torch.zeros(rows, dtype=torch.float64)
    for span in inferer.axis_windows(size[0], rows, 0, rows):
        total[span.start : span.stop] += span.weight
        assert span.first % 8 == 0
        assert 0 <= span.first < span.last <= size[0]
        assert span.coord.abs().max() < 1
    assert torch.allclose(total, torch.ones_like(total), atol=1e-12)


@pytest.mark.parametrize("scale", [1.3, 3.7])
def test_every_request_gets_the_same_pixels(network, scale):
    image = torch.rand(1, 3, 61, 50, generator=torch.Generator().manual_seed(1))
    inferer = ArbitraryScaleInferer(**SMALL)
    whole = inferer(image, network, scale=scale)
    h, w = whole.shape[2:]
    for region in [(0, 0, 1, 1), (h // 3, w // 4, 17, 13), (h - 5, w - 9, 5, 9), (20, 0, 30, w), (0, 11, h, 8)]:
        top, left, height, width = region
        part = inferer(image, network, scale=scale, region=Region(*region))
        assert torch.equal(part, whole[:, :, top : top + height, left : left + width])
    again = inferer(torch.cat([image.flip(3), image]), network, scale=scale)
    assert torch.equal(again[1:], whole)


def test_what_monai_loads_is_welcome(network):
    image = torch.rand(1, 3, 20, 30)
    inferer = ArbitraryScaleInferer(**SMALL)
    assert torch.equal(inferer(MetaTensor(image), network, scale=1.7), inferer(image, network, scale=1.7))


def test_no_seams(network):
    """Neighboring windows see different surroundings; their blend leaves no step at a border."""
    image = smooth_image(96, 96)
    tiled = ArbitraryScaleInferer(window=32, overlap=16, halo=8)(image, network, scale=2)
    with torch.no_grad():
        whole = network(image, scale=2)
    steps = (tiled - whole)[0].diff(dim=2).abs().amax((0, 1)) * 255
    assert steps.max() < 0.5
    assert (tiled - whole).abs().mean() * 255 < 0.1


def test_a_constant_image_stays_constant():
    torch.manual_seed(0)
    network = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True).eval()
    for decoder in (network.local_pixel_decoder, network.local_texture_decoder):
        nn.init.zeros_(decoder.mlp[-1].weight)
        nn.init.zeros_(decoder.mlp[-1].bias)
    image = torch.tensor([0.9, 0.6, 0.8]).view(1, 3, 1, 1).expand(1, 3, 50, 40)
    tiled = ArbitraryScaleInferer(**SMALL)(image, network, scale=2.5)
    assert torch.allclose(tiled, image[:, :, :1, :1].expand_as(tiled), atol=1e-5)


def test_bands_are_read_and_written_piece_by_piece(network):
    """Only windows are read, only bands are held: memory does not grow with the height."""
    image = torch.rand(1, 3, 200, 30)
    reads = []

    def read(part):
        reads.append((part.height, part.width))
        return image[0].permute(1, 2, 0)[part.slices]

    inferer = ArbitraryScaleInferer(**SMALL)
    bands = list(inferer.bands(read, (200, 30), network, 2.0))
    assert max(h for h, _ in reads) <= 16 + 8 + 2 * 16
    assert max(band.shape[1] for band in bands) <= 2 * (16 + 8 + 8)
    assert torch.equal(torch.cat(bands, dim=1), inferer(image, network, scale=2.0)[0])


def test_a_region_is_computed_window_by_window(network):
    """Only the part of a window inside the region is decoded; between two windows the work can be cancelled."""
    image = torch.rand(1, 3, 61, 50)
    inferer, seen = ArbitraryScaleInferer(**SMALL), []
    whole = inferer(image, network, scale=(150, 120))[0]
    read = lambda part: image[0].permute(1, 2, 0)[part.slices]  # noqa: E731
    region = Region(37, 22, 61, 49)
    found = inferer.region(read, (61, 50), network, (150, 120), region, lambda: seen.append(1))
    rows, columns = inferer.axis_windows(61, 150, 37, 98), inferer.axis_windows(50, 120, 22, 71)
    assert len(seen) == len(rows) * len(columns) > 4
    assert torch.equal(found, whole[:, 37:98, 22:71])

    def cancel():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inferer.region(read, (61, 50), network, (150, 120), region, cancel)
    with pytest.raises(ShapeError, match="inside 150 x 120 pixels"):
        inferer.region(read, (61, 50), network, (150, 120), Region(90, 0, 61, 49))


def test_levels_are_read_as_what_they_mean(network):
    """8-bit levels and numbers in [0, 1], arrays and tensors, whatever their precision."""
    levels = torch.randint(0, 256, (40, 30, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    results = [
        torch.cat(list(Tiler(**SMALL).bands(lambda part, p=pixels: p[part.slices], (40, 30), network, 1.5)), dim=1)
        for pixels in (levels, levels.numpy(), levels / 255, levels.double() / 255)
    ]
    for result in results[1:3]:
        assert torch.equal(result, results[0])
    assert torch.allclose(results[3], results[0], atol=1e-5)


@pytest.mark.parametrize("sizes", [(12, 8, 12), (16, 8, 8), (16, 7, 12), (16, 0, 8), (8, 16, 8), (8, 2, -1)])
def test_sizes_that_leave_the_lattice_are_refused(sizes):
    with pytest.raises(ConfigError, match="in multiples of 8"):
        ArbitraryScaleInferer(*sizes)


def test_bad_requests(network):
    inferer, image = ArbitraryScaleInferer(**SMALL), torch.rand(1, 3, 20, 20)
    for wrong in (image[0], image[:0], image[:, :, :0], image[:, :1]):
        with pytest.raises(ShapeError, match="Add the batch axis"):
            inferer(wrong, network, scale=2)
    with pytest.raises(ShapeError, match="Divide 8-bit levels by 255"):
        inferer(image.byte(), network, scale=2)
    for region in [(-1, 0, 2, 2), (0, 0, 41, 2), (0, 0, 0, 2), (39, 0, 2, 2)]:
        with pytest.raises(ShapeError, match="inside 40 x 40 pixels"):
            inferer(image, network, scale=2, region=Region(*region))
    for region in [(0, 0, 2), (0, 0, 2, 2, 2), (0.0, 0, 2, 2), "abc"]:
        with pytest.raises(ShapeError, match="four whole numbers"):
            inferer(image, network, scale=2, region=region)
    for scale in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ScaleError):
            inferer(image, network, scale=scale)
