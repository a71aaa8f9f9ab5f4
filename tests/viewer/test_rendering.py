"""The viewer's pixels: those of the whole upscaled slide for every region, within the memory limit."""

import io
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from reference import assert_teaches, randomise
from slide_files import picture

from monai_iste.coordinates import pixel_centers
from monai_iste.errors import ConfigError
from monai_iste.inferers import ArbitraryScaleInferer, Region
from monai_iste.networks import ISTE, EDSREncoder
from monai_iste.networks.caching import CachingEncoder
from monai_iste.networks.grid_sampling import bicubic_at
from monai_iste.slides import Slide
from monai_iste.slides.consistency import consistency_maps
from monai_iste.viewer import rendering
from monai_iste.viewer.catalog import CatalogImage
from monai_iste.viewer.encoding import encode_overlay
from monai_iste.viewer.rendering import CONSISTENCY_BLOCK, Renderer
from monai_iste.viewer.viewport import Viewport
from monai_iste.viewer.workers import Cancelled, Task

PIXELS = picture(150, 190)
INFERER = ArbitraryScaleInferer(window=48, overlap=16, halo=8)


@pytest.fixture(scope="module")
def network():
    return randomise(ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8, bicubic_residual=True)).eval()


@pytest.fixture
def image(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return CatalogImage("a", tmp_path / "a.png")


@pytest.fixture
def renderer(network, monkeypatch):
    monkeypatch.setattr(rendering, "_BLOCK", 32)
    return Renderer(lambda: network, tiler=INFERER)


def whole(network, size):
    """All of the slide, upscaled as ``monai-iste upscale`` does it: (H, W, 3) uint8."""
    lr = torch.from_numpy(PIXELS).permute(2, 0, 1).unsqueeze(0).float() / 255
    result = INFERER(lr, network, scale=size)[0]
    return result.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()


# --- upscaled pixels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(506, 640), (300, 571), (150, 400)])
def test_every_view_is_cut_out_of_the_whole_upscaled_slide(network, image, renderer, size):
    expected = whole(network, size)
    for box in [(0, 0, 50, 60), (97, 111, 53, 81), (90, 100, 60, 300), (size[0] - 40, size[1] - 33, 40, 33)]:
        found = renderer.render(image, Viewport(size, *box), "sr")
        np.testing.assert_array_equal(found, expected[box[0] : box[0] + box[2], box[1] : box[1] + box[3]])
    np.testing.assert_array_equal(renderer.render(image, Viewport(size, 0, 0, *size), "sr"), expected)


def test_cached_features_change_nothing(image, renderer):
    torch.manual_seed(3)
    net = ISTE(EDSREncoder(8, 1), texture_channels=8, hidden_channels=8).eval()
    expected = whole(net, (506, 640))
    calls = []
    net.encoder.register_forward_hook(lambda *_: calls.append(1))
    net.encoder = CachingEncoder(net.encoder, 10**8)
    caching = Renderer(lambda: net, tiler=INFERER)
    for viewport in (Viewport((506, 640), 100, 120, 60, 60), Viewport((506, 640), 0, 0, 506, 640)):
        found = caching.render(image, viewport, "sr")
        y, x = slice(viewport.top, viewport.top + viewport.height), slice(viewport.left, viewport.left + viewport.width)
        np.testing.assert_array_equal(found, expected[y, x])
    windows = len(INFERER.axis_windows(150, 506)) * len(INFERER.axis_windows(190, 640))
    assert len(calls) == windows  # each once, although two views and several boxes needed them
    caching.render(image, Viewport((700, 900), 0, 0, 700, 900), "sr")
    assert len(calls) == windows  # another scale decodes the same features
    assert caching.cache.nbytes > 3 * (506 * 640 + 700 * 900)  # features are counted beside all pixels


def test_bicubic_is_that_of_the_whole_slide(image, renderer):
    size = (506, 640)
    lr = torch.from_numpy(PIXELS).permute(2, 0, 1).unsqueeze(0).float() / 255
    exact = bicubic_at(lr, pixel_centers(size).unsqueeze(0)).reshape(*size, 3).clamp(0, 1) * 255
    found = renderer.render(image, Viewport(size, 37, 200, 311, 297), "bicubic")
    assert np.abs(found - exact.numpy()[37:348, 200:497]).max() <= 0.51


def test_native_pixels_are_squares(image, renderer):
    found = renderer.render(image, Viewport((300, 380), 41, 20, 50, 60), "native")
    rows, columns = (41 + np.arange(50)) // 2, (20 + np.arange(60)) // 2
    np.testing.assert_array_equal(found, PIXELS[rows[:, None], columns])


@pytest.mark.parametrize("method", ["sr", "bicubic", "native"])
def test_below_native_resolution_the_slide_is_resampled(image, renderer, method):
    renderer._load_network = None  # no network is needed for it
    np.testing.assert_array_equal(
        renderer.render(image, Viewport((150, 190), 10, 20, 30, 40), method), PIXELS[10:40, 20:60]
    )
    with Slide(image.path) as slide:
        expected = slide.read_at((75, 95), Region(5, 6, 30, 40))
    np.testing.assert_array_equal(renderer.render(image, Viewport((75, 95), 5, 6, 30, 40), method), expected)


@pytest.mark.parametrize("size", [(506, 640), (75, 95)])
def test_beside_the_slide_it_is_white(image, renderer, size):
    viewport = Viewport(size, -7, size[1] - 20, 40, 50)
    found = renderer.render(image, viewport, "sr")
    assert (found[:7] == 255).all()
    assert (found[:, 20:] == 255).all()
    inner = renderer.render(image, Viewport(size, 0, size[1] - 20, 33, 20), "sr")
    np.testing.assert_array_equal(found[7:, :20], inner)
    assert (renderer.render(image, Viewport(size, 0, -90, 40, 50), "sr") == 255).all()


def test_a_small_pan_computes_little(network, image, renderer):
    decoded = []
    window_output = INFERER.window_output
    renderer.tiler = ArbitraryScaleInferer(48, 16, 8)
    renderer.tiler.window_output = lambda read, net, row, column, cell: (
        decoded.append(len(row.coord) * len(column.coord)) or window_output(read, net, row, column, cell)
    )
    renderer.render(image, Viewport((1500, 1900), 500, 500, 256, 256), "sr")
    first, decoded[:] = sum(decoded), []
    renderer.render(image, Viewport((1500, 1900), 500, 500, 256, 256), "sr")
    assert decoded == []
    renderer.render(image, Viewport((1500, 1900), 510, 520, 256, 256), "sr")
    assert 0 < sum(decoded) < first / 2


def test_pieces_are_bounded_and_work_stops_between_them(image, renderer, monkeypatch):
    monkeypatch.setattr(rendering, "_MAX_PIECE_PIXELS", 32 * 32 * 4)
    sizes = []
    compute = INFERER.region
    renderer.tiler = ArbitraryScaleInferer(48, 16, 8)
    renderer.tiler.region = lambda read, size, net, output, region, between: (
        sizes.append(region.height * region.width) or compute(read, size, net, output, region, between)
    )
    task, calls = Task(), []

    def check():
        calls.append(1)
        if len(calls) == 7:
            task.cancel()
        task.check()

    with pytest.raises(Cancelled):
        renderer.render(image, Viewport((506, 640), 0, 0, 506, 128), "sr", check)
    assert len(calls) == 7
    assert max(sizes) <= 32 * 32 * 4
    kept = renderer.cache.nbytes
    assert 0 < kept < 506 * 128 * 3  # what was done before is not lost
    renderer.render(image, Viewport((506, 640), 0, 0, 506, 128), "sr")
    assert renderer.cache.nbytes == 506 * 128 * 3


def test_memory_of_a_renderer_is_bounded(network, image, monkeypatch):
    monkeypatch.setattr(rendering, "_BLOCK", 32)
    small = Renderer(lambda: network, cache_bytes=40_000, tiler=INFERER)
    found = small.render(image, Viewport((506, 640), 0, 0, 200, 200), "sr")  # 120,000 bytes
    assert small.cache.nbytes <= 40_000
    np.testing.assert_array_equal(found, whole(network, (506, 640))[:200, :200])


def test_boxes_are_the_missing_squares():
    generator = np.random.default_rng(0)
    for _ in range(20):
        keys = {(int(y), int(x)) for y, x in np.argwhere(generator.random((9, 11)) < 0.6)}
        boxes = list(rendering._merge_blocks(keys))
        covered = [
            (y, x) for b in boxes for y in range(b.top, b.top + b.height) for x in range(b.left, b.left + b.width)
        ]
        assert sorted(covered) == sorted(keys)
    assert list(rendering._merge_blocks({(y, x) for y in range(3) for x in range(4)})) == [Region(0, 0, 3, 4)]
    tall = list(rendering._merge_blocks({(y, 0) for y in range(100)}))
    assert all(first.top + first.height == second.top for first, second in pairwise(tall))


def test_no_such_method(image, renderer):
    with pytest.raises(ConfigError) as caught:
        renderer.render(image, Viewport((9, 9), 0, 0, 9, 9), "magic")
    assert_teaches(caught.value, "bicubic")


# --- consistency ------------------------------------------------------------------------------------------------------


def test_the_map_of_a_view_is_cut_out_of_the_map_of_the_slide(network, image, renderer):
    size = (506, 640)
    output = whole(network, size)
    bicubic = renderer.upscale_region(image, size, Region(0, 0, *size), "bicubic")
    expected = consistency_maps(
        lambda region: PIXELS[region.slices],
        lambda region: output[region.slices],
        PIXELS.shape[:2],
        size,
        CONSISTENCY_BLOCK,
        read_bicubic=lambda region: bicubic[region.slices],
    )
    for box in [(0, 0, 506, 640), (0, 0, 90, 100), (171, 211, 120, 99), (400, 500, 106, 140), (-20, 30, 60, 60)]:
        viewport = Viewport(size, *box)
        maps, (y, x) = renderer.consistency(image, viewport)
        levels = maps.excess
        assert (y % CONSISTENCY_BLOCK, x % CONSISTENCY_BLOCK) == (0, 0)
        rows, columns = y // CONSISTENCY_BLOCK, x // CONSISTENCY_BLOCK
        place = (slice(rows, rows + levels.shape[0]), slice(columns, columns + levels.shape[1]))
        np.testing.assert_allclose(maps.network, expected.network[place], atol=1e-4)
        np.testing.assert_allclose(maps.bicubic, expected.bicubic[place], atol=1e-4)
        left, top, w, h = viewport.extent(image.size)
        assert y <= max(0, top)
        assert y + levels.shape[0] * CONSISTENCY_BLOCK >= min(top + h, 150) - 1e-6
        assert x + levels.shape[1] * CONSISTENCY_BLOCK >= min(left + w, 190) - 1e-6


def test_no_map_where_nothing_is_inferred(image, renderer):
    for viewport in (Viewport((150, 190), 0, 0, 20, 20), Viewport((506, 640), 600, 0, 20, 20)):
        maps, origin = renderer.consistency(image, viewport)
        levels = maps.excess
        assert levels.size == 0
        overlay = Image.open(io.BytesIO(encode_overlay(levels, origin, CONSISTENCY_BLOCK, viewport, image.size)))
        assert overlay.mode == "RGBA"
        assert overlay.size == (20, 20)
        assert not np.asarray(overlay)[..., 3].any()
