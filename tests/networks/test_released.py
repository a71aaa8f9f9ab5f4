"""Properties of every released network on real tissue, for any weights."""

from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.data import immunohistochemistry
from skimage.registration import phase_cross_correlation

import monai_iste
from benchmarks.robustness import pixel_steps
from monai_iste.functional import to_range, upscale
from monai_iste.inferers import ArbitraryScaleInferer, Region
from monai_iste.networks import PRESETS, Bicubic, released_weights
from monai_iste.transforms.random_degradation import degrade_with

TISSUE = immunohistochemistry()
# Sides whose products with the scales are whole, so that the scale of Bicubic is that of the inferer.
TILES = {"glands": TISSUE[96:256, 200:360], "stroma": TISSUE[300:460, 100:260]}
DETAIL = TISSUE[96:166, 200:270]
SCALES = [1.3, 2, 3.7, 8]
COLORS = {
    "eosin": (231, 149, 187),
    "hematoxylin": (86, 62, 132),
    "pale stroma": (238, 215, 228),
    "white": (255, 255, 255),
    "background": (244, 243, 246),
}


@pytest.fixture(scope="module", params=[name for name in PRESETS if released_weights(name)])
def network(request):
    return monai_iste.load(request.param)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@cache
def upscaled(network: torch.nn.Module, tile: str, scale: float) -> np.ndarray:
    """In fp32, on one thread."""
    return upscale(TILES[tile], scale, model=network)


def largest_difference(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second.astype(int)).max())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("color", COLORS)
def test_one_color_stays_that_color(network, color, scale):
    pixels = np.full((64, 64, 3), COLORS[color], np.uint8)
    assert largest_difference(upscale(pixels, scale, model=network), np.array(COLORS[color])) <= 2


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("tile", TILES)
def test_the_mean_color_stays(network, tile, scale):
    difference = upscaled(network, tile, scale).mean((0, 1)) - TILES[tile].mean((0, 1))
    assert np.abs(difference).max() <= 0.5


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("tile", TILES)
def test_nothing_is_displaced(network, tile, scale):
    """Phase correlation with bicubic, of what both have in common: the frequencies of the input, in its pixels."""
    size = TILES[tile].shape[:2]

    def common(image):
        return F.interpolate(image, size=size, mode="bicubic", antialias=True)[0].mean(0).numpy()

    source, result = (
        torch.from_numpy(a.copy()).permute(2, 0, 1)[None].float() for a in (TILES[tile], upscaled(network, tile, scale))
    )
    bicubic = common(Bicubic()(source, scale=scale))
    shift = phase_cross_correlation(bicubic, common(result), upsample_factor=500)[0]
    assert np.abs(shift).max() < 0.02
    moved = phase_cross_correlation(bicubic, common(result.roll(1, 3)), upsample_factor=500)[0]
    assert abs(moved[1] - shift[1]) > 0.6 / scale  # one output pixel would be seen


@pytest.mark.parametrize("scale", [2, 3.7, 8])
@pytest.mark.parametrize("tile", TILES)
def test_pixels_of_the_input_leave_no_grid(network, tile, scale):
    image = torch.from_numpy(upscaled(network, tile, scale)).permute(2, 0, 1).float()
    across, elsewhere = pixel_steps(image, TILES[tile].shape[:2])
    assert across < 1.1 * elsewhere


@pytest.mark.parametrize("scale", SCALES)
def test_threads_do_not_show(network, scale, threads):
    threads(1)
    expected = upscale(DETAIL, scale, model=network)
    threads(2)
    assert largest_difference(upscale(DETAIL, scale, model=network), expected) <= 1


@pytest.mark.parametrize("scale", [2, 4])
def test_better_than_bicubic_on_a_stain_that_was_not_learned_from(network, scale):
    """Diaminobenzidine instead of eosin."""
    truth = TISSUE[:256, :256].transpose(2, 0, 1)
    low = degrade_with(truth, (256 // scale, 256 // scale))[None] / 255
    results = [ArbitraryScaleInferer()(low, network, scale=scale), Bicubic()(low, scale=float(scale))]
    wrong = [(to_range(r[0], torch.uint8).double() - torch.from_numpy(truth))[:, 8:-8, 8:-8] for r in results]
    gain = 10 * torch.log10(wrong[1].square().mean() / wrong[0].square().mean())
    assert gain > 0.5  # dB


@pytest.mark.parametrize("scale", SCALES)
def test_half_precision_does_not_show(network, scale):
    rough = upscale(DETAIL, scale, model=network, precision="bf16")
    assert largest_difference(rough, upscale(DETAIL, scale, model=network)) <= 1


@pytest.mark.parametrize("scale", SCALES)
def test_every_request_gets_the_same_pixels(network, scale):
    image = torch.from_numpy(TISSUE[40:144, 60:108].transpose(2, 0, 1).copy())[None]  # two windows high
    inferer = ArbitraryScaleInferer()

    def pixels(images, region=None):
        return (inferer(images.float() / 255, network, scale=scale, region=region).clamp(0, 1) * 255).round().byte()

    whole = pixels(image)
    height, width = whole.shape[2:]
    batch = pixels(torch.cat([image.flip(3), image]))
    assert torch.equal(batch[1:], whole)
    for region in (
        Region(0, 0, height // 2, width),
        Region(height // 2 - 1, width // 3, height // 3, width // 2),
        Region(height - 1, width - 1, 1, 1),
    ):
        rows, columns = (slice(a, a + n) for a, n in zip(region[:2], region[2:], strict=True))
        assert torch.equal(pixels(image, region), whole[..., rows, columns])
