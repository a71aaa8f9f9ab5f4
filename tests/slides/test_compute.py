"""Windows of slides: the same pixels for every order, tiling and region; background is interpolated."""

import random

import numpy as np
import pytest
import torch
from slide_windows import PIXELS, finished

from monai_iste.functional import upscale
from monai_iste.inferers import Region
from monai_iste.networks.grid_sampling import bicubic_at
from monai_iste.slides.compute import compute_window, read_window
from monai_iste.slides.plan import plan_slide
from monai_iste.slides.tissue import TissueMask

pytest.importorskip("zarr")


@pytest.mark.parametrize("scale", [1, 2, 2.7])
def test_any_order_and_any_tiling_give_what_the_inferer_gives(slide, network, tmp_path, scale):
    expected = upscale(PIXELS, scale, model=network)
    plan = plan_slide(slide, network, scale=scale)
    windows = plan.windows
    random.Random(0).shuffle(windows)
    store = finished(plan, tmp_path / "work", slide, network, windows)
    height, width = plan.output
    np.testing.assert_array_equal(store.assemble(Region(0, 0, height, width)), expected)
    tile = 173
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            size = min(tile, height - top), min(tile, width - left)
            part = store.assemble(Region(top, left, *size))
            np.testing.assert_array_equal(part, expected[top : top + size[0], left : left + size[1]])


@pytest.mark.parametrize("region", [(10, 20, 100, 90), (100, 150, 120, 200)])
def test_a_region_has_the_pixels_of_the_whole(slide, network, tmp_path, region):
    plan = plan_slide(slide, network, scale=1.7, region=Region(*region))
    top, left, height, width = plan.region
    expected = upscale(PIXELS, 1.7, model=network)[top : top + height, left : left + width]
    store = finished(plan, tmp_path / "work", slide, network)
    np.testing.assert_array_equal(store.assemble(plan.region), expected)


def test_background_is_interpolated_and_tissue_is_not(slide, network, tmp_path):
    """Literal reference: the weight of every pixel blends two whole images."""
    samples = np.zeros((1, 5), np.uint8)
    samples[0, :2] = 255
    mask = TissueMask(samples, slide.size)
    plan = plan_slide(slide, network, scale=2, tissue_only=True)
    store = finished(plan, tmp_path / "work", slide, network, mask=mask)
    found = store.assemble(plan.region).astype(float)
    y, x = (torch.arange(2 * n, dtype=torch.float64) / 2 - 0.25 for n in slide.size)
    weight = mask.weight(y, x).numpy()[..., None]
    upscaled = upscale(PIXELS, 2, model=network).astype(float)
    grid = torch.stack(torch.meshgrid((2 * y + 1) / 240 - 1, (2 * x + 1) / 430 - 1, indexing="ij"), -1).view(1, -1, 2)
    image = torch.from_numpy(PIXELS).permute(2, 0, 1)[None].double()
    plain = bicubic_at(image, grid).view(480, 860, 3).clamp(0, 255).numpy()
    assert (weight == 1).any()
    assert (weight == 0).any()
    assert ((weight > 0) & (weight < 1)).any()
    assert np.abs(found - (weight * upscaled + (1 - weight) * plain)).max() < 1.01
    assert np.abs(upscaled - plain).max() > 5  # the two differ: the comparison says something


def test_the_network_does_not_compute_windows_without_tissue(slide, tmp_path):
    class Refuses(torch.nn.Module):
        def forward(self, image, coord, cell):
            raise AssertionError("asked")

    plan = plan_slide(slide, Refuses(), scale=2, tissue_only=True)
    window = plan.windows[0]
    mask = TissueMask(np.zeros((2, 2), np.uint8), slide.size)
    share = compute_window(plan, Refuses(), read_window(slide, window), mask, window)
    assert share.shape == (3, window.row.stop - window.row.start, window.column.stop - window.column.start)
    with pytest.raises(AssertionError, match="asked"):
        compute_window(plan, Refuses(), read_window(slide, window), None, window)
